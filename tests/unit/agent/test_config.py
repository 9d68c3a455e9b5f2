"""The agent's config: what is not meant is refused, with key, value and what is accepted."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from cni_plugin.agent.config import AgentConfig, read_config
from cni_plugin.agent.place import listen
from cni_plugin.cni.errors import CNIError, InvalidNetworkConfig
from cni_plugin.cni.model_faults import faults

DIRS = "a list of absolute, normalised paths, at least one and none twice"
PLACE = "HOST:PORT, [IPv6 ADDRESS]:PORT, unix: with an absolute path of at most 107 bytes, or off"
URL = "a URL with a host and a port from 1 to 65535"
ENDPOINT = "a URL such as http://192.0.2.1:4318/v1/traces"
SECONDS = "a number of seconds from 0 to 600"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "socket: /run/a/b.sock\nmetrics: unix:/run/a/../a/b.sock",
            "accepted: another path than that of `socket`, /run/a/b.sock",
        ),
        ("dataDirs: []", f"dataDirs is [], accepted: {DIRS}"),
        ("dataDirs: [a]", f'dataDirs is ["a"], accepted: {DIRS}'),
        ("dataDirs: [/a/]", f'dataDirs is ["/a/"], accepted: {DIRS}'),
        ("dataDirs: [/a, /a]", f'dataDirs is ["/a", "/a"], accepted: {DIRS}'),
        ("dataDirs: /a", f'dataDirs is "/a", accepted: {DIRS}'),
        ("dataDirs: [1]", f"dataDirs[0] is 1, accepted: {DIRS}"),
        ("metrics: a..b:9750", f'metrics is "a..b:9750", accepted: {PLACE}'),
        ("metrics: '::1:9750'", f'metrics is "::1:9750", accepted: {PLACE}'),
        ("metrics: '[a]:9750'", f'metrics is "[a]:9750", accepted: {PLACE}'),
        ("metrics: a:65536", f'metrics is "a:65536", accepted: {PLACE}'),
        ("metrics: 192.0.2.256:80", f'metrics is "192.0.2.256:80", accepted: {PLACE}'),
        ("metrics: 9750", f"metrics is 9750, accepted: {PLACE}"),
        (
            "tracing: {endpoint: 'http://a:65536/'}",
            f'tracing.endpoint is "http://a:65536/", accepted: {URL}',
        ),
        (
            "tracing: {endpoint: 'http://:80/'}",
            f'tracing.endpoint is "http://:80/", accepted: {URL}',
        ),
        (
            "tracing: {endpoint: 'http://a..b/'}",
            f'tracing.endpoint is "http://a..b/", accepted: {URL}',
        ),
        (
            "tracing: {endpoint: 'http://a:0/'}",
            f'tracing.endpoint is "http://a:0/", accepted: {URL}',
        ),
        (
            "tracing: {endpoint: 'http://[::/'}",
            f'tracing.endpoint is "http://[::/", accepted: {URL}',
        ),
        ("stopLimit: -1", f"stopLimit is -1, accepted: {SECONDS}"),
        ("stopLimit: 1.0e+9", f"stopLimit is 1000000000.0, accepted: {SECONDS}"),
        ("stopLimit: .nan", f"stopLimit is NaN, accepted: {SECONDS}"),
        ("stopLimit: true", f"stopLimit is true, accepted: {SECONDS}"),
        ("stopLimit: '5'", f'stopLimit is "5", accepted: {SECONDS}'),
        ("repair: 1", "repair is 1, accepted: true or false"),
        (f"socket: /{'a' * 107}", "accepted: an absolute path of at most 107 bytes"),
        (
            "sockets: /a",
            "sockets is no key of the agent's config, accepted: socket, log, metrics, tracing,",
        ),
        ("sockets: /a", "dataDirs, cluster, stopLimit; did you mean socket?"),
        ("data_dirs: [/a]", "did you mean dataDirs?"),
        ("backend: vxlan", "did you mean cluster.backend?"),
        ("log: {leval: info}", "accepted in log: format, level; did you mean log.level?"),
        ("log: {format: xml}", 'log.format is "xml", accepted: text or json'),
        ("log: text", 'log is "text", accepted: an object of format and level'),
        ("5: a", "5 is no key of the agent's config"),
        ("dataDirs: [null]", f"dataDirs[0] is null, accepted: {DIRS}"),
        ("tracing: {}", f"tracing.endpoint is missing, accepted: {ENDPOINT}"),
        ("tracing: {endpoint: 5}", f"tracing.endpoint is 5, accepted: {ENDPOINT}"),
        (
            "tracing: maybe",
            f'tracing is "maybe", accepted: off, on, or an object of endpoint, {ENDPOINT}',
        ),
    ],
)
def test_what_is_not_meant_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(text)
    with pytest.raises(InvalidNetworkConfig) as refused:
        read_config(str(path))
    assert str(refused.value).startswith(f"{path}: ")
    assert fault in str(refused.value)


def _objects(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every key."""
    for name, info in model.model_fields.items():
        assert info.description, f"{model.__name__}.{name} does not say what is accepted"
        yield (*path, info.alias or name)
        for below in (info.annotation, *get_args(info.annotation)):
            if isinstance(below, type) and issubclass(below, BaseModel):
                yield from _objects(below, (*path, info.alias or name))


@pytest.mark.parametrize("value", [5, "x", "", True, None, [], [7], {}, {"zz": 1}])
@pytest.mark.parametrize("path", list(_objects(AgentConfig)), ids=".".join)
def test_every_fault_is_told_in_podwires_words(path: tuple[str, ...], value: object) -> None:
    document: Any = value
    for name in reversed(path):
        document = {name: document}
    if "cluster" in document and path not in {("cluster",), ("cluster", "source")}:
        document["cluster"].setdefault("source", {"file": "/p"})
    try:
        AgentConfig.model_validate(document)
    except ValidationError as error:
        lines = faults(error, AgentConfig, "the agent's config")
        where = ".".join(path)
        told = [line.partition(" ")[0] for line in lines]
        assert any(one.startswith(where) or where.startswith(f"{one}.") for one in told)
        for line in lines:
            head, accepted = line.split(", accepted")
            assert re.fullmatch(r"\S+ is .+", head)
            assert not re.search("[Ii]nput should|[Ff]ield|tuple|dict|pattern|valid", accepted)


def test_a_config_is_tried_from_standard_input(podwire: Path) -> None:
    """Before it is in a ConfigMap: by `kubectl exec -i`, where there is no file to write."""

    def run(text: str, *options: str) -> tuple[int, str]:
        command = [podwire, "agent", "--config", "-", *options]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    assert run("repair: false", "--check-config") == (0, "-: ok\n")
    assert run("repair: 1", "--check-config") == (
        1,
        "podwire: -: repair is 1, accepted: true or false\n",
    )
    assert run("repair: false")[0] == 2


def test_each_fault_has_a_line(tmp_path: Path, podwire: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("repair: 1\nbackend: vxlan\ncluster: {}\n")
    command = [podwire, "agent", "--check-config", "--config", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.split(" is ")[0] for line in lines] == [
        f"podwire: {path}: {key}" for key in ("repair", "cluster.source", "backend")
    ]


def test_a_link_on_the_way_is_no_other_path(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    path = tmp_path / "agent.yaml"
    path.write_text(f"metrics: unix:{tmp_path}/link/agent.sock")
    with pytest.raises(InvalidNetworkConfig, match="another path"):
        read_config(str(path), f"{tmp_path}/agent.sock")


def test_what_is_no_yaml_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("repair: true\n[a]: b\n")
    with pytest.raises(InvalidNetworkConfig) as refused:
        read_config(str(path))
    assert str(refused.value) == f"{path} is no YAML; line 2, column 1: found unhashable key"


def test_a_key_that_is_there_twice_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("repair: true\nlog: {level: info, level: debug}\n")
    with pytest.raises(InvalidNetworkConfig) as refused:
        read_config(str(path))
    assert 'the key "level" is there twice, accepted: once' in str(refused.value)
    assert "line 2" in str(refused.value)


@pytest.mark.parametrize(
    "place", ["127.0.0.1:9750", "[::1]:80", "[fe80::1%lo]:80", "localhost:1", "a-b.example.:80"]
)
def test_places_that_are_meant(place: str) -> None:
    assert AgentConfig(metrics=place).metrics == place


@pytest.mark.parametrize("url", ["http://192.0.2.1", "https://[2001:db8::1]:4318/v1/traces"])
def test_endpoints_that_are_meant(tmp_path: Path, url: str) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(f"tracing: {{endpoint: {url!r}}}")
    assert read_config(str(path)).tracing != "off"


@pytest.mark.parametrize("check", [[], ["--check-config"]])
@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "wrong"])
def test_the_command_says_so_and_does_nothing(
    tmp_path: Path, podwire: Path, kind: str, check: list[str]
) -> None:
    path = tmp_path / "agent.yaml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_text("dataDirs: []")
    command = [podwire, "agent", "--config", path, "--socket", f"{tmp_path}/run/a.sock", *check]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_socket_is_not_taken_away(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "agent.sock"
    path.write_text("precious")
    with pytest.raises(CNIError, match=r"calls cannot be served at .*: something else"):
        listen(str(path))
    assert path.read_text() == "precious"
