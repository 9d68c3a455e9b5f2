"""What a real agent tells of the calls it serves: metrics, probes, log lines, spans."""

from __future__ import annotations

import gzip
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

from prometheus_client.parser import text_string_to_metric_families

import cni_plugin
from cni_plugin.cni.values import Attachment
from cni_plugin.disk import DiskRecords
from tests.netns.kit import conf
from tests.support.agent_pages import CONFIG, LOG, METRICS, SOCKET, Agent, agent_on, start
from tests.support.node import Node, wait_until

UNIX = f"unix:{METRICS}"
WAIT_S = 30.0
_FETCH = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"

_HOLD = """
import socket, sys
place = sys.argv[1] if len(sys.argv) == 2 else (sys.argv[1], int(sys.argv[2]))
held = socket.socket(socket.AF_UNIX if len(sys.argv) == 2 else socket.AF_INET)
held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
held.bind(place)
held.listen()
print("listening", flush=True)
sys.stdin.read()
"""

Labels = frozenset[tuple[str, str]]


@contextmanager
def holding(node: Node, *place: object) -> Iterator[None]:
    """Another program of the node listens at a path, or at an address and a port."""
    command = (sys.executable, "-I", "-c", _HOLD, *map(str, place))
    process = node.spawn(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout
        assert process.stdout.readline().strip()
        try:
            yield
        finally:
            process.kill()


def samples(agent: Agent) -> dict[tuple[str, Labels], float]:
    """What a scrape holds, by name and labels."""
    status, text = agent.get("/metrics")
    assert status == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(agent: Agent, name: str, **labels: str) -> float:
    """One sample; 0 when there is none."""
    return samples(agent).get((name, frozenset(labels.items())), 0.0)


def calls(agent: Agent, verb: str, outcome: str = "done", code: int = 0) -> float:
    """How often it counts a verb to have ended so."""
    return value(agent, "podwire_calls_total", verb=verb, outcome=outcome, code=str(code))


def test_a_scrape_counts_and_times_the_calls(node: Node) -> None:
    pods = [node.pod(), node.pod()]
    with agent_on(node, metrics=UNIX) as agent:
        for pod in pods:
            agent.add(pod, conf()).ok()
        agent.delete(pods[0], conf()).ok()
        failed = agent.add(pods[0], conf(name=""))
        # Told after the answer: the caller does not wait for it.
        code = failed.json["code"]
        wait_until(lambda: calls(agent, "ADD", "failed", code) == 1, "all calls are counted")
        found = samples(agent)

    def get(name: str, **labels: str) -> float:
        return found[name, frozenset(labels.items())]

    assert get("podwire_calls_total", verb="ADD", outcome="done", code="0") == 2
    assert get("podwire_calls_total", verb="DEL", outcome="done", code="0") == 1
    assert get("podwire_call_seconds_count", verb="ADD", outcome="done") == 2
    assert get("podwire_stage_seconds_count", verb="ADD", stage="apply") == 2
    assert get("podwire_stage_seconds_count", verb="DEL", stage="release") == 1
    assert get("podwire_wait_seconds_count") == 4
    stages = sum(
        seconds
        for (name, labels), seconds in found.items()
        if name == "podwire_stage_seconds_sum" and ("verb", "ADD") in labels
    )
    whole = sum(
        seconds
        for (name, labels), seconds in found.items()
        if name == "podwire_call_seconds_sum" and ("verb", "ADD") in labels
    )
    assert 0 < stages < whole
    assert get("podwire_calls_open") == 0
    assert get("podwire_lane_calls", lane="quick", state="running") == 0
    assert get("process_resident_memory_bytes") > 1 << 20
    python = ".".join(map(str, sys.version_info[:3]))
    assert get("podwire_build_info", version=cni_plugin.__version__, python=python) == 1


def test_no_series_is_made_of_what_a_caller_sends(node: Node) -> None:
    """Else whoever starts many pods, or asks for nonsense, fills the agent's memory."""
    pod = node.pod("x" * 60)
    with agent_on(node, metrics=UNIX) as agent:
        agent.add(pod, conf()).ok()
        agent.call({"CNI_COMMAND": "NONSENSE", "CNI_CONTAINERID": "y" * 60}, conf())
        wait_until(lambda: value(agent, "podwire_wait_seconds_count") == 2, "both are counted")
        text = agent.get("/metrics")[1]
    assert 'verb="other"' in text
    assert [word for word in ("xxx", "yyy", "NONSENSE", pod.name) if word in text] == []


def test_addresses_are_counted_as_podwire_ipam_counts_them(node: Node) -> None:
    folder = node.path("/etc/cni/net.d")
    folder.mkdir()
    conflist = {"cniVersion": "1.1.0", "name": "net", "plugins": [conf()]}
    (folder / "10-net.conflist").write_text(json.dumps(conflist))
    with agent_on(node, metrics=UNIX) as agent:
        agent.add(node.pod(), conf()).ok()
        page = agent.get("/metrics")[1]
    told = node.run(node.cni_bin / "podwire", "ipam", "stats", "--metrics").stdout.splitlines()

    def gauges(lines: list[str]) -> dict[str, float]:
        pairs = (line.split() for line in lines if line.startswith("podwire_ipam_"))
        return {labels: float(number) for labels, number in pairs}

    assert gauges(told)['podwire_ipam_used_addresses{network="net",set="0"}'] == 1
    assert gauges(page.splitlines()) == gauges(told)


def test_metrics_on_a_port_and_a_port_in_use(node: Node) -> None:
    place = "127.0.0.1:9750"
    with agent_on(node, metrics=place):
        fetch = (sys.executable, "-I", "-c", _FETCH, f"http://{place}/metrics")
        assert "podwire_build_info" in node.run(*fetch).stdout
    with holding(node, "127.0.0.1", 9750):
        refused = node.run(node.cni_bin / "podwire", "agent", check=False)
    assert refused.returncode == 1
    assert f"metrics cannot be served at {place}: Address already in use" in refused.stderr
    assert "set `metrics`" in refused.stderr


def test_the_unix_socket_is_roots_alone_and_goes_at_the_end(node: Node) -> None:
    path = node.path(METRICS)
    node.run(sys.executable, "-c", f"import socket; socket.socket(1).bind({METRICS!r})")  # stale
    with agent_on(node, metrics=UNIX) as agent:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert agent.get("/healthz") == (200, "ok\n")
        assert agent.stop() == 0
    assert not path.exists()


def test_a_unix_socket_in_use_is_not_taken_away(node: Node) -> None:
    path = node.path(METRICS)
    with holding(node, METRICS):
        before = path.lstat().st_ino
        process = start(node, {"metrics": UNIX})
        assert process.wait(WAIT_S) == 1
        assert path.lstat().st_ino == before
    assert f"metrics cannot be served at {UNIX}" in node.path(LOG).read_text()


def test_a_file_at_the_unix_sockets_path_is_not_taken_away(node: Node) -> None:
    path = node.path(METRICS)
    path.write_text("precious")
    process = start(node, {"metrics": UNIX})
    assert process.wait(WAIT_S) == 1
    assert f"metrics cannot be served at {METRICS}" in node.path(LOG).read_text()
    assert path.read_text() == "precious"


def test_other_pages_and_methods(node: Node) -> None:
    with agent_on(node, metrics=UNIX) as agent:
        assert agent.get("/")[0] == 404
        assert agent.get("/metrics/x")[0] == 404
        assert agent.get("/healthz", "POST")[0] == 405
        assert agent.get("/readyz", "HEAD") == (200, "")


def test_an_answer_from_memory_is_counted_too(node: Node) -> None:
    with agent_on(node, metrics=UNIX) as agent:
        for _ in range(3):
            agent.call({"CNI_COMMAND": "STATUS"}, conf()).ok()
        wait_until(lambda: calls(agent, "STATUS", "remembered") == 2, "they are counted")
        assert calls(agent, "STATUS") == 1


def test_clients_that_say_nothing_do_not_keep_a_probe_waiting(node: Node) -> None:
    with agent_on(node, metrics=UNIX) as agent, ExitStack() as idle:
        for _ in range(8):
            idle.enter_context(socket.socket(socket.AF_UNIX)).connect(str(node.path(METRICS)))
        assert agent.get("/healthz") == (200, "ok\n")


def test_a_round_that_fails_is_a_reason_against_being_ready(node: Node) -> None:
    node.path("/run/store").write_text("no folder")
    with agent_on(node, metrics=UNIX, dataDirs=["/run/store"]) as agent:
        wait_until(lambda: agent.get("/readyz")[0] == 503, "not ready")
        assert agent.get("/readyz")[1].startswith("garbage: the last round failed: ")
        assert agent.get("/healthz")[0] == 200
        assert value(agent, "podwire_repair_failures_total", round="garbage") == 1


def test_an_agent_that_stops_is_not_ready_and_lives(node: Node) -> None:
    """A call that waits for another process keeps it stopping for as long as the test looks."""
    pod = node.pod()
    with agent_on(node, metrics=UNIX) as agent:
        assert agent.get("/readyz") == (200, "ok\n")
        agent.add(pod, conf()).ok()
        records = DiskRecords(str(node.path("/run/podwire")))
        lock = records.lock("net", Attachment(pod.container_id, "eth0"))
        with ThreadPoolExecutor(1) as caller:
            with lock:
                answer = caller.submit(agent.delete, pod, conf())
                wait_until(lambda: value(agent, "podwire_calls_open") == 1, "DEL is under way")
                agent.ask_to_stop()
                wait_until(lambda: agent.get("/readyz")[0] == 503, "not ready")
                assert agent.get("/readyz") == (503, "stop: stopping\n")
                assert agent.get("/healthz") == (200, "ok\n")
            answer.result(WAIT_S).ok()
        assert agent.process.wait(WAIT_S) == 0, agent.log()


def test_a_line_of_json_for_each_call(node: Node) -> None:
    pod = node.pod()
    with agent_on(node, log={"format": "json", "level": "debug"}) as agent:
        agent.add(pod, conf(), CNI_ARGS="K8S_POD_NAMESPACE=default;K8S_POD_NAME=web").ok()
        agent.call({"CNI_COMMAND": "ADD", "CNI_CONTAINERID": 'a\n{"message":"forged"}'}, conf())
        agent.stop()
        lines = [json.loads(line) for line in agent.log()]
    told = [line for line in lines if line["message"] == "call"]
    assert [(line["verb"], line["outcome"]) for line in told] == [
        ("ADD", "done"),
        ("ADD", "failed"),
    ]
    assert told[0]["container"] == pod.container_id
    assert told[0]["pod"] == "default/web"
    assert told[0]["apply_ms"] > 0
    assert told[1]["container"] == 'a\n{"message":"forged"}'


def test_a_log_that_nobody_reads_does_not_end_the_agent(node: Node) -> None:
    reading, writing = os.pipe()
    command = (node.cni_bin / "podwire", "agent", "--config", CONFIG)
    node.path(CONFIG).write_text("metrics: off\n")
    process = node.spawn(*command, stderr=writing)
    os.close(writing)
    agent = Agent(node, process)
    try:
        wait_until(node.path(SOCKET).exists, "the agent serves")
        os.close(reading)
        pod = node.pod()
        agent.add(pod, conf()).ok()
        agent.delete(pod, conf()).ok()
        assert agent.stop() == 0
    finally:
        process.kill()
        process.wait(WAIT_S)


class _Collector(BaseHTTPRequestHandler):
    """Keeps what is posted to it."""

    def do_POST(self) -> None:
        assert isinstance(self.server, _CollectorServer)
        length = int(self.headers["Content-Length"])
        self.server.posted.append((self.path, self.rfile.read(length)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing."""


class _CollectorServer(HTTPServer):
    posted: list[tuple[str, bytes]]


def test_spans_reach_the_collector_of_the_config(node: Node) -> None:
    """The collector is in the test's own namespace, at the other end of a cable."""
    node.configure("link add collector type veth peer name agent")
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    node.configure(f"link set collector netns {os.getpid()}")
    for command in (
        "ip addr add 192.0.2.1/24 dev collector",
        "ip link set collector up",
    ):
        subprocess.run(command.split(), check=True)
    node.configure("addr add 192.0.2.2/24 dev agent")
    node.configure("link set agent up")
    server = _CollectorServer(("192.0.2.1", 0), _Collector)
    server.posted = []
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    endpoint = f"http://192.0.2.1:{server.server_port}/v1/traces"
    try:
        with agent_on(node, tracing={"endpoint": endpoint}, environ={"NO_PROXY": "*"}) as agent:
            agent.add(node.pod(), conf(), TRACEPARENT=f"00-{trace}-{span}-01").ok()
            assert agent.stop() == 0
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        subprocess.run(["ip", "link", "delete", "collector"], check=True)
    assert [path for path, _ in server.posted] == ["/v1/traces"]
    body = server.posted[0][1]
    body = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
    parts = (bytes.fromhex(trace), bytes.fromhex(span), b"cni.ADD", b"cni.stage.apply")
    assert [part for part in parts if part not in body] == []
