"""How full each range set of this node is: for `podwire ipam stats` and the agent's metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cni_plugin.cni.decode import decode_object
from cni_plugin.cni.errors import CNIError
from ipam.allocate import cooling, set_text
from ipam.files import RELEASED, Folder
from ipam.listing import Listing, all_listings, read_listing
from ipam.logs import parse_released
from ipam.node import boot_clock_s
from ipam.ranges import find_range, pool
from ipam.reserve import usage
from ipam.values import IPAddress, IpamConf

NET_D = "/etc/cni/net.d"  # where runtimes look by default
SUFFIXES = (".conflist", ".conf", ".json")  # as libcni
METRICS = {
    "size": "Addresses of the range set that pods can get.",
    "used": "Addresses held.",
    "cooling": "Addresses released a moment ago, given again last.",
    "free": "Addresses neither held nor cooling.",
}

Complain = Callable[[str, str], None]  # what is wrong, and the remedy


class Configured(NamedTuple):
    """One network whose addresses podwire's allocator (or host-local) gives."""

    network: str
    ipam: IpamConf
    file: str


class Stat(NamedTuple):
    """One range set. total None: no config says how large it is."""

    network: str
    set: str
    ranges: str
    total: int | None
    used: int
    cooling: int = 0

    @property
    def free(self) -> int | None:
        return None if self.total is None else self.total - self.used - self.cooling

    @property
    def level(self) -> float:
        return self.used / self.total if self.total else 0.0


def config_files(given: Iterable[str] | None) -> list[Path]:
    """The files given, otherwise those of /etc/cni/net.d; none when that is not there."""
    if given:
        return [Path(name) for name in given]
    folder = Path(NET_D)
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)


def configured(files: Iterable[Path], complain: Complain) -> list[Configured]:
    """The networks of the files. A file that cannot be read is complained about and passed over:
    a directory may hold other plugins' lists."""
    found: list[Configured] = []
    for path in files:
        try:
            document = decode_object(path.read_bytes(), "the file")
        except (OSError, CNIError) as error:
            complain(f"{path}: {error}", "it is left out; `podwire validate` tells more")
            continue
        found += _networks(document, str(path), complain)
    return found


def _networks(document: dict[str, object], file: str, complain: Complain) -> Iterator[Configured]:
    from cni_plugin.cni.conf_ipam import review_ipam

    plugins = document.get("plugins", [document])
    for plugin in plugins if isinstance(plugins, list) else []:
        if not isinstance(plugin, dict):
            continue
        review = review_ipam(plugin)
        for problem in review.problems:
            complain(f"{file}: {problem}", "its ranges are left out")
        if review.conf and review.conf.in_process:
            yield Configured(str(document.get("name", "")), review.conf, file)


def stats(
    networks: Iterable[Configured], data_dirs: tuple[str, ...], network: str = ""
) -> Iterator[Stat]:
    """Configured networks first, then those that are only a folder below data_dirs. network: only
    this one. Raises OSError and IpamError."""
    known = set()
    for name, ipam, _file in networks:
        if network in ("", name):
            listing = read_listing(ipam.data_dir, name) or Listing(ipam.data_dir, name)
            known.add(listing.path)
            yield from _counted(ipam, listing)
    for listing in all_listings(data_dirs):
        if network in ("", listing.network) and listing.path not in known:
            yield Stat(listing.network, "", "no config", None, len(_living(listing)))


def _counted(ipam: IpamConf, listing: Listing) -> Iterator[Stat]:
    names = _living(listing)
    log = b"" if listing.past else Folder(listing.path).read(RELEASED) or b""
    cool = cooling(parse_released(log), boot_clock_s(), ipam.cooldown_s)
    for index, ranges in enumerate(ipam.range_sets):
        count = usage(pool(ranges), names, cool)
        text = set_text(ranges)
        yield Stat(listing.network, str(index), text, count.total, count.used, count.cooling)
    outside = [
        entry
        for entry in listing.entries
        if entry.address in names and not _in_a_range(ipam, ip_address(entry.address))
    ]
    if outside:
        yield Stat(listing.network, "", "outside of all ranges", None, len(outside))


def _in_a_range(ipam: IpamConf, address: IPAddress) -> bool:
    return any(find_range(ranges, address) for ranges in ipam.range_sets)


def _living(listing: Listing) -> set[str]:
    """Of another boot only what was reserved by hand is left at the next ADD."""
    return {
        entry.address
        for entry in listing.entries
        if not listing.past or (entry.owner and entry.owner.by_hand)
    }
