"""Where podwire's files are on a node."""

from __future__ import annotations

from typing import NamedTuple

TREE_DIR = "/opt/podwire"  # the launcher has TREE_DIR/current compiled in (hack/launcher.sh)
BIN_DIR = "/opt/cni/bin"  # where runtimes look by default
LAUNCHERS = ("podwire", "podwire-ipam")  # one program, which goes by its name
INTERPRETER = (
    "bin/python3"  # in a tree; the last file of a version to go is the first to be removed
)
LAUNCHER = "bin/podwire"
TEMPORARY = "."  # how the names of what is not finished begin


class Place(NamedTuple):
    """root: what all paths of the node begin with, "" on the node itself. bin_dir: as the node
    sees it."""

    root: str = ""
    bin_dir: str = BIN_DIR

    @property
    def tree_dir(self) -> str:
        return f"{self.root}{TREE_DIR}"

    @property
    def versions(self) -> str:
        return f"{self.tree_dir}/versions"

    @property
    def current(self) -> str:
        """A symbolic link, relative, to one of the versions."""
        return f"{self.tree_dir}/current"

    @property
    def lock(self) -> str:
        """Held by whoever changes any of it."""
        return f"{self.tree_dir}/lock"

    def launcher(self, name: str) -> str:
        return f"{self.root}{self.bin_dir}/{name}"


def place_of(root: str, bin_dir: str) -> Place:
    """From what the command line says. Raises ValueError unless both are absolute."""
    for path in (root, bin_dir):
        if not path.startswith("/") or "\0" in path:
            raise ValueError(f"{path!r} is no absolute path")
    return Place(root.rstrip("/"), bin_dir.rstrip("/"))
