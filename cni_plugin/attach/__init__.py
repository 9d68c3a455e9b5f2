"""One file a mode: the state wanted for one attachment, and the result that tells of it. Pure.

A mode is found by name (`bridge` is attach.bridge) and imported only when a config asks for it.
Each has desired(wiring) -> Desired.
"""

from __future__ import annotations

from importlib import import_module

from cni_plugin.attach.wiring import Desired, Mode, Wiring
from ipam.lean_typing import Any

MODES = ("bridge", "ptp")


def desired(wiring: Wiring) -> Desired:
    """The wanted state of one attachment in its config's mode."""
    module: Any = import_module(f"{__name__}.{wiring.conf.mode}")
    mode: Mode = module
    return mode.desired(wiring)
