"""make test-node: podwire's DaemonSet on two nodes as kind has them, scene by scene.

Run as `make test-node ARGS='--rounds 10' SUITE=forky`, which is inside hack/sandbox.sh; SUITE is
the Debian that the nodes have, and so their containerd. A line tells of each scene as it ends, with
what was found in it. Status 1 when one failed or nothing could be played.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from play import play

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.kind.scenes import SCENES, World  # noqa: E402
from tests.support.kind.world import opened  # noqa: E402

ROUNDS = 5


def main() -> int:
    """The scenes that were asked for."""
    parser = argparse.ArgumentParser(prog="make test-node ARGS=...")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="upgrades, there and back")
    parser.add_argument("--only", default="", help="scenes whose name has this in it")
    parser.add_argument("--commit", default="", help="whose code is upgraded, else the same")
    parser.add_argument("--image", default="", help="an OCI archive of the image, else its content")
    arguments = parser.parse_args()
    chosen = [scene for scene in SCENES if arguments.only in scene.__name__]
    if not chosen:
        sys.exit(f"podwire: no scene is named like {arguments.only!r}")
    suite = os.environ.get("SUITE", "")
    with tempfile.TemporaryDirectory(prefix="podwire-node-") as folder:
        world = opened(Path(folder), arguments.rounds, arguments.commit, suite, arguments.image)
        return play("test-node", world, chosen, _containerd)


def _containerd(world: World) -> str:
    return "installed, by containerd {}.{}".format(*world.cluster.nodes[0].generation)


if __name__ == "__main__":
    sys.exit(main())
