"""make test-machine: the suite, or a part of it, on Debian's own kernel in a virtual machine.

Run as `make test-machine ARCH=arm64 ARGS='tests/install -k bare'`. ARCH: amd64, otherwise arm64.
qemu translates, which takes some ten times as long. What is made once is kept in build/machine.
Status: pytest's, 3 when there was no machine.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from roots import MACHINE, Machine, base, in_tools
from source import lay

ARCHES = {
    "arm64": Machine("arm64", "aarch64", "qemu-system-aarch64 -M virt -cpu cortex-a57", "ttyAMA0"),
    "amd64": Machine("amd64", "x86_64", "qemu-system-x86_64 -M q35 -cpu max", "ttyS0"),
}
# A part that shows each layer: the launcher, the tree on a node without Python, attachments by
# netlink and nftables, host ports, tunnels, the agent.
SHOWN = (
    "tests/launcher/test_wire.py", "tests/install/test_bare_node.py",
    "tests/netns/test_attachment.py", "tests/netns/test_host_ports.py::test_all_in_one_plugin",
    "tests/netns/test_tunnel.py", "tests/agent/test_calls.py",
)  # fmt: skip
MEMORY_MIB = 2048
NO_MACHINE = 3
ENDED = "podwire-machine: status "


def main() -> int:
    """One run."""
    machine = ARCHES[os.environ.get("ARCH") or "arm64"]
    asked = shlex.split(os.environ.get("ARGS", "")) or list(SHOWN)
    made = base(machine)
    with tempfile.TemporaryDirectory(prefix="run-", dir=MACHINE) as folder:
        disk = lay(machine, Path(folder), asked)
        return boot(machine, made, disk)


def boot(machine: Machine, made: Path, disk: Path) -> int:
    """Runs it to its end; what it says is shown."""
    inside = [f"/machine/{path.relative_to(MACHINE)}" for path in (made, disk)]
    drives = [
        word
        for number, (path, snapshot) in enumerate(zip(inside, ("on", "off"), strict=True))
        for word in (
            "-drive", f"if=none,id=d{number},file={path}/disk,format=raw,snapshot={snapshot}",
            "-device", f"virtio-blk-pci,drive=d{number}",
        )
    ]  # fmt: skip
    command = [
        *shlex.split(machine.emulator), "-accel", "tcg", "-smp", str(os.cpu_count() or 1),
        "-m", str(MEMORY_MIB), "-nographic", "-no-reboot",
        "-net", "none", "-kernel", f"{inside[0]}/kernel", "-initrd", f"{inside[0]}/initrd",
        "-append", f"console={machine.console} quiet loglevel=1 panic=-1", *drives,
    ]  # fmt: skip
    process = subprocess.Popen(
        in_tools(*command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        errors="replace",
    )  # fmt: skip
    status = NO_MACHINE
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(ENDED):
            status = int(line.removeprefix(ENDED))
        else:
            print(line.rstrip("\r\n"), flush=True)
    process.wait()
    if status == NO_MACHINE:
        print("podwire: the machine ended before the suite did", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
