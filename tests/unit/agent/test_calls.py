"""What a launcher says of a namespace that it could not open."""

from __future__ import annotations

import errno

import pytest

from cni_plugin.agent.calls import netns_errno
from cni_plugin.agent.wire import NETNS_ERRNO


@pytest.mark.parametrize(
    ("said", "meant"),
    [("13", errno.EACCES), ("", errno.ENOENT), ("x", errno.ENOENT), ("\u00b2", errno.ENOENT)],
)
def test_the_number_counts_only_in_ascii_digits(said: str, meant: int) -> None:
    assert netns_errno({NETNS_ERRNO: said}) == meant


def test_without_a_number_it_was_not_there() -> None:
    assert netns_errno({}) == errno.ENOENT
