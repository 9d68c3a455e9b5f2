"""What a quick ADD cannot clean up is the general way's to find, whatever the reason."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cni_plugin.agent.ports import Busy
from cni_plugin.agent.swift import Swift
from cni_plugin.cni.errors import CNIError
from ipam.errors import LockTimeout


@pytest.mark.parametrize("error", [Busy(), CNIError("x"), LockTimeout("x", "y")])
def test_a_clean_up_that_fails_ends_quietly(error: BaseException) -> None:
    """A store that is locked for long, too: nobody above the call takes a Busy."""

    def netns(_path: str) -> Any:
        raise error

    made: Any = SimpleNamespace(netns=netns, leases=None, _replace=lambda **_: made)
    worker = SimpleNamespace(ports=lambda *_: made)
    add = SimpleNamespace(netns_fd=0, stages=None, request=lambda: SimpleNamespace(netns=""))
    swift: Any = Swift.__new__(Swift)
    swift._worker = worker
    swift._clean_up(add)
