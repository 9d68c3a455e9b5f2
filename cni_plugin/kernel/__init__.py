"""The only place that touches the kernel: namespaces, netlink, sysctl, nftables, iptables."""
