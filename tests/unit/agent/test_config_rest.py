"""What an uninstallation takes of a config that is wrong: each place for itself, or the default."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from cni_plugin.agent import config_rest
from cni_plugin.agent.config_rest import Rest, read_rest
from cni_plugin.cluster.conflist import DEFAULT_PATH

STORE = ("/var/lib/cni/networks",)


class Places(NamedTuple):
    """What is used. api: None where no annotation is looked at."""

    dirs: tuple[str, ...] = STORE
    conflist: str = DEFAULT_PATH
    node: str = "me"
    api: str | None = None


def places(rest: Rest) -> Places:
    cluster = rest.config.cluster
    assert cluster is not None
    conflist = cluster.conflist.path if cluster.conflist else DEFAULT_PATH
    api = cluster.source.kubernetes
    return Places(
        rest.config.data_dirs, conflist, cluster.node, (api and api.server) or (api and "")
    )


@pytest.fixture(autouse=True)
def own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_NAME", "me")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


def read(folder: Path, text: str) -> Rest:
    path = folder / "agent.yaml"
    path.write_text(text)
    return read_rest(str(path))


LIST = "/etc/x/10-podwire.conflist"
API = "{kubernetes: {server: 'https://192.0.2.1:6443'}}"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", Places()),
        ("[", Places()),
        ("7", Places()),
        ("cluster: 7\ndataDirs: [/a]", Places(("/a",))),
        ("backend: gre\ndataDirs: [/a, /b]", Places(("/a", "/b"))),
        ("dataDirs: [a]", Places()),
        (f"cluster: {{conflist: {{path: {LIST}, onStop: x}}}}", Places(conflist=LIST)),
        (f"cluster: {{source: {API}, backend: gre}}", Places(api="https://192.0.2.1:6443")),
        (
            f"cluster: {{source: {API}, node: n, mtu: x}}",
            Places(node="n", api="https://192.0.2.1:6443"),
        ),
        ("cluster: {source: {file: /p}, node: ../x}", Places()),
        ("cluster: {source: {kubernetes: {server: 7}}, node: n}", Places(node="n")),
        ("dataDirs: &x [*x]", Places()),
    ],
)
def test_each_place_counts_for_itself(tmp_path: Path, text: str, wanted: Places) -> None:
    rest = read(tmp_path, text) if text else read_rest(str(tmp_path / "none"))
    assert rest.fault
    assert places(rest) == wanted


def test_a_sound_config_is_used_whole_without_its_template(tmp_path: Path) -> None:
    text = f"cluster: {{source: {API}, conflist: {{path: {LIST}, template: /gone}}}}"
    rest = read(tmp_path, text)
    assert rest.fault == ""
    assert places(rest) == Places(STORE, LIST, "me", "https://192.0.2.1:6443")


def test_in_a_pod_the_api_is_the_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "192.0.2.1")
    monkeypatch.setattr(config_rest, "SERVICE_ACCOUNT", str(tmp_path))
    assert places(read(tmp_path, "[")).api is None, "without an account"
    (tmp_path / "token").write_text("t")
    assert places(read(tmp_path, "[")).api == ""
    assert places(read(tmp_path, "cluster: {source: {file: /p}, mtu: x}")).api is None
