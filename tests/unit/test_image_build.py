"""`make image` finds a builder, or says what is missing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cni_plugin import __version__

SCRIPT = Path(__file__).resolve().parents[2] / "hack" / "image" / "build.sh"
TELL = '#!/bin/sh\n[ "$1" != info ] || exit {info}\necho "{name} $*"\n'


def build(
    folder: Path, builders: dict[str, int], *arguments: str, **env: str
) -> subprocess.CompletedProcess[str]:
    """The script where only these builders are. builders: the status of `info`, by name."""
    for tool in ("sh", "sed", "dirname"):
        (folder / tool).symlink_to(f"/bin/{tool}" if tool == "sh" else f"/usr/bin/{tool}")
    for name, info in builders.items():
        (folder / name).write_text(TELL.format(name=name, info=info))
        (folder / name).chmod(0o755)
    return subprocess.run(
        [SCRIPT, *arguments],
        env={"PATH": str(folder), **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_builder_it_says_what_is_missing(tmp_path: Path) -> None:
    done = build(tmp_path, {})
    assert (done.returncode, done.stdout) == (1, "")
    assert "docker (with its daemon running), podman or buildah" in done.stderr


@pytest.mark.parametrize(
    ("builders", "chosen"),
    [
        ({"docker": 0, "podman": 0}, "docker"),
        ({"docker": 1, "podman": 0}, "podman"),  # a client without a daemon
        ({"buildah": 0}, "buildah"),
    ],
)
def test_the_first_that_is_usable_builds(
    tmp_path: Path, builders: dict[str, int], chosen: str
) -> None:
    done = build(tmp_path, builders)
    assert done.returncode == 0
    image = f"docker.io/library/podwire:{__version__}"
    image = f"-f Dockerfile -t {image} --build-arg VERSION={__version__}"
    assert done.stdout == f"{chosen} build {image} .\n"


def test_name_base_platform_and_more_are_passed_on(tmp_path: Path) -> None:
    env = {"IMAGE": "x:1", "BASE": "b@sha256:0", "PLATFORM": "linux/arm64"}
    done = build(tmp_path, {"podman": 0}, "--no-cache", **env)
    for words in ("-t x:1", "--build-arg BASE=b@sha256:0", "--platform linux/arm64", "--no-cache"):
        assert words in done.stdout
