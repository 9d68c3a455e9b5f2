"""The image's layout, made without a builder and a registry, works as its Dockerfile says; and the
Dockerfile takes nothing that is not pinned."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.bare import ROOT, BareRoot

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
PYTHON = "/usr/lib/podwire/bin/python3"
NOBODY = 65534


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image has beside its base."""
    made = tmp_path_factory.mktemp("image")
    env = {
        **os.environ,
        "PYTHON": sys.executable,
        "SITE": sysconfig.get_path("purelib"),
        "CC": "gcc",
    }
    stage = REPOSITORY / "hack/image/stage.sh"
    subprocess.run([stage, made], check=True, capture_output=True, env=env)
    return made


@pytest.fixture
def image(bare: BareRoot, layout: Path) -> BareRoot:
    """A container of it: a root without Python and libraries, and the layout."""
    bare.node.run("cp", "-a", f"{layout}/usr", ROOT)
    return bare


def _entry(image: BareRoot, *arguments: str, user: int = 0) -> subprocess.CompletedProcess[str]:
    """The entry point with these arguments."""
    entry = re.search(r'^ENTRYPOINT \["(.*)"\]$', DOCKERFILE, re.MULTILINE)
    assert entry
    python = re.search(r"^ENV PODWIRE_PYTHON=(.*)$", DOCKERFILE, re.MULTILINE)
    assert python
    words = image.command(entry[1], *arguments, env={"PODWIRE_PYTHON": python[1]})
    at = words.index("chroot") + 1
    words[at:at] = [f"--userspec={user}:{user}"]
    return image.node.run(*words, check=False)


def test_the_entry_point_is_podwire_of_the_image_for_every_user(image: BareRoot) -> None:
    for user in (0, NOBODY):
        done = _entry(image, "--version", user=user)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("podwire ")


def test_the_image_installs_its_own_tree_on_the_node(image: BareRoot) -> None:
    host = image.path / "host"
    host.mkdir()
    done = _entry(image, "install", "--root", "/host")
    assert done.returncode == 0, done.stderr
    current = host / "opt/podwire/current"
    assert (current / "MANIFEST").read_bytes() == (
        image.path / "usr/lib/podwire/MANIFEST"
    ).read_bytes()
    checked = image.node.run(
        "sh", "-c", f"cd {ROOT}/host/opt/podwire/current && sha256sum --quiet -c MANIFEST"
    )
    assert checked.stdout == ""


def test_the_config_of_an_agent_is_checked(image: BareRoot) -> None:
    image.node.path("/run/agent.yaml").write_text("metrics: 127.0.0.1:9750\n")
    done = _entry(image, "agent", "--check-config", "--config", "/run/agent.yaml", user=0)
    assert (done.returncode, done.stdout) == (0, "/run/agent.yaml: ok\n")


def test_two_builds_are_the_same(layout: Path, tree: Path) -> None:
    one, other = (path / "MANIFEST" for path in (layout / "usr/lib/podwire", tree))
    assert one.read_bytes() == other.read_bytes()


def test_the_base_is_pinned_by_digest() -> None:
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"${BASE}"}


def test_what_is_copied_is_not_ignored() -> None:
    kept = set(re.findall(r"^!(\S+)$", (REPOSITORY / ".dockerignore").read_text(), re.MULTILINE))
    sources = {
        word
        for line in re.findall(r"^COPY (?!--from)(.*) /src\S*$", DOCKERFILE, re.MULTILINE)
        for word in line.split()
    }
    assert sources == kept


def test_the_lock_has_each_package_by_hash() -> None:
    lock = (REPOSITORY / "hack/image/requirements.lock").read_text()
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\\n    --hash=sha256:", lock, re.MULTILINE))
    options = configparser.ConfigParser()
    options.read(REPOSITORY / "setup.cfg")
    extras = options["options.extras_require"]
    lines = f"{options['options']['install_requires']}{extras['agent']}{extras['cluster']}"
    wanted = {re.split(r"[^A-Za-z0-9-]", line)[0].lower() for line in lines.split("\n") if line}
    assert wanted - {"pyroute2"} <= pinned.keys()
    assert len(pinned) == len(re.findall(r"^\S+==", lock, re.MULTILINE))
    assert "://" not in lock
