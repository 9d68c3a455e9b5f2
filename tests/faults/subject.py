"""The plugin under test as a parameter: podwire, or the reference plugins with host-local."""

from __future__ import annotations

import ipaddress
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.need import REFERENCE

ROOT = Path(__file__).resolve().parents[2]
Json = dict[str, Any]
NETWORK = "net"
DATA_DIR = "/var/lib/cni/networks"
FOLDER = f"{DATA_DIR}/{NETWORK}"
SUBNETS = ("10.244.0.0/24", "2001:db8:244::/64")
MODES = ("bridge", "ptp")
ANY = {4: "0.0.0.0/0", 6: "::/0"}
# Command: module of its main, and the variable that puts another executable in its place.
OWN_COMMANDS = {
    "podwire": ("cni_plugin.__main__", "PODWIRE_BIN"),
    "podwire-ipam": ("ipam.plugin", "PODWIRE_IPAM_BIN"),
}


@dataclass(frozen=True)
class Plugin:
    """bin_dir: CNI_PATH, with everything that the plugin executes."""

    name: str
    bin_dir: Path

    @property
    def is_podwire(self) -> bool:
        """False: the reference plugins."""
        return self.name == "podwire"

    @property
    def ipam(self) -> str:
        """The IPAM executable."""
        return "podwire-ipam" if self.is_podwire else "host-local"

    def executable(self, mode: str) -> str:
        """What the runtime executes."""
        return "podwire" if self.is_podwire else mode

    def config(self, mode: str, ranges: list[list[Json]]) -> Json:
        """The runtime's stdin, without prevResult. ranges: host-local's key."""
        versions = [ipaddress.ip_network(one[0]["subnet"]).version for one in ranges]
        conf: Json = {
            "cniVersion": "1.1.0" if self.is_podwire else "1.0.0",
            "name": NETWORK,
            "type": self.executable(mode),
            "ipMasq": True,
            "ipam": {
                "type": self.ipam,
                "ranges": ranges,
                "routes": [{"dst": ANY[version]} for version in versions],
            },
        }
        if self.is_podwire:
            conf["mode"] = mode
        if mode == "bridge":
            conf |= {"bridge": "cni0", "isGateway": True}
        return conf


def subnets(*texts: str) -> list[list[Json]]:
    """A range set for each subnet."""
    return [[{"subnet": text}] for text in texts]


def counted_range(number: int) -> list[list[Json]]:
    """One range set with exactly that many usable addresses, the gateway not counted."""
    first = ipaddress.ip_address("10.244.0.2")
    return [
        [{"subnet": "10.244.0.0/22", "rangeStart": str(first), "rangeEnd": str(first + number - 1)}]
    ]


def open_plugin(name: str, folder: Path) -> Plugin:
    """The plugin with a CNI_PATH made in `folder`."""
    for plugin in Path(REFERENCE).iterdir() if Path(REFERENCE).is_dir() else ():
        (folder / plugin.name).symlink_to(plugin)
    for command, (module, variable) in OWN_COMMANDS.items():
        installed = Path(os.environ.get(variable) or Path(sys.executable).with_name(command))
        if installed.exists():
            (folder / command).symlink_to(installed)
        else:
            _write_launcher(folder / command, module)
    return Plugin(name, folder)


def missing(name: str) -> str:
    """Why this plugin cannot be tested here; empty when it can."""
    if name != "podwire" and not os.access(f"{REFERENCE}/bridge", os.X_OK):
        return f"{REFERENCE}/bridge is missing; apt-get install containernetworking-plugins"
    return ""


def _write_launcher(path: Path, module: str) -> None:
    """An executable that runs the tree, where podwire is not installed."""
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        f"from {module} import main\nsys.exit(main())\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
