"""One file a mode: the state wanted for one attachment, and the result that tells of it. Pure.

A mode is found by name (`bridge` is attach.bridge) and imported only when a config asks for it.
Each has desired(wiring) -> Desired.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from cni_plugin.attach.wiring import Desired, Mode, Wiring

MODES = ("bridge", "ptp")


def desired(wiring: Wiring) -> Desired:
    """The wanted state of one attachment in its config's mode."""
    module = import_module(f"{__name__}.{wiring.conf.mode}")
    return cast("Mode", module).desired(wiring)
