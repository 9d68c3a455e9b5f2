"""Adds to a CycloneDX list of Python packages what else is in the tree: CPython and libraries.

    python3 hack/image/sbom.py PACKAGES.json TREE >SBOM.json

Libraries are named by the Debian package that owns them, where dpkg knows one. The base image's own
packages are in its /var/lib/dpkg, where scanners look.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OWNER = re.compile(r"([^:]+)(?::\w+)?: /")


def main() -> None:
    """The command line."""
    document = json.loads(Path(sys.argv[1]).read_text())
    tree = Path(sys.argv[2])
    release = json.loads((tree / "RELEASE").read_text())
    podwire = component("application", "podwire", release["version"], "pypi")
    document.setdefault("metadata", {})["component"] = podwire
    document["components"] = [
        *document.get("components", []),
        component("platform", "cpython", release["python"], "generic"),
        *libraries(tree / "lib"),
    ]
    json.dump(document, sys.stdout, indent=1)


def component(kind: str, name: str, version: str, where: str) -> dict[str, Any]:
    """Source: CycloneDX 1.6, component; purl-spec."""
    purl = f"pkg:{where}/{name}@{version}"
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}


def libraries(lib: Path) -> Iterator[dict[str, Any]]:
    """The Debian packages whose libraries lie in the folder, each once."""
    if not shutil.which("dpkg-query"):
        return
    names = [path.name for path in sorted(lib.glob("*.so*"))]
    found = subprocess.run(
        ["dpkg-query", "--search", *(f"*/{name}" for name in names)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    owners = sorted(
        {match[1] for line in found.stdout.splitlines() if (match := OWNER.match(line))}
    )
    for name in owners:
        shown = ["dpkg-query", "--show", "--showformat", "${Version}\n", name]
        version = subprocess.run(shown, capture_output=True, text=True, check=True).stdout.split()[
            0
        ]
        yield component("library", name, version, "deb/debian")


if __name__ == "__main__":
    main()
