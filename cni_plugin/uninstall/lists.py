"""Config lists that went and are wanted again."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from cni_plugin.durable import replace_durably
from cni_plugin.uninstall.values import Failure


class Kept(NamedTuple):
    """A file as it was."""

    path: str
    data: bytes
    mode: int


def keep(paths: Iterable[str]) -> tuple[Kept, ...]:
    """Those that can be read: no runtime takes the others."""
    return tuple(_kept(paths))


def _kept(paths: Iterable[str]) -> Iterator[Kept]:
    for path in paths:
        with suppress(OSError), open(path, "rb") as file:
            yield Kept(path, file.read(), stat.S_IMODE(os.fstat(file.fileno()).st_mode))


def put_back(kept: Iterable[Kept]) -> Iterator[Failure]:
    """What failed."""
    for path, data, mode in kept:
        try:
            if not os.path.lexists(path):
                replace_durably(path, data)
                os.chmod(path, mode)
        except OSError as error:
            yield Failure(path, f"it could not be put back: {error.strerror}")
