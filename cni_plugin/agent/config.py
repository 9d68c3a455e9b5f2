"""The agent's config file: YAML, every key optional.

socket: /run/podwire/agent.sock
log: {format: text, level: info}
metrics: 127.0.0.1:9750
repair: true
garbage: true
tracing: off
dataDirs: [/var/lib/cni/networks]
stopLimit: 25
cluster: {source: {file: /etc/podwire/peers.yaml}}   # see cluster.conf
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cni_plugin.cluster.conf import ClusterConf
from cni_plugin.cni.errors import InvalidNetworkConfig
from cni_plugin.cni.names import shown
from cni_plugin.folder import STATE_DIR
from ipam.values import DEFAULT_DATA_DIR

SOCKET_PATH_MAX = 107  # bytes, sun_path less its NUL, linux/un.h
UNIX = "unix:"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class LogConfig(_Model):
    """How the log is written, to stderr."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


class TracingConfig(_Model):
    """Where spans go: an OTLP collector's URL for traces, over HTTP."""

    endpoint: Annotated[str, Field(pattern=r"^https?://[^/\s]+(/\S*)?$")]


class AgentConfig(_Model):
    """What the agent does, every default filled in."""

    socket: str = f"{STATE_DIR}/agent.sock"
    log: LogConfig = LogConfig()
    metrics: str = "127.0.0.1:9750"  # HOST:PORT, unix:PATH, or off
    # on: the exporter's own variables (OTEL_EXPORTER_OTLP_ENDPOINT, ...) say where to.
    tracing: Literal["on", "off"] | TracingConfig = "off"
    repair: bool = True  # what others take away from under the pods is put back
    garbage: bool = True  # what dead pods left is freed
    data_dirs: tuple[str, ...] = Field(default=(DEFAULT_DATA_DIR,), alias="dataDirs")
    cluster: ClusterConf | None = None  # without it: one node by itself
    stop_limit_s: Annotated[float, Field(ge=0, le=600)] = Field(default=25.0, alias="stopLimit")

    @field_validator("socket")
    @classmethod
    def _socket(cls, path: str) -> str:
        return _absolute(path)

    @field_validator("data_dirs")
    @classmethod
    def _data_dirs(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_absolute, paths))

    @field_validator("metrics", "tracing", mode="before")
    @classmethod
    def _switch(cls, value: object) -> object:
        """YAML 1.1 takes on and off for booleans."""
        return ("on" if value else "off") if isinstance(value, bool) else value

    @field_validator("metrics")
    @classmethod
    def _metrics(cls, place: str) -> str:
        if place == "off":
            return place
        if place.startswith(UNIX):
            return UNIX + _absolute(place.removeprefix(UNIX))
        host, colon, port = place.rpartition(":")
        if not colon or not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise ValueError("HOST:PORT, unix:/PATH or off is accepted")
        return place


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path or len(path.encode()) > SOCKET_PATH_MAX:
        raise ValueError(f"an absolute path of at most {SOCKET_PATH_MAX} bytes is accepted")
    return path


def read_config(path: str | None, socket: str | None = None) -> AgentConfig:
    """The config in the file; the defaults without one. socket: in place of the file's. Raises
    InvalidNetworkConfig with every fault, and OSError."""
    document = {} if path is None else _document(path)
    if socket is not None:
        document = {**document, "socket": socket}
    where = path or "the command line"
    try:
        return AgentConfig.model_validate(document)
    except RecursionError as error:
        raise InvalidNetworkConfig(f"{where} refers to itself") from error
    except ValidationError as error:
        faults = [_fault(one["loc"], one["input"], one["msg"]) for one in error.errors()]
        raise InvalidNetworkConfig(f"{where}: {faults[0]}", "; ".join(faults[1:])) from error


def _document(path: str) -> dict[str, object]:
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidNetworkConfig(f"{path} is no YAML", str(error).replace("\n", " ")) from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InvalidNetworkConfig(f"{path} holds {shown(document)}, accepted: a mapping")
    return document


def _fault(place: tuple[int | str, ...], value: object, why: str) -> str:
    where = ".".join(map(str, place))
    if "Extra inputs" in why and len(place) > 1:
        return f"{where} is no key of the agent's config"
    if "Extra inputs" in why:
        known = ", ".join(field.alias or name for name, field in AgentConfig.model_fields.items())
        return f"{where} is no key of the agent's config; it has {known}"
    return f"{where} is {shown(value)}: {why.removeprefix('Value error, ')}"
