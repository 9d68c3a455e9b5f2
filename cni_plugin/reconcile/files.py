"""What is wrong with the state files by themselves: torn, of a wrong mode, left over, unknown."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from cni_plugin.folder import STATE_DIR
from cni_plugin.reconcile.invariants import REPAIR, Finding, Repair
from cni_plugin.reconcile.observe import Seen
from ipam.files import (
    BOOT_ID,
    LAST_RESERVED,
    LOCK,
    OWNERS,
    RELEASED,
    STICKY,
    TEMP,
    Folder,
    address_of,
    parse_owner,
)
from ipam.listing import Listing, Other

OURS = (LOCK, BOOT_ID, RELEASED, STICKY)
MAY_BE_EMPTY = (LOCK, RELEASED, STICKY)
OTHERS = 0o077  # bits of group and others: the state is root's alone


def file_findings(seen: Seen, state_dir: str = STATE_DIR) -> Iterator[Finding]:
    """Reads every file of the store once. Raises OSError."""
    for listing in seen.listings:
        yield from _reservations(listing)
        yield from _others(listing)
        if listing.marked:  # host-local's own folder is 0755 until podwire takes it over
            yield from _mode(listing.path, listing.mode, 0o700)
    for path in seen.torn_records:
        yield Finding(
            "torn-record",
            "an attachment's record does not parse",
            path,
            f"{REPAIR} removes it: DEL works without",
            Repair("unlink", path=path),
        )
    yield from _state_dir(state_dir)


def _reservations(listing: Listing) -> Iterator[Finding]:
    folder = Folder(listing.path)
    heal = Repair("heal", path=listing.path)
    for entry in listing.entries:
        path = folder.at(entry.address)
        data = folder.read(entry.address)
        if data is None:
            continue  # released meanwhile
        if parse_owner(data) is None:
            known = f": {entry.owner.container_id[:13]} holds it" if entry.owner else ""
            what = f"the reservation of {entry.address} is torn{known}"
            done = "writes it anew" if entry.owner else "frees it if no pod here has the address"
            yield Finding("torn-reservation", what, path, f"{REPAIR} {done}", heal)
        if listing.marked:
            yield from _mode(path, entry.mode, 0o600)


def _others(listing: Listing) -> Iterator[Finding]:
    folder = Folder(listing.path)
    for other in listing.others:
        path = folder.at(other.name)
        if other.name == TEMP:
            what = "a temporary file of a writer that was killed"
            heal = Repair("heal", path=listing.path)
            yield Finding("leftover", what, path, f"{REPAIR} removes it", heal)
        elif other.name.startswith(f"{OWNERS}/"):
            yield from _index_file(listing, other, path)
        elif other.name in OURS or other.name.startswith(LAST_RESERVED):
            yield from _known(listing, other, folder)
        else:
            yield Finding(
                "unknown-file",
                "a file that neither podwire nor host-local writes",
                path,
                "look whose it is; podwire never touches it",
            )


def _index_file(listing: Listing, other: Other, path: str) -> Iterator[Finding]:
    if other.links == 1:
        yield Finding(
            "leftover",
            "an owner without an address, left by an ADD that was killed",
            path,
            f"{REPAIR} removes it",
            Repair("heal", path=listing.path),
        )


def _known(listing: Listing, other: Other, folder: Folder) -> Iterator[Finding]:
    path = folder.at(other.name)
    torn = other.size == 0 and other.name not in MAY_BE_EMPTY
    if other.name.startswith(LAST_RESERVED) and not torn:
        data = folder.read(other.name) or b""
        torn = address_of(data.decode("ascii", "replace").strip()) is None
    if torn:
        what = "a file that says where to go on is empty or garbled"
        yield Finding("torn-file", what, path, "none is needed: the next ADD writes it anew")
    if listing.marked and other.name != LOCK and not other.name.startswith(LAST_RESERVED):
        yield from _mode(path, other.mode, 0o600)


def _mode(path: str, found: int, wanted: int) -> Iterator[Finding]:
    followed = stat.S_ISREG(found) or stat.S_ISDIR(found)  # chmod would follow a symbolic link
    if followed and stat.S_IMODE(found) & OTHERS:
        yield Finding(
            "mode",
            f"mode is {stat.S_IMODE(found):04o}, wanted {wanted:04o}",
            path,
            f"{REPAIR} sets it",
            Repair("chmod", path=path, mode=wanted),
        )


def _state_dir(path: str) -> Iterator[Finding]:
    """podwire's folder on tmpfs: 0700 and root's, every file 0600."""
    for folder, _folders, files in os.walk(path):
        status = os.lstat(folder)
        yield from _mode(folder, status.st_mode, 0o700)
        if status.st_uid != os.geteuid():
            what = f"belongs to user {status.st_uid}"
            yield Finding("owner", what, folder, "chown it to root; podwire does not trust it")
        for name in files:
            file = f"{folder}/{name}"
            if name.startswith(".") and f"{path}/attachments" in folder:
                what = "a record's temporary file: its writer was killed"
                repair = Repair("unlink", path=file)
                yield Finding("leftover", what, file, f"{REPAIR} removes it", repair)
            try:
                mode = os.lstat(file).st_mode
            except FileNotFoundError:
                continue
            if stat.S_ISREG(mode):
                yield from _mode(file, mode, 0o600)
