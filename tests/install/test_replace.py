"""A version is replaced by another while calls are made, and whatever goes wrong leaves one that
works."""

from __future__ import annotations

import contextlib
import errno
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.install.kit import command, install
from tests.support.bare import ROOT, BareRoot
from tests.support.node import wait_until

Release = Callable[[str], Path]
OLD, NEW = "0.0.8", "0.0.9"
SWITCHES = 50
WITH_REMOVAL = 5  # of them remove the version before; a copy takes half a second
CALLERS = 2


def version(bare: BareRoot) -> str:
    """What answers on the node."""
    return bare.run("/opt/cni/bin/podwire", "--version").ok().stdout.decode().split()[1]


def versions(bare: BareRoot) -> list[str]:
    """What of the tree's folder is there, without the digests."""
    return sorted(
        path.name.split("-")[0] for path in (bare.path / "opt/podwire/versions").iterdir()
    )


def test_a_second_run_changes_nothing(bare: BareRoot, tree: Path) -> None:
    assert "placed" in install(tree, bare).stdout
    before = {path: path.lstat().st_mtime_ns for path in bare.path.joinpath("opt").rglob("*")}
    again = install(tree, bare)
    assert again.returncode == 0
    assert again.stdout.startswith("podwire ")
    assert before == {path: path.lstat().st_mtime_ns for path in before}


def test_on_the_node_itself_no_root_is_named(bare: BareRoot, tree: Path) -> None:
    install(tree, bare)
    (bare.path / "opt/cni/bin/podwire-ipam").unlink()
    again = bare.run("/opt/cni/bin/podwire", "install").ok().stdout.decode()
    assert again.startswith("placed   /opt/cni/bin/podwire-ipam\npodwire ")


def test_upgrade_and_downgrade_leave_one_version(bare: BareRoot, release: Release) -> None:
    for one in (OLD, NEW, OLD):
        assert install(release(one), bare).returncode == 0
        assert version(bare) == one
        assert versions(bare) == [one]


def test_the_launchers_are_regular_files_of_everybody(bare: BareRoot, tree: Path) -> None:
    bin_dir = bare.path / "opt/cni/bin"
    bin_dir.mkdir(parents=True)
    (bin_dir / "podwire").symlink_to("/nowhere")
    bare.node.run("sh", "-c", f"umask 077; {' '.join(command(tree))}")
    assert {path.name: oct(path.lstat().st_mode) for path in bin_dir.iterdir()} == {
        "podwire": "0o100755",
        "podwire-ipam": "0o100755",
    }


@contextlib.contextmanager
def running(bare: BareRoot) -> Iterator[subprocess.Popen[str]]:
    """A process of the version that is installed now. It imports something late, and tells then
    which version it runs from."""
    code = "import sys; input(); import decimal; print(sys.prefix.split('/')[-1])"
    python = bare.command("/opt/podwire/current/bin/python3", "-I", "-B", "-c", code)
    with bare.node.spawn(*python, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        locks = bare.node.path("/proc/locks").read_text
        wait_until(lambda: re.search(rf" READ +{process.pid} ", locks()), "the interpreter runs")
        yield process


def test_a_version_in_use_stays_until_nobody_runs_it(bare: BareRoot, release: Release) -> None:
    install(release(OLD), bare)
    with running(bare) as process:
        assert "a process runs from it" in install(release(NEW), bare).stdout
        assert versions(bare) == [OLD, NEW]
        assert process.communicate("\n", timeout=30)[0].startswith(OLD)
    assert install(release(NEW), bare).returncode == 0
    assert versions(bare) == [NEW]


def test_the_launcher_is_replaced_while_it_runs(bare: BareRoot, release: Release) -> None:
    install(release(OLD), bare)
    launcher = bare.path / "opt/cni/bin/podwire"
    launcher.write_bytes(launcher.read_bytes() + b"of another build")
    waiting = bare.node.spawn(
        *bare.command("/opt/cni/bin/podwire", env={"CNI_COMMAND": "VERSION"}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    wait_until(lambda: _is_busy(launcher), "the launcher runs")
    assert "placed" in install(release(NEW), bare).stdout
    said, _ = waiting.communicate('{"cniVersion": "1.1.0"}', timeout=30)
    assert "supportedVersions" in said


def _is_busy(path: Path) -> bool:
    """Whether writing to it is refused because it is executed."""
    try:
        path.open("r+b").close()
    except OSError as error:
        return error.errno == errno.ETXTBSY
    return False


@pytest.mark.timeout(240)  # 20 s on a machine that does nothing else
def test_no_call_fails_while_versions_are_switched(bare: BareRoot, release: Release) -> None:
    install(release(OLD), bare)
    ended = threading.Event()
    failed: list[str] = []
    made = [0] * CALLERS

    def call(number: int) -> None:
        while not ended.is_set():
            reply = bare.call({"CNI_COMMAND": "VERSION"}, '{"cniVersion": "1.1.0"}')
            made[number] += 1
            if reply.returncode:
                failed.append(f"{reply.stdout!r} {reply.stderr}")

    callers = [threading.Thread(target=call, args=(number,)) for number in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        with contextlib.ExitStack() as held:
            for turn in range(SWITCHES):
                done = install(release((NEW, OLD)[turn % 2]), bare)
                assert done.returncode == 0, done.stderr
                if turn in (
                    WITH_REMOVAL,
                    WITH_REMOVAL + 1,
                ):  # from now on both stay, and turns are quick
                    held.enter_context(running(bare))
    finally:
        ended.set()
        for caller in callers:
            caller.join()
    assert not failed, failed[:3]
    assert min(made) >= SWITCHES // CALLERS  # they were really made meanwhile


def test_two_at_once_follow_each_other(bare: BareRoot, release: Release) -> None:
    both = [
        bare.node.spawn(*command(release(one)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for one in (OLD, NEW)
    ]
    assert [one.communicate(timeout=60) and one.returncode for one in both] == [0, 0]
    assert versions(bare) == [version(bare)]


def test_a_damaged_version_is_replaced_beside_it(bare: BareRoot, tree: Path) -> None:
    install(tree, bare)
    first = (bare.path / "opt/podwire/current").readlink().name
    (bare.path / "opt/podwire/current/lib/libc.so.6").write_bytes(b"")
    assert install(tree, bare).returncode == 0
    bare.run("/opt/cni/bin/podwire", "--version").ok()
    assert (bare.path / "opt/podwire/current").readlink().name == f"{first}-2"


def test_a_damaged_tree_is_not_installed(bare: BareRoot, release: Release) -> None:
    install(release(OLD), bare)
    torn = release("0.0.7")
    library = torn / "lib" / "libc.so.6"
    whole = library.read_bytes()
    library.unlink()
    library.write_bytes(whole[:-1])
    done = install(release(OLD), bare, "--from", str(torn))
    assert done.returncode == 1
    assert "libc.so.6 is not as it was built" in done.stderr
    assert (version(bare), versions(bare)) == (OLD, [OLD])


def test_a_tree_of_another_architecture_is_refused(bare: BareRoot, release: Release) -> None:
    other = release("0.0.6")
    about = (other / "RELEASE").read_text().replace("x86_64", "sparc").replace("aarch64", "sparc")
    (other / "RELEASE").write_text(about)
    done = install(release(OLD), bare, "--from", str(other))
    assert done.returncode == 1
    assert "for sparc, this node is" in done.stderr
    assert not (bare.path / "opt").exists()


def test_a_read_only_node_is_told_of(bare: BareRoot, release: Release) -> None:
    install(release(OLD), bare)
    bare.node.run("mount", "--bind", f"{ROOT}/opt/podwire", f"{ROOT}/opt/podwire")
    bare.node.run("mount", "-o", "remount,bind,ro", f"{ROOT}/opt/podwire")
    done = install(release(NEW), bare)
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr
    assert "read-only file system: mount it writable" in done.stderr
    assert version(bare) == OLD


def test_a_read_only_folder_of_plugins_is_found_before_the_tree_is_copied(
    bare: BareRoot, release: Release
) -> None:
    (bare.path / "opt/cni/bin").mkdir(parents=True)
    bare.node.run("mount", "-t", "tmpfs", "-o", "ro", "none", f"{ROOT}/opt/cni/bin")
    done = install(release(NEW), bare)
    assert done.returncode == 1
    assert f"{ROOT}/opt/cni/bin: Read-only file system" in done.stderr
    assert "nothing was changed" in done.stderr
    assert [path.name for path in (bare.path / "opt/podwire").iterdir()] == ["lock"]


def test_a_folder_that_executes_nothing_is_told_of(bare: BareRoot, tree: Path) -> None:
    (bare.path / "opt/podwire").mkdir(parents=True)
    bare.node.run("mount", "-t", "tmpfs", "-o", "noexec", "none", f"{ROOT}/opt/podwire")
    done = install(tree, bare)
    assert done.returncode == 1
    assert "noexec" in done.stderr
    assert "nothing was changed" in done.stderr
    assert not list((bare.path / "opt/podwire/versions").iterdir())
    assert not (bare.path / "opt/cni/bin/podwire").exists()


def test_a_full_disk_is_noticed_before_anything_changes(bare: BareRoot, release: Release) -> None:
    (bare.path / "opt/podwire").mkdir(parents=True)
    bare.node.run("mount", "-t", "tmpfs", "-o", "size=70m", "none", f"{ROOT}/opt/podwire")
    install(release(OLD), bare)
    done = install(release(NEW), bare)
    assert done.returncode == 1
    assert "MiB free, wanted" in done.stderr
    assert (version(bare), versions(bare)) == (OLD, [OLD])


def test_a_disk_that_fills_meanwhile_leaves_what_was_there(bare: BareRoot, tree: Path) -> None:
    """Of a file system's own needs statfs does not tell: here no more than so many files."""
    (bare.path / "opt/cni/bin").mkdir(parents=True)
    bare.node.run("mount", "-t", "tmpfs", "-o", "size=64k", "none", f"{ROOT}/opt/cni/bin")
    (bare.path / "opt/cni/bin/podwire").write_text("the one before")
    done = install(tree, bare)
    assert done.returncode == 1
    assert f"{ROOT}/opt/cni/bin/podwire: No space left on device" in done.stderr
    assert "switched" in done.stdout
    assert [path.name for path in (bare.path / "opt/cni/bin").iterdir()] == ["podwire"]
    assert (bare.path / "opt/cni/bin/podwire").read_text() == "the one before"
