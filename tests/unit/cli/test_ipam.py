"""`podwire ipam` on a store in a folder of the test: tables, forms, refusals, exit statuses."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from cni_plugin import disk
from cni_plugin.cli.app import main
from cni_plugin.cli.ipam import migrate, release
from cni_plugin.cli.ipam.ls import _painted
from cni_plugin.cli.ipam.rows import emit_flat
from cni_plugin.cli.ipam.stats import bar_text
from cni_plugin.cli.table import table
from cni_plugin.cni.values import Attachment
from cni_plugin.disk import DiskRecords
from cni_plugin.model.names import digest
from cni_plugin.reconcile import observe
from cni_plugin.reconcile.evidence import KernelFacts, RuntimeFacts
from cni_plugin.record import DONE, Record
from cni_plugin.wiring import node_ports
from ipam.disk import DiskLeases
from ipam.ranges import canonical
from ipam.values import IpamConf, Owner

Run = Callable[..., tuple[int, str, str]]
NOBODY = "podwire has no record of it, and the runtime's cache names nobody of network net"


@pytest.fixture
def data_dir(tmp_path: Path) -> str:
    return str(tmp_path / "networks")


@pytest.fixture
def add(data_dir: str) -> Callable[..., str]:
    """Reserves as an ADD of podwire-ipam does; the address."""
    leases = DiskLeases(lambda _network, _address: False)

    def one(container_id: str, *subnets: str, network: str = "net") -> str:
        sets = tuple((canonical(ip_network(s)),) for s in subnets or ("10.244.0.0/24",))
        conf = IpamConf("podwire-ipam", sets, data_dir=data_dir)
        given = leases.reserve(conf, network, Owner(container_id, "eth0"), ())
        return str(given[0].address.ip)

    return one


@pytest.fixture
def podwire(
    data_dir: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """`podwire ipam ...` with an empty kernel and no runtime."""
    monkeypatch.setattr(observe, "read_kernel", KernelFacts)
    monkeypatch.setattr(observe, "read_links", dict)
    monkeypatch.setattr(observe, "read_cache", lambda _path: RuntimeFacts())
    records = DiskRecords(str(Path(data_dir).parent / "state"))
    monkeypatch.setattr(
        release, "node_ports", lambda warn: node_ports(warn)._replace(records=records)
    )

    monkeypatch.setattr(migrate, "DiskRecords", lambda: records)

    def run(*words: str) -> tuple[int, str, str]:
        place = () if words[0] == "migrate" else ("--data-dir", data_dir)
        status = main(["ipam", *words, *place])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def test_ls_of_nothing(podwire: Run) -> None:
    assert podwire("ls") == (0, "", "no reservations\n")


def test_ls_is_a_table(podwire: Run, add: Callable[..., str]) -> None:
    add("c0ffee" * 10)
    add("beef")
    status, out, _ = podwire("ls")
    assert status == 0
    assert out.splitlines() == [
        "ADDRESS     NETWORK  POD  CONTAINER      STATE",
        "10.244.0.2  net      -    c0ffeec0ffeec  unknown",
        "10.244.0.3  net      -    beef           unknown",
    ]


def test_ls_wide_has_the_whole_id(podwire: Run, add: Callable[..., str]) -> None:
    add("c0ffee" * 10)
    head, line = podwire("ls", "-o", "wide")[1].splitlines()
    assert head.split()[3:8] == ["CONTAINER", "IFNAME", "LINK", "NETNS", "SINCE"]
    assert line.split()[3:5] == ["c0ffee" * 10, "eth0"]


def test_ls_orders_by_number_and_chooses_a_network(podwire: Run, add: Callable[..., str]) -> None:
    for number in range(10):
        add(f"c{number}")
    add("other", network="blue")
    addresses = [line.split()[0] for line in podwire("ls", "--network", "net")[1].splitlines()[1:]]
    assert addresses == [f"10.244.0.{n}" for n in range(2, 12)]


def test_the_json_form(podwire: Run, add: Callable[..., str], data_dir: str) -> None:
    address = add("beef")
    (entry,) = json.loads(podwire("ls", "-o", "json")[1])
    since = entry.pop("since")
    assert since.endswith("Z")
    assert entry == {
        "address": address,
        "network": "net",
        "pod": "",
        "containerID": "beef",
        "ifname": "eth0",
        "state": "unknown",
        "reason": f"{NOBODY}: that proves nothing",
        "hostLink": "",
        "netns": "",
        "dataDir": data_dir,
    }
    assert yaml.safe_load(podwire("ls", "-o", "yaml")[1])[0] == {**entry, "since": since}


def test_a_torn_reservation(podwire: Run, add: Callable[..., str], data_dir: str) -> None:
    add("beef")
    (Path(data_dir) / "net" / "10.244.0.9").touch()
    assert podwire("ls")[1].splitlines()[2].split() == ["10.244.0.9", "net", "-", "-", "torn"]
    status, out, _ = podwire("show", "10.244.0.9")
    assert status == 0
    assert "names no owner" in out


@pytest.mark.parametrize("what", ["10.244.0.2", "c0ffee01", "c0ff"])
def test_show_by_address_and_by_beginning_of_an_id(
    podwire: Run, add: Callable[..., str], what: str
) -> None:
    add("c0ffee01")
    add("beef")
    status, out, _ = podwire("show", what)
    assert status == 0
    assert "addresses:  10.244.0.2\n" in out
    assert f"because:    {NOBODY}" in out


def test_show_of_a_dual_stack_pod_has_both_addresses(podwire: Run, add: Callable[..., str]) -> None:
    add("beef", "10.244.0.0/24", "2001:db8::/64")
    document = json.loads(podwire("show", "2001:db8::2", "-o", "json")[1])
    assert document["addresses"] == ["10.244.0.2", "2001:db8::2"]


def test_several_matches_are_listed(podwire: Run, add: Callable[..., str]) -> None:
    add("c0ffee01")
    add("c0ffee02")
    status, out, err = podwire("show", "c0ffee")
    assert status == 1
    assert len(out.splitlines()) == 3
    assert err.startswith("podwire: c0ffee: 2 attachments match\n")


def test_no_match(podwire: Run) -> None:
    status, out, err = podwire("show", "192.0.2.7")
    assert (status, out) == (1, "")
    assert "no reservation has this address, container or pod" in err


@pytest.fixture
def conf(tmp_path: Path, data_dir: str) -> str:
    file = tmp_path / "10-net.conflist"
    ipam = {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/28"}]], "dataDir": data_dir}
    plugins: list[dict[str, Any]] = [{"type": "podwire", "ipam": ipam}, {"type": "portmap"}]
    file.write_text(json.dumps({"cniVersion": "1.1.0", "name": "net", "plugins": plugins}))
    return str(file)


def test_stats_count_and_draw(podwire: Run, add: Callable[..., str], conf: str) -> None:
    for number in range(5):
        add(f"c{number}")
    add("outside", "203.0.113.0/24")
    add("unconfigured", network="blue")
    status, out, _ = podwire("stats", "--conf", conf)
    assert status == 0
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "NETWORK SET RANGES TOTAL USED COOLING FREE FULL",
        "net 0 10.244.0.1..10.244.0.14 13 5 0 8 [#######.............] 38%",
        "net - outside of all ranges - 1 0 - -",
        "blue - no config - 1 0 - -",
    ]


def test_stats_know_what_cools(podwire: Run, add: Callable[..., str], conf: str) -> None:
    add("gone")
    podwire("release", "gone", "--force")
    (entry,) = json.loads(podwire("stats", "--conf", conf, "-o", "json")[1])
    assert (entry["used"], entry["cooling"], entry["free"]) == (0, 1, 12)


def test_metrics_are_prometheus_text(podwire: Run, add: Callable[..., str], conf: str) -> None:
    add("one")
    lines = podwire("stats", "--metrics", "--conf", conf)[1].splitlines()
    assert "# TYPE podwire_ipam_used_addresses gauge" in lines
    assert 'podwire_ipam_used_addresses{network="net",set="0"} 1' in lines
    assert 'podwire_ipam_size_addresses{network="net",set="0"} 13' in lines


@pytest.mark.parametrize(
    ("level", "bar"),
    [
        (0.0, "[....................]   0%"),
        (0.001, "[#...................]   0%"),
        (0.5, "[##########..........]  50%"),
        (0.999, "[###################.] 100%"),
        (1.0, "[####################] 100%"),
    ],
)
def test_a_bar_is_full_or_empty_only_when_the_set_is(level: float, bar: str) -> None:
    assert bar_text(level) == bar


def test_release_refuses_whom_it_cannot_call_dead(podwire: Run, add: Callable[..., str]) -> None:
    address = add("beef")
    status, out, err = podwire("release", "beef")
    assert (status, out) == (1, "")
    assert err.startswith(f"podwire: {address} is not released: beef may be alive, {NOBODY}")
    assert podwire("release", "beef", "--force")[1] == f"released {address} of network net\n"
    assert podwire("ls")[2] == "no reservations\n"


def test_nothing_names_nobody(podwire: Run, add: Callable[..., str]) -> None:
    add("beef")
    status, out, err = podwire("release", "", "--force")
    assert (status, out) == (1, "")
    assert "no reservation has this" in err
    assert podwire("show", "")[0] == 1
    assert "beef" in podwire("ls")[1]


def test_release_waits_for_a_call_of_the_same_attachment(
    podwire: Run, add: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = add("beef")
    with a_call_of_beef(tmp_path, monkeypatch) as file:
        status, out, err = podwire("release", "beef", "--force")
    assert (status, out) == (1, "")
    assert f"the lock {file} was not free" in err
    assert podwire("release", "beef", "--force")[1] == f"released {address} of network net\n"


@contextmanager
def a_call_of_beef(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another process holds the attachment's lock, as ADD and DEL do."""
    locks = tmp_path / "state" / "locks"
    locks.mkdir(parents=True)
    file = locks / digest("net", "beef", "eth0")
    monkeypatch.setattr(disk, "LOCK_TIMEOUT_S", 0.01)
    hold = ["flock", str(file), "sh", "-c", "echo held; read line"]
    pipe = subprocess.PIPE
    with subprocess.Popen(hold, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield file
        process.communicate("\n")


@pytest.mark.parametrize(
    ("another", "said"),
    [("beef", "beef is another attachment by now"), ("f00d", "beef: no reservation has this")],
)
def test_release_looks_again_when_it_has_the_lock(
    podwire: Run,
    add: Callable[..., str],
    data_dir: str,
    monkeypatch: pytest.MonkeyPatch,
    another: str,
    said: str,
) -> None:
    add("beef")

    @contextmanager
    def lock(_records: DiskRecords, _network: str, attachment: Attachment) -> Iterator[None]:
        """Waits for a DEL; then another pod gets the address."""
        conf = IpamConf("podwire-ipam", data_dir=data_dir)
        DiskLeases(lambda _n, _a: False).release(conf, "net", Owner(*attachment))
        add(another)
        yield

    monkeypatch.setattr(DiskRecords, "lock", lock)
    status, out, err = podwire("release", "beef", "--force")
    assert (status, out) == (1, "")
    assert said in err
    assert another in podwire("ls")[1]


def test_reserved_by_hand(podwire: Run, add: Callable[..., str], data_dir: str) -> None:
    add("beef")
    reserve = ("--network", "net", "--owner", "printer")
    assert podwire("reserve", "10.244.0.77", *reserve)[0] == 0
    assert podwire("reserve", "10.244.0.78", *reserve)[0] == 0
    status, _, err = podwire("reserve", "10.244.0.2", *reserve)
    assert status == 1
    assert "10.244.0.2 is taken" in err
    held = Path(data_dir, "net", "10.244.0.77").read_bytes()
    assert held == b"reserved-printer\r\nreserved"
    # Releasing one leaves the other of the same person.
    assert podwire("release", "10.244.0.77")[0] == 0
    last = podwire("ls")[1].splitlines()[-1].split()
    assert last == ["10.244.0.78", "net", "-", "reserved-printer-10.244.0.78", "reserved"]


def test_gc_and_a_reboot_keep_what_is_reserved_by_hand(
    podwire: Run, add: Callable[..., str], data_dir: str
) -> None:
    add("beef")
    podwire("reserve", "10.244.0.77", "--network", "net")
    conf = IpamConf("podwire-ipam", data_dir=data_dir)
    freed = DiskLeases(lambda _n, _a: False).retain(conf, "net", ())
    assert list(map(str, freed)) == ["10.244.0.2"]
    add("beef")
    after = DiskLeases(lambda _n, _a: False, boot_id=lambda: "another")
    after.retain(conf, "net", ())
    assert [who.by_hand for who in after.owners(conf, "net").values()] == [True]


def test_a_network_that_is_not_there_is_not_made(podwire: Run, data_dir: str) -> None:
    status, _, err = podwire("reserve", "10.244.0.7", "--network", "typo")
    assert status == 1
    assert "network typo has neither a folder" in err
    assert not Path(data_dir).exists()


@pytest.mark.parametrize(
    "words",
    [
        ("reserve", "10.244.0.7/24", "--network", "net"),
        ("reserve", "10.244.0.7", "--network", "net", "--owner", "a b"),
        ("reserve", "10.244.0.7", "--network", "net", "--owner", "../x"),
        ("migrate", "/somewhere"),
        ("nonsense",),
        ("gc", "--yes", "--dry-run"),
    ],
)
def test_wrong_usage_exits_2(podwire: Run, words: tuple[str, ...]) -> None:
    assert podwire(*words)[0] == 2


def test_tables_are_as_wide_as_their_cells() -> None:
    text = table(("A", "NUMBER"), [("x", "1"), ("long", "")], right=("NUMBER",))
    assert text.splitlines() == ["A     NUMBER", "x          1", "long       -"]


def test_a_terminal_shows_the_same_table_in_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    def made() -> str:
        rows = [("x", "1", "live"), ("long", "", "dead")]
        return table(("A", "NUMBER", "STATE"), rows, right=("NUMBER",), painter=_painted)

    plain = made()
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    coloured = made()
    assert "\x1b[32mlive\x1b[0m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain


@pytest.mark.parametrize(
    "documents",
    [
        [],
        [{}],
        [{"a": "plain"}],
        [{"a": 'q"\\', "b": "\n\x1b\x7f"}, {"é": "\u2028 \U0001f431 \udcff"}],
    ],
)
def test_flat_documents_are_written_as_json_writes_them(
    documents: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    emit_flat(documents, "json")
    assert capsys.readouterr().out == json.dumps(documents, indent=2) + "\n"


def test_a_cell_cannot_speak_to_the_terminal() -> None:
    assert "\x1b" not in table(("A",), [("\x1b[31mred",)])


def test_a_cell_is_one_line() -> None:
    assert table(("A", "B"), [("x\ny", "z")]).splitlines()[1:] == ["x\\ny  z"]


def test_migrate_waits_for_calls_under_way(
    podwire: Run,
    add: Callable[..., str],
    data_dir: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A DEL that had begun would look in the old folder and leave the address in the new one."""
    add("beef")
    move = ("migrate", f"{data_dir}/net", str(tmp_path / "new"))
    with a_call_of_beef(tmp_path, monkeypatch):
        status, out, err = podwire(*move)
    assert (status, out) == (1, "")
    assert "was not free" in err
    assert "beef" in podwire("ls")[1]
    assert podwire(*move)[0] == 0
    assert Path(tmp_path, "new", "net", "10.244.0.2").exists()


def test_migrate_takes_an_add_along_that_ends_later(
    podwire: Run,
    add: Callable[..., str],
    data_dir: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It reserved in time and writes its record, of the old folder, when all has moved."""
    records = DiskRecords(str(tmp_path / "state"))
    attachment, new = Attachment("beef", "eth0"), str(tmp_path / "new")
    address = add("beef")
    real = migrate.migrate

    def moved(*arguments: Any) -> int:
        count = real(*arguments)
        fields = ("net", attachment, DONE, "bridge", "", 0, "", "podwire-ipam", data_dir)
        records.save(Record(*fields, (address,), ()))
        return count

    monkeypatch.setattr(migrate, "migrate", moved)
    assert podwire("migrate", f"{data_dir}/net", new)[0] == 0
    record = records.load("net", attachment)
    assert record is not None
    assert record.data_dir == new
