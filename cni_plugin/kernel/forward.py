"""Whether iptables may drop what pods forward, found out without starting a program.

One netlink question and one file a family: this is asked at every ADD, and almost always the
answer is that there is nothing to do.
"""

from __future__ import annotations

from cni_plugin.kernel import nft
from cni_plugin.kernel.host import Host
from cni_plugin.kernel.netlink import Socket
from cni_plugin.kernel.sysctl import read_file

PROGRAM = {4: "iptables", 6: "ip6tables"}
NFT_FAMILY = {4: "ip", 6: "ip6"}
LEGACY_TABLES = {4: "/proc/net/ip_tables_names", 6: "/proc/net/ip6_tables_names"}


def nft_forward_policy(filter_socket: Socket | None, version: int) -> str | None:
    """The policy of iptables-nft's FORWARD chain, accept or drop; None when there is none."""
    return nft.forward_policy(filter_socket, NFT_FAMILY[version])


def nft_forward_drops(filter_socket: Socket | None, version: int) -> bool:
    """Whether iptables-nft's FORWARD chain has the policy DROP."""
    return nft_forward_policy(filter_socket, version) == "drop"


def _legacy_tables(version: int) -> str:
    try:
        return read_file(LEGACY_TABLES[version])
    except OSError:  # no legacy tables in this kernel, or not ours to read
        return ""


def legacy_filter_loaded(version: int) -> bool:
    """Whether this namespace has a legacy `filter` table; its policy only iptables-legacy tells."""
    return "filter" in _legacy_tables(version).split()


def may_drop(host: Host, version: int) -> bool:
    """False: certainly not, or not for more than a second. True: kernel.iptables finds out which
    flavour does."""
    if host.forward_policy(NFT_FAMILY[version]) == "drop":
        return True
    path = LEGACY_TABLES[version]
    return "filter" in (host.recent(path, lambda: _legacy_tables(version)) or "").split()
