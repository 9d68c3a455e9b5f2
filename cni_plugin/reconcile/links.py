"""Names and aliases of the host's links, from one dump, for who only lists.

A link has some forty attributes and two are wanted, so the walk ends at the second: thousands of
links are read in a quarter of the time that whole ones take.
"""

from __future__ import annotations

from cni_plugin.kernel import rtnl
from cni_plugin.kernel.netlink import ATTR, NLA_TYPE_MASK, string, u32
from cni_plugin.kernel.places import Places

IFLA_IFNAME, IFLA_IFALIAS, IFLA_EXT_MASK = 3, 20, 29  # linux/if_link.h
SKIP_STATS = 8  # RTEXT_FILTER_SKIP_STATS, linux/rtnetlink.h


def read_links() -> dict[str, str]:
    """Name to alias of every link. Raises KernelError."""
    places = Places()
    try:
        whole = rtnl.dump_links()
        asked = whole._replace(body=whole.body + u32(IFLA_EXT_MASK, SKIP_STATS))
        return dict(name_and_alias(received.body) for received in places.host.dump(asked))
    finally:
        places.close()


def name_and_alias(body: bytes) -> tuple[str, str]:
    """Of an RTM_NEWLINK message without its header; empty for what it does not have."""
    offset, end = rtnl.IFINFO.size, len(body)
    name = alias = b""
    unpack = ATTR.unpack_from
    while offset + 4 <= end and not (name and alias):
        size, kind = unpack(body, offset)
        if size < 4 or offset + size > end:
            break
        if kind & NLA_TYPE_MASK == IFLA_IFNAME:
            name = body[offset + 4 : offset + size]
        elif kind & NLA_TYPE_MASK == IFLA_IFALIAS:
            alias = body[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return string(name), string(alias)
