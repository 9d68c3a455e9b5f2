"""Names of system calls for strace, which differ between processors."""

from __future__ import annotations

import platform
from collections.abc import Iterable

# What newer processors than x86 have only in the form that takes a folder.
_WITH_FOLDER = {
    "link": "linkat", "mkdir": "mkdirat", "rename": "renameat", "symlink": "symlinkat",
    "unlink": "unlinkat",
}  # fmt: skip


def here(name: str) -> str:
    """The one by which the C library does this on this processor."""
    return name if platform.machine() == "x86_64" else _WITH_FOLDER.get(name, name)


def known(names: Iterable[str]) -> str:
    """Of these, in either form, those that there are: by strace's own `?`."""
    every = dict.fromkeys(each for name in names for each in (name, _WITH_FOLDER.get(name, name)))
    return ",".join(f"?{name}" for name in every)
