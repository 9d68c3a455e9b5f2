"""What a virtual machine is made of, once: qemu, and Debian's files and kernel as a disk."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MACHINE = ROOT / "build" / "machine"
TOOLS = MACHINE / "tools"
SUITE = "bookworm"  # whose Python is the image's
TOOL_PACKAGES = "qemu-system-arm,qemu-system-x86,e2fsprogs,cpio,kmod"
PACKAGES = (
    "python3.11", "iproute2", "nftables", "iptables", "iputils-ping", "conntrack", "kmod",
    "busybox-static", "procps", "containernetworking-plugins", "strace", "gcc", "libc6-dev",
    "musl-tools", "binutils", "openssl",
)  # fmt: skip
# What the kernel needs to find its disk, in the order of their needs.
BOOT_MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
DISK_MIB = 2000


class Machine(NamedTuple):
    """A kind of machine. name: Debian's; cpu: the kernel's and pip's; console: its first one."""

    name: str
    cpu: str
    emulator: str
    console: str


def in_tools(*command: str) -> list[str]:
    """The words that run one of the tools; /machine is MACHINE there."""
    script = f'mount --rbind {MACHINE} {TOOLS}/machine; mount --rbind /dev {TOOLS}/dev; exec "$@"'
    private = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    return [*private, "chroot", str(TOOLS), *command]


def base(machine: Machine) -> Path:
    """A folder with kernel, initrd and the disk of its files. SystemExit when it cannot be made."""
    made = MACHINE / machine.name
    digest = _digest(*(HERE / name for name in ("roots.py", "init.sh", "guest.sh")))
    if (made / "made-by").exists() and (made / "made-by").read_text() == digest:
        return made
    MACHINE.mkdir(parents=True, exist_ok=True)
    if not (TOOLS / "machine").is_dir():
        shutil.rmtree(TOOLS, ignore_errors=True)
        _debootstrap(TOOLS, TOOL_PACKAGES)
        (TOOLS / "machine").mkdir()
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    _fill(machine, made)
    (made / "made-by").write_text(digest)
    return made


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(f.read_bytes() for f in files if f.is_file())).hexdigest()


def _debootstrap(folder: Path, packages: str, *more: str) -> None:
    done = subprocess.run(
        [ROOT / "hack" / "debootstrap.sh", folder, SUITE, packages, *more], check=False
    )
    if done.returncode != 0:
        sys.exit("podwire: no virtual machine: see above")


def _fill(machine: Machine, made: Path) -> None:
    """Packages are only unpacked: their scripts are programs of that machine, none is needed."""
    root = made / "root"
    packages = ",".join((*PACKAGES, f"linux-image-{machine.name}"))
    _debootstrap(root, packages, f"--arch={machine.name}", "--foreign")
    for archive in sorted((root / "var/cache/apt/archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", archive, root], check=True)
        archive.unlink()
    for name in ("passwd", "group"):
        shutil.copy(root / "usr/share/base-passwd" / f"{name}.master", root / "etc" / name)
    for name in ("iptables", "ip6tables"):  # alternatives, which a script would have made
        (root / "usr/sbin" / name).symlink_to("xtables-nft-multi")
    shutil.copy(HERE / "guest.sh", root / "guest.sh")
    for name in ("opt", "src"):
        (root / name).mkdir(exist_ok=True)
    shutil.copy(next(root.glob("boot/vmlinu*")), made / "kernel")
    release = next((root / "lib/modules").iterdir()).name
    _run("depmod", "-b", f"/machine/{machine.name}/root", release)
    _initrd(root, made / "initrd-root", release)
    _run("sh", "-c", f"cd /machine/{machine.name}/initrd-root && find . | cpio -oH newc >../initrd")
    make_disk(root, made / "disk", DISK_MIB)
    for folder in ("root", "initrd-root"):
        shutil.rmtree(made / folder)


def _initrd(root: Path, to: Path, release: str) -> None:
    """busybox, the modules that find the disk, and the script that goes on there."""
    for folder in ("bin", "proc", "dev", "root", "modules"):
        (to / folder).mkdir(parents=True)
    shutil.copy(root / "bin" / "busybox", to / "bin")
    modules = root / "lib/modules" / release
    for number, file in enumerate(_needed((modules / "modules.dep").read_text())):
        shutil.copy(modules / file, to / "modules" / f"{number:02}-{Path(file).name}")
    shutil.copy(HERE / "init.sh", to / "init")


def _needed(listed: str) -> Iterator[str]:
    """Files of BOOT_MODULES, each after those that it needs. Source: modules.dep(5)."""
    of = dict(line.split(":", 1) for line in listed.splitlines())
    seen = set()
    for name in BOOT_MODULES:
        file = next((one for one in of if Path(one).name.startswith(f"{name}.ko")), None)
        for each in (*reversed(of[file].split()), file) if file else ():
            if each not in seen:
                seen.add(each)
                yield each


def make_disk(folder: Path, to: Path, mib: int) -> None:
    """ext4 with the folder's content, a sparse file."""
    places = [f"/machine/{path.relative_to(MACHINE)}" for path in (folder, to)]
    _run("mke2fs", "-q", "-t", "ext4", "-d", *places, f"{mib}M")


def _run(*command: str) -> None:
    done = subprocess.run(in_tools(*command), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"podwire: {' '.join(command)}: {done.stderr.strip()}")
