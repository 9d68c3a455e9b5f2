"""Names that follow from what they stand for, so that they are the same after any restart."""

from __future__ import annotations

from _blake2 import blake2b  # hashlib loads OpenSSL: 6 ms of a cold start for the same function
from base64 import b32encode
from functools import lru_cache

HOST_LINK_PREFIX = "pw"  # 2 + 13 characters: IFNAMSIZ - 1
TUNNEL_PREFIX = "podwire"  # of the links to other nodes; no host_link begins with it
TUNNEL_DIGEST_BYTES = 3  # "podwire4-" and 5 characters: 14 of IFNAMSIZ - 1
ALIAS_MAX = 254  # characters: IFALIASZ less the NULs of kernel and message, linux/if.h
LOCALLY_ADMINISTERED_UNICAST = 0x02
IFB_ALIAS = "podwire-ifb"
IFB_PREFIX = {"egress": "pe", "ingress": "pi"}  # the rest is the host link's
RECENT = 64  # a call asks for its few names again and again


def digest(*parts: str, size: int = 8) -> str:
    """size bytes of BLAKE2b over the parts (NUL between them), as lower-case base 32."""
    raw = blake2b("\0".join(parts).encode(), digest_size=size).digest()
    return b32encode(raw).decode().rstrip("=").lower()


@lru_cache(RECENT)
def host_link(network: str, container_id: str, ifname: str) -> str:
    """The host end's name: 64 bits over network, container id and ifname, so two networks never
    clash and DEL finds it without a netns, a result or a record."""
    return HOST_LINK_PREFIX + digest(network, container_id, ifname)


@lru_cache(RECENT)
def mac_address(*parts: str) -> str:
    """A unicast, locally administered MAC that follows from the parts. Setting it when the link is
    made also keeps udev from rewriting it (addr_assign_type NET_ADDR_SET)."""
    raw = bytearray(blake2b("\0".join(parts).encode(), digest_size=6).digest())
    raw[0] = raw[0] & 0xFC | LOCALLY_ADMINISTERED_UNICAST
    return raw.hex(":")


def alias(network: str, container_id: str, ifname: str) -> str:
    """The mark on the host's end of an attachment's link. Where it would be too long for one, a
    digest stands for it; such a link is found by its name, and by GC through its record."""
    return _marked("podwire", network, container_id, ifname)


def ifb(direction: str, host_link: str) -> str:
    """The link in which an attachment's packets of one direction queue, from the pod (egress) or
    to it (ingress)."""
    return IFB_PREFIX[direction] + host_link.removeprefix(HOST_LINK_PREFIX)


def ifb_alias(network: str, container_id: str, ifname: str) -> str:
    """The mark on an attachment's ifb links: another than the pair's, because it may outlive the
    pair and so tells nothing about life."""
    return _marked(IFB_ALIAS, network, container_id, ifname)


def is_bridge_mark(alias: str) -> bool:
    """Whether a bridge's alias is one that podwire gives (attach.bridge), and not one of somebody
    else's that begins so."""
    mark, *network = alias.split(" ")
    return mark == "podwire" and len(network) == 1 and network[0] != ""


def tunnel_name(version: int, vni: int, port: int) -> str:
    """Of the link to other nodes over an IP version. Another VNI or port is another link, because
    the kernel cannot change them: then the new one is there before the old one goes. And a link
    whose name does not follow from what it is, is somebody else's."""
    name = digest(str(vni), str(port), size=TUNNEL_DIGEST_BYTES)
    return f"{TUNNEL_PREFIX}{version}-{name}"


def _marked(mark: str, *who: str) -> str:
    whole = " ".join((mark, *who))
    return whole if len(whole) <= ALIAS_MAX else f"{mark}-long {digest(*who)}"
