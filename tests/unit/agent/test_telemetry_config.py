"""How the agent's config says what it tells, and what is said when a package is missing."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from cni_plugin.agent.config import AgentConfig, TracingConfig, read_config, read_own_config
from cni_plugin.agent.telemetry import Telemetry
from cni_plugin.cni.errors import CNIError


def config(folder: Path, text: str) -> AgentConfig:
    """What a file with this text says."""
    path = folder / "agent.yaml"
    path.write_text(text)
    return read_config(str(path))


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither prometheus-client nor OpenTelemetry is installed."""
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.partition(".")[0] in {"prometheus_client", "opentelemetry"}:
            raise ModuleNotFoundError(f"No module named {name!r}")
        if name in {"cni_plugin.agent.metrics", "cni_plugin.agent.tracing"}:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)


@pytest.mark.parametrize("word", ["off", "'off'", "false"])
def test_off_is_off_though_yaml_takes_it_for_a_boolean(tmp_path: Path, word: str) -> None:
    found = config(tmp_path, f"metrics: {word}\ntracing: {word}\n")
    assert (found.metrics, found.tracing) == ("off", "off")


def test_tracing_is_on_or_has_an_endpoint(tmp_path: Path) -> None:
    assert config(tmp_path, "tracing: on").tracing == "on"
    endpoint = "http://192.0.2.1:4318/v1/traces"
    found = config(tmp_path, f"tracing: {{endpoint: {endpoint!r}}}")
    assert found.tracing == TracingConfig(endpoint=endpoint)


@pytest.mark.parametrize(
    "text", ["metrics: on", "metrics: 9750", "tracing: maybe", "tracing: {endpoint: nowhere}"]
)
def test_anything_else_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(CNIError, match=text.partition(":")[0]):
        config(tmp_path, text)


@pytest.mark.usefixtures("missing")
def test_without_prometheus_client_the_log_says_how_to_install_it(
    capfd: pytest.CaptureFixture[str],
) -> None:
    Telemetry(AgentConfig()).close()
    (line,) = capfd.readouterr().err.splitlines()
    assert "level=warning" in line
    assert "pip install 'podwire[agent]'" in line


@pytest.mark.usefixtures("missing")
def test_without_opentelemetry_tracing_that_is_asked_for_is_an_error() -> None:
    with pytest.raises(CNIError, match=r"pip install 'podwire\[tracing\]'"):
        Telemetry(AgentConfig(tracing="on", metrics="off"))


def test_without_opentelemetry_a_config_that_asks_for_tracing_is_refused_by_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cni_plugin.agent.config.find_spec", lambda _name: None)
    path = tmp_path / "agent.yaml"
    path.write_text("tracing: on")
    with pytest.raises(CNIError, match="tracing needs OpenTelemetry"):
        read_own_config(str(path))
    assert read_config(str(path)).tracing == "on", "who only looks at it does not trace"
