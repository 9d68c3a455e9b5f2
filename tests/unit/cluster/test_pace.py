"""How far apart tries are."""

from __future__ import annotations

import pytest

from cni_plugin.cluster.pace import delay_s


@pytest.mark.parametrize(
    ("attempt", "longest_s"), [(0, 0.0), (1, 0.5), (2, 1.0), (6, 16.0), (7, 30.0), (10_000, 30.0)]
)
def test_tries_are_up_to_twice_as_far_apart_each_time(attempt, longest_s):
    assert delay_s(attempt, 1.0) == longest_s
    assert delay_s(attempt, 0.0) == 0.0
