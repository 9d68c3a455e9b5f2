"""What the subcommands show of a reservation, and the arguments that choose which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, NamedTuple

from cni_plugin.cli.output import emit_json
from cni_plugin.reconcile.evidence import Subject
from cni_plugin.reconcile.life import TORN, Life, judge, link_of
from cni_plugin.reconcile.observe import Observer, Seen
from ipam.values import DEFAULT_DATA_DIR

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

NANOSECONDS = 1_000_000_000
SHORT_ID = 13  # characters, as crictl shows container ids
COLOURS = {"live": "green", "dead": "red", "torn": "red", "reserved": "yellow", "unknown": "yellow"}


class Row(NamedTuple):
    """One reservation as shown. state: live, dead, reserved (by hand), torn or unknown; reason:
    why it is thought so. since: when its file was written, ISO 8601 in UTC."""

    address: str
    network: str
    pod: str
    container_id: str
    ifname: str
    state: str
    reason: str
    since: str
    host_link: str
    netns: str
    data_dir: str
    subject: Subject | None  # None: torn

    def as_json(self) -> dict[str, str]:
        return {
            "address": self.address,
            "network": self.network,
            "pod": self.pod,
            "containerID": self.container_id,
            "ifname": self.ifname,
            "state": self.state,
            "reason": self.reason,
            "since": self.since,
            "hostLink": self.host_link,
            "netns": self.netns,
            "dataDir": self.data_dir,
        }


def add_place_arguments(parser: ArgumentParser) -> None:
    """--data-dir and --network."""
    parser.add_argument(
        "--data-dir",
        action="append",
        metavar="FOLDER",
        help=f"where to look for networks, besides those that records name ({DEFAULT_DATA_DIR})",
    )
    parser.add_argument("--network", default="", metavar="NAME", help="only this network")


def add_output_argument(parser: ArgumentParser, *forms: str) -> None:
    """-o: a table, or a form for programs."""
    parser.add_argument(
        "-o", "--output", choices=("table", *forms), default="table", help="form of the answer"
    )


def data_dirs(args: Namespace) -> tuple[str, ...]:
    """The folders to look into."""
    return tuple(args.data_dir or (DEFAULT_DATA_DIR,))


def look(args: Namespace, *, whole: bool = False) -> Seen:
    """The node as the arguments choose it. whole: see Observer. Raises OSError."""
    return Observer(data_dirs(args), whole=whole).look(args.network)


def rows(seen: Seen) -> Iterator[Row]:
    """Every reservation, in the order of networks and addresses."""
    by_key = {(s.data_dir, s.network, *s.attachment): s for s in seen.subjects}
    lives = {key: judge(subject, seen.evidence) for key, subject in by_key.items()}
    moments: dict[int, str] = {}  # by the second: an autoscaler's pods share it
    for listing in seen.listings:
        for entry in listing.entries:
            second = entry.since_ns // NANOSECONDS
            since = moments.get(second) or moments.setdefault(second, moment(entry.since_ns))
            address, owner = entry.address, entry.owner
            if owner is None:
                yield _torn(address, listing.network, listing.data_dir, since)
                continue
            key = (listing.data_dir, listing.network, owner.container_id, owner.ifname)
            yield _row(address, since, by_key[key], lives[key], seen)


def _row(address: str, since: str, subject: Subject, life: Life, seen: Seen) -> Row:
    record = subject.record
    cached = seen.evidence.runtime.cached.get((subject.network, *subject.attachment))
    return Row(
        address=address,
        network=subject.network,
        pod=(record.pod if record else "") or (cached.pod if cached else ""),
        container_id=subject.attachment.container_id,
        ifname=subject.attachment.ifname,
        state=life.state,
        reason=life.reason,
        since=since,
        host_link=link_of(subject, seen.evidence.kernel),
        netns=(record.netns if record else "") or (cached.netns if cached else ""),
        data_dir=subject.data_dir,
        subject=subject,
    )


def _torn(address: str, network: str, data_dir: str, since: str) -> Row:
    why = "its file names no owner: `podwire ipam repair` frees it if no pod here has the address"
    return Row(address, network, "", "", "", TORN, why, since, "", "", data_dir, None)


def moment(since_ns: int) -> str:
    """A file time (wall clock, nanoseconds) as 2026-11-22T20:15:00Z."""
    whole = datetime.fromtimestamp(since_ns // NANOSECONDS, UTC).replace(tzinfo=None)
    return f"{whole.isoformat()}Z"


def matching(found: Sequence[Row], what: str) -> list[Row]:
    """The reservations of an address, a container id or its beginning, or a pod (NAME or
    NAMESPACE/NAME). Nothing is the beginning of everything, and names nobody."""
    if not what:
        return []
    exact = [row for row in found if what in (row.address, row.container_id)]
    if exact:
        return exact
    pods = [row for row in found if row.pod and what in (row.pod, row.pod.rpartition("/")[2])]
    return pods or [row for row in found if row.container_id.startswith(what)]


def attachments(found: Sequence[Row]) -> list[list[Row]]:
    """Rows grouped by attachment; a torn reservation is alone."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in found:
        who = (row.container_id, row.ifname) if row.subject else (row.address,)
        groups.setdefault((row.data_dir, row.network, *who), []).append(row)
    return list(groups.values())


def emit_flat(documents: Sequence[Mapping[str, str]], form: str) -> None:
    """As `emit`. json's own encoder is Python as soon as it indents: a third of `ls` of 4,000."""
    if form != "json" or not (documents and all(documents)):
        return emit(documents, form)
    quoted = encode_basestring_ascii
    entries = (
        ",\n".join(f"    {quoted(key)}: {quoted(text)}" for key, text in document.items())
        for document in documents
    )
    print("[\n" + ",\n".join(f"  {{\n{entry}\n  }}" for entry in entries) + "\n]")
    return None


def emit(document: object, form: str) -> None:
    """A document on stdout as json or yaml."""
    if form == "yaml":
        import yaml

        print(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), end="")
    else:
        emit_json(document)
