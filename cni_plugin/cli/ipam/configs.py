"""The range sets of this node's config lists: what `stats` counts against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cni_plugin.cli.output import complain
from cni_plugin.cni.decode import decode_object
from cni_plugin.cni.errors import CNIError
from ipam.values import IpamConf

NET_D = "/etc/cni/net.d"  # where runtimes look by default
SUFFIXES = (".conflist", ".conf", ".json")  # as libcni


class Configured(NamedTuple):
    """One network whose addresses podwire's allocator (or host-local) gives."""

    network: str
    ipam: IpamConf
    file: str


def config_files(given: Iterable[str] | None) -> list[Path]:
    """The files given, otherwise those of /etc/cni/net.d; none when that is not there."""
    if given:
        return [Path(name) for name in given]
    folder = Path(NET_D)
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)


def configured(files: Iterable[Path]) -> list[Configured]:
    """The networks of the files. A file that cannot be read is complained about and passed over:
    a directory may hold other plugins' lists."""
    found: list[Configured] = []
    for path in files:
        try:
            document = decode_object(path.read_bytes(), "the file")
        except (OSError, CNIError) as error:
            complain(f"{path}: {error}", "it is left out; `podwire validate` tells more")
            continue
        found += _networks(document, str(path))
    return found


def _networks(document: dict[str, object], file: str) -> Iterator[Configured]:
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
