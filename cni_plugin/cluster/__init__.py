"""Pods on different nodes: what a node wants of its peers, and who says which peers there are."""
