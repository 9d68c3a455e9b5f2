"""A desk for the protocol: one node and pod for a file of tests, and a run of an executable."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import Node, Pod, Reply, open_node
from tests.support.snapshot import Snapshot, take

Json = dict[str, Any]
CONF: Json = {
    "cniVersion": "1.1.0",
    "name": "net",
    "type": "podwire",
    "bridge": "cni0",
    "isGateway": True,
    "ipam": {
        "type": "podwire-ipam",
        "ranges": [[{"subnet": "10.244.0.0/24"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    },
}


@dataclass
class Desk:
    """A node with one pod. `clean` is the node before any test."""

    node: Node
    pod: Pod
    clean: Snapshot

    def env(self, verb: str, **changes: str | None) -> dict[str, str]:
        """A runtime's variables for the verb; a change to None leaves the variable out."""
        full: dict[str, str | None] = {"CNI_COMMAND": verb, "CNI_ARGS": ""}
        if verb in {"ADD", "CHECK", "DEL"}:
            full |= {
                "CNI_CONTAINERID": self.pod.container_id,
                "CNI_NETNS": self.pod.netns,
                "CNI_IFNAME": "eth0",
            }
        return {key: value for key, value in {**full, **changes}.items() if value is not None}

    def run(
        self,
        env: Mapping[str, str],
        conf: Mapping[str, Any] | str | bytes,
        executable: str = "podwire",
    ) -> Reply:
        """One run; whatever it was, the streams keep the SPEC's promises."""
        reply = self.node.plugin(executable, env, conf)
        assert b"Traceback" not in reply.stdout
        assert "Traceback" not in reply.stderr
        if reply.returncode:
            error = json.loads(reply.stdout)
            assert {"cniVersion", "code", "msg"} <= error.keys() <= {
                "cniVersion", "code", "msg", "details",
            }  # fmt: skip
            assert isinstance(error["code"], int)
            assert error["code"] > 0
            assert error["msg"]
        return reply

    def left(self) -> list[str]:
        """What is there now and was not before the first test, in the node and in the pod.

        podwire's cache of parsed configs is no state: it may stay and may be deleted."""
        now = take(self.node).without("/run/podwire/configs/")
        return [*self.clean.diff(now), *sorted(self.pod.links())]


@pytest.fixture(scope="module")
def desk(cni_bin: Path) -> Iterator[Desk]:
    """One for all tests of a file."""
    with open_node("desk", cni_bin) as node:
        pod = node.pod()
        yield Desk(node, pod, take(node))


def changed(conf: Mapping[str, Any], changes: Mapping[str, Any]) -> Json:
    """A copy of conf with values put at dotted paths; None removes the key."""
    result: Json = copy.deepcopy(dict(conf))
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = result
        for parent in parents:
            place = place[parent]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return result
