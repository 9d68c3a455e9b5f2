"""Where something is served or sent to: HOST:PORT and URLs, checked without asking anybody."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple
from urllib.parse import urlsplit

NAME_MAX = 253  # characters, RFC 1123 section 2.1 and RFC 1035 section 2.3.4
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII | re.IGNORECASE)


class HostPort(NamedTuple):
    """host: a name or an address, without brackets."""

    host: str
    port: int


def host_port(place: str) -> HostPort | None:
    """HOST:PORT or [ADDRESS]:PORT; None for anything else."""
    host, _colon, port = place.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    fits = _is_address(IPv6Address, bare) if bracketed else is_host(bare)
    if not fits or not (port.isascii() and port.isdecimal()) or not 0 < int(port[:6]) < 1 << 16:
        return None
    return HostPort(bare, int(port))


def is_host(text: str) -> bool:
    """Whether it is an IPv4 address, or may be a host's name."""
    if not text.strip("0123456789."):
        return _is_address(IPv4Address, text)
    labels = text.removesuffix(".").split(".")
    return len(text) <= NAME_MAX and all(_LABEL.fullmatch(label) for label in labels)


def _is_address(kind: type[IPv4Address | IPv6Address], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def endpoint_fault(url: str) -> str:
    """What would be accepted instead of an HTTP URL that is none; "" for one that is."""
    try:
        parts = urlsplit(url)
        port = parts.port  # raises for what is no number up to 65535
        host = parts.hostname or ""
    except ValueError:
        return "a URL with a host and a port from 1 to 65535"
    if parts.scheme not in ("http", "https") or not (url.isascii() and url.isprintable()):
        return "a URL that begins with http:// or https://"
    if port == 0 or not (is_host(host) or _is_address(IPv6Address, host)) or " " in url:
        return "a URL with a host and a port from 1 to 65535"
    return ""
