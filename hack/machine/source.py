"""The disk of one run: this tree, a virtual environment for the other processor, and the script."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from roots import ROOT, Machine, make_disk

DISK_MIB = 600
OPTIONS = "--color=no -o timeout=600"  # a translated processor takes ten times as long
PYTHON = "/usr/bin/python3.11"
NOT_TAKEN = ("ruff", "mypy", "import-linter", "types-pyyaml")  # of `dev`: linters
SCRIPT = "#!/src/.venv/bin/python\nimport sys\nfrom {module} import main\nsys.exit(main())\n"


def lay(machine: Machine, folder: Path, pytest_arguments: Sequence[str]) -> Path:
    """The folder that has the disk."""
    source = folder / "src"
    source.mkdir()
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "-z"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    _environment(machine, source)
    (source / "run.sh").write_text(
        f"cd /src && exec .venv/bin/python -m pytest {OPTIONS} {shlex.join(pytest_arguments)}\n"
    )
    make_disk(source, folder / "disk", DISK_MIB)
    shutil.rmtree(source)
    return folder


def _environment(machine: Machine, source: Path) -> None:
    """.venv, whose Python is the machine's."""
    venv = source / ".venv"
    site = venv / "lib" / "python3.11" / "site-packages"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    for name in ("python", "python3"):
        (venv / "bin" / name).symlink_to(PYTHON)
    build = {"PYTHONPATH": str(ROOT / ".venv" / "build-tools")}
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(venv), str(source)]
    _pip(*wheel, env=build)
    options = configparser.ConfigParser()
    options.read(ROOT / "setup.cfg")
    lines = f"{options['options']['install_requires']}{options['options.extras_require']['dev']}"
    wanted = [
        line
        for line in lines.splitlines()
        if line and not line.startswith("#") and not line.lower().startswith(NOT_TAKEN)
    ]
    platforms = [f"--platform=manylinux{tag}_{machine.cpu}" for tag in ("_2_17", "2014", "_2_28")]
    _pip(
        "install", "--target", str(site), "--only-binary=:all:", "--no-compile", *platforms,
        "--python-version=3.11", "--implementation=cp", *wanted,
        str(next(venv.glob("podwire-*.whl"))),
    )  # fmt: skip
    for name, module in (("podwire", "cni_plugin.__main__"), ("podwire-ipam", "ipam.plugin")):
        (venv / "bin" / name).write_text(SCRIPT.format(module=module))
        (venv / "bin" / name).chmod(0o755)
    for made in (*venv.glob("*.whl"), source / "build", *source.glob("*.egg-info")):
        shutil.rmtree(made) if made.is_dir() else made.unlink(missing_ok=True)


def _pip(*arguments: str, env: dict[str, str] | None = None) -> None:
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *quiet, *arguments],
        env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        sys.exit(f"podwire: pip {arguments[0]}: {done.stderr.strip()}")
