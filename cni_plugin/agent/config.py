"""The agent's config: what each key may be. Every key is optional.

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

import os
from importlib.util import find_spec
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core.core_schema import ValidationInfo

from cni_plugin.agent.config_file import read_document
from cni_plugin.agent.hosts import endpoint_fault, host_port
from cni_plugin.cluster.conf import SWITCH, ClusterConf, on_or_off
from cni_plugin.cluster.conflist_conf import TEMPLATE
from cni_plugin.cni.errors import CNIError, InvalidNetworkConfig
from cni_plugin.cni.model_faults import InvalidDocument, faults
from cni_plugin.cni.names import shown
from cni_plugin.folder import STATE_DIR
from ipam.values import DEFAULT_DATA_DIR

SOCKET_PATH_MAX = 107  # bytes, sun_path less its NUL, linux/un.h
UNIX = "unix:"
STOP_LIMIT_MAX_S = 600

SOCKET = f"an absolute path of at most {SOCKET_PATH_MAX} bytes"
PLACE = f"HOST:PORT, [IPv6 ADDRESS]:PORT, {UNIX} with {SOCKET}, or off"
DIRS = "a list of absolute, normalised paths, at least one and none twice"
ENDPOINT = "a URL such as http://192.0.2.1:4318/v1/traces"


class _Model(BaseModel):
    """Each description says what is accepted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class LogConfig(_Model):
    """How the log is written, to stderr."""

    format: Literal["text", "json"] = Field(default="text", description="text or json")
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error"
    )


class TracingConfig(_Model):
    """Where spans go: an OTLP collector's URL for traces, over HTTP."""

    endpoint: str = Field(description=ENDPOINT)

    @field_validator("endpoint")
    @classmethod
    def _endpoint(cls, url: str) -> str:
        fault = endpoint_fault(url)
        if fault:
            raise ValueError(fault)
        return url


class AgentConfig(_Model):
    """What the agent does, every default filled in."""

    socket: str = Field(default=f"{STATE_DIR}/agent.sock", description=SOCKET)
    log: LogConfig = Field(default=LogConfig(), description="an object of format and level")
    metrics: str = Field(default="127.0.0.1:9750", description=PLACE)
    # on: the exporter's own variables (OTEL_EXPORTER_OTLP_ENDPOINT, ...) say where to.
    tracing: Literal["on", "off"] | TracingConfig = Field(
        default="off", description=f"off, on, or an object of endpoint, {ENDPOINT}"
    )
    # What others take away from under the pods is put back.
    repair: bool = Field(default=True, description=SWITCH)
    # What dead pods left is freed.
    garbage: bool = Field(default=True, description=SWITCH)
    data_dirs: tuple[str, ...] = Field(
        default=(DEFAULT_DATA_DIR,),
        alias="dataDirs",
        strict=False,
        min_length=1,
        description=DIRS,
    )
    # Without it the node is by itself.
    cluster: ClusterConf | None = Field(
        default=None, description="an object of source and others, see docs/cluster.md"
    )
    stop_limit_s: float = Field(
        default=25.0,
        alias="stopLimit",
        ge=0,
        le=STOP_LIMIT_MAX_S,
        description=f"a number of seconds from 0 to {STOP_LIMIT_MAX_S}",
    )

    @field_validator("socket")
    @classmethod
    def _socket(cls, path: str) -> str:
        return _socket_path(path)

    @field_validator("data_dirs")
    @classmethod
    def _data_dirs(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(paths)) < len(paths) or not all(map(_is_normal, paths)):
            raise ValueError(DIRS)
        return paths

    @field_validator("metrics", "tracing", mode="before")
    @classmethod
    def _switch(cls, value: object) -> object:
        return on_or_off(value)

    @field_validator("metrics")
    @classmethod
    def _metrics(cls, place: str, info: ValidationInfo) -> str:
        if place.startswith(UNIX):
            path = _socket_path(place.removeprefix(UNIX))
            if "socket" in info.data and _real(path) == _real(info.data["socket"]):
                raise ValueError(f"another path than that of `socket`, {info.data['socket']}")
        elif place != "off" and host_port(place) is None:
            raise ValueError(PLACE)
        return place


def _socket_path(path: str) -> str:
    if not path.startswith("/") or "\0" in path or len(os.fsencode(path)) > SOCKET_PATH_MAX:
        raise ValueError(SOCKET)
    return path


def _real(path: str) -> str:
    """One spelling of a path: /var/run is a link to /run."""
    return os.path.realpath(path)


def _is_normal(path: str) -> bool:
    """As the store asks of a config's dataDir."""
    absolute = path.startswith("/") and not path.startswith("//") and "\0" not in path
    return absolute and os.path.normpath(path) == path


def read_config(path: str | None, socket: str | None = None, *, files: bool = True) -> AgentConfig:
    """The config in the file; the defaults without one. socket: in place of the file's. files: what
    is wrong with a config list's template in a file of its own is a fault, too. Raises
    InvalidNetworkConfig with every fault, and OSError."""
    document = {} if path is None else read_document(path)
    if socket is not None:
        document = {**document, "socket": socket}
    where = path or "the command line"
    config = config_of(document, where)
    _try_template(config, where, files=files)
    return config


def config_of(document: dict[str, object], where: str) -> AgentConfig:
    """where: the document's name. Raises InvalidNetworkConfig with every fault."""
    try:
        return AgentConfig.model_validate(document)
    except RecursionError as error:
        raise InvalidNetworkConfig(f"{where} refers to itself") from error
    except ValidationError as error:
        raise InvalidDocument(where, faults(error, AgentConfig, "the agent's config")) from error


def read_own_config(
    path: str | None, socket: str | None = None, *, files: bool = True
) -> AgentConfig:
    """The same for the agent itself, which also needs what the config asks for: one that runs, and
    is told to trace, goes on without rather than end."""
    config = read_config(path, socket, files=files)
    if config.tracing != "off" and find_spec("opentelemetry") is None:
        raise InvalidNetworkConfig(
            f"{path or 'the command line'}: tracing needs OpenTelemetry, which is not here",
            "pip install 'podwire[tracing]' brings it, `tracing: off` does without",
        )
    return config


def _try_template(config: AgentConfig, where: str, *, files: bool) -> None:
    """The config list is needed later: what is wrong with its template is told now."""
    conflist = config.cluster.conflist if config.cluster else None
    if conflist is None or (isinstance(conflist.template, str) and not files):
        return
    key = "cluster.conflist.template"
    try:
        conflist.read_template()
    except CNIError as error:
        raise InvalidNetworkConfig(f"{where}: {key}: {error.msg}", error.details) from error
    except OSError as error:
        unread = f"{shown(conflist.template)}, which cannot be read: {error.strerror}"
        raise InvalidNetworkConfig(
            f"{where}: {key} is {unread}", f"accepted: {TEMPLATE}"
        ) from error
