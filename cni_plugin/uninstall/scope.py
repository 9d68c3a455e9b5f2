"""Which paths of a node belong to podwire, and what of the cluster."""

from __future__ import annotations

from typing import NamedTuple

from cni_plugin.cluster.conflist import DEFAULT_PATH
from cni_plugin.cluster.kube_choice import Choice
from cni_plugin.folder import STATE_DIR
from cni_plugin.install.place import Place
from cni_plugin.pools import NET_D
from ipam.values import DEFAULT_DATA_DIR

KEPT_DIR = "/var/lib/podwire"  # what the agent knew last of its cluster


class Scope(NamedTuple):
    """place: where the installed files are; its root goes before every path here. conflist: the one
    that the agent writes. reservations: the stores go too. node and choice: this node's
    object in the Kubernetes API; None when it is not asked."""

    place: Place = Place()
    net_dir: str = NET_D
    conflist: str = DEFAULT_PATH
    data_dirs: tuple[str, ...] = (DEFAULT_DATA_DIR,)
    reservations: bool = False
    node: str = ""
    choice: Choice | None = None

    def at(self, path: str) -> str:
        """A path of the node as it is seen from here."""
        return f"{self.place.root}{path}"

    @property
    def state_dir(self) -> str:
        return self.at(STATE_DIR)

    @property
    def folders(self) -> tuple[str, ...]:
        """That go with all that is in them."""
        return (self.state_dir, self.at(KEPT_DIR))
