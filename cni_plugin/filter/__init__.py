"""The nftables rules podwire wants, as values: one table `podwire` in two families.

inet for masquerade and for guarding routed pods, bridge for guarding bridge ports (ARP and
frames between two ports never reach the inet hooks). Everything a pod adds is an element.
"""
