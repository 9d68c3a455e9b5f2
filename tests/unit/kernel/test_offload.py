"""Which kernels spoil the checksums of tunnelled packets."""

from __future__ import annotations

import pytest

from cni_plugin.kernel.offload import is_affected


@pytest.mark.parametrize(
    ("release", "affected"),
    [
        ("5.4.0-42-generic", True),
        ("4.19.121", True),
        ("5.6.19-300.fc32.x86_64", True),
        ("5.7.0", False),
        ("5.15.0-91-generic", False),
        ("6.18.44-fc-v669", False),
        ("10.0", False),
    ],
)
def test_kernels_before_5_7_are_affected(release: str, affected: bool) -> None:
    assert is_affected(release) is affected
