"""make test-kubernetes: podwire on a cluster that the real kubeadm makes, scene by scene.

Two nodes with the real kubelet, API server, controllers, scheduler and kube-proxy, of Debian's
source (hack/kubernetes.sh). Run in hack/sandbox.sh. Status 1 when a scene failed or nothing could
be played.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from play import play

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.kubernetes.scenes import SCENES  # noqa: E402
from tests.support.kubernetes.world import opened  # noqa: E402

if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="podwire-kubernetes-") as made:
        sys.exit(play("test-kubernetes", opened(Path(made)), SCENES))
