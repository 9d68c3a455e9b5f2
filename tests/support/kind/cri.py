"""The part of kubelet's interface to its runtime that starts and stops pods.

Messages with the field numbers of k8s.io/cri-api, pkg/apis/runtime/v1/api.proto, and of each only
what is used here: what a message has beyond that is left out by protobuf. Calls take and give
plain values.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

PACKAGE = "runtime.v1"
SERVICE = f"{PACKAGE}.RuntimeService"
LIMIT_S = 120.0  # kubelet's own for most calls
Json = dict[str, Any]

# name: (number, type). `*` before a type: repeated. `map`: of strings to strings. Lower case: a
# scalar. Names as JSON has them (lowerCamelCase).
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Metadata": {
        "name": (1, "string"), "uid": (2, "string"), "namespace": (3, "string"),
        "attempt": (4, "uint32"),
    },
    "DNSConfig": {"servers": (1, "*string"), "searches": (2, "*string"), "options": (3, "*string")},
    "PortMapping": {
        "protocol": (1, "int32"), "containerPort": (2, "int32"), "hostPort": (3, "int32"),
        "hostIp": (4, "string"),
    },
    "NamespaceOption": {"network": (1, "int32"), "pid": (2, "int32"), "ipc": (3, "int32")},
    "SandboxSecurity": {"namespaceOptions": (1, "NamespaceOption"), "privileged": (6, "bool")},
    "LinuxSandbox": {
        "cgroupParent": (1, "string"), "securityContext": (2, "SandboxSecurity"),
        "sysctls": (3, "map"),
    },
    "PodSandboxConfig": {
        "metadata": (1, "Metadata"), "hostname": (2, "string"), "logDirectory": (3, "string"),
        "dnsConfig": (4, "DNSConfig"), "portMappings": (5, "*PortMapping"), "labels": (6, "map"),
        "annotations": (7, "map"), "linux": (8, "LinuxSandbox"),
    },
    "RunPodSandboxRequest": {"config": (1, "PodSandboxConfig")},
    "RunPodSandboxResponse": {"podSandboxId": (1, "string")},
    "StopPodSandboxRequest": {"podSandboxId": (1, "string")},
    "StopPodSandboxResponse": {},
    "RemovePodSandboxRequest": {"podSandboxId": (1, "string")},
    "RemovePodSandboxResponse": {},
    "PodSandboxStatusRequest": {"podSandboxId": (1, "string"), "verbose": (2, "bool")},
    "PodIP": {"ip": (1, "string")},
    "SandboxNetwork": {"ip": (1, "string"), "additionalIps": (2, "*PodIP")},
    "SandboxStatus": {"id": (1, "string"), "state": (3, "int32"), "network": (5, "SandboxNetwork")},
    "PodSandboxStatusResponse": {"status": (1, "SandboxStatus"), "info": (2, "map")},
    "ListPodSandboxRequest": {},
    "Sandbox": {"id": (1, "string"), "metadata": (2, "Metadata"), "state": (3, "int32")},
    "ListPodSandboxResponse": {"items": (1, "*Sandbox")},
    "ImageSpec": {"image": (1, "string")},
    "KeyValue": {"key": (1, "string"), "value": (2, "string")},
    "Mount": {
        "containerPath": (1, "string"), "hostPath": (2, "string"), "readonly": (3, "bool"),
        "propagation": (5, "int32"),
    },
    "Capability": {"addCapabilities": (1, "*string"), "dropCapabilities": (2, "*string")},
    "SecurityProfile": {"profileType": (1, "int32")},
    "Int64": {"value": (1, "int64")},
    "ContainerSecurity": {
        "capabilities": (1, "Capability"), "privileged": (2, "bool"),
        "namespaceOptions": (3, "NamespaceOption"), "runAsUser": (5, "Int64"),
        "readonlyRootfs": (7, "bool"),
        "noNewPrivs": (11, "bool"), "maskedPaths": (13, "*string"),
        "readonlyPaths": (14, "*string"), "seccomp": (15, "SecurityProfile"),
    },
    "Resources": {
        "cpuPeriod": (1, "int64"), "cpuQuota": (2, "int64"), "memoryLimitInBytes": (4, "int64"),
    },
    "LinuxContainer": {"resources": (1, "Resources"), "securityContext": (2, "ContainerSecurity")},
    "ContainerMetadata": {"name": (1, "string"), "attempt": (2, "uint32")},
    "ContainerConfig": {
        "metadata": (1, "ContainerMetadata"), "image": (2, "ImageSpec"), "command": (3, "*string"),
        "args": (4, "*string"), "workingDir": (5, "string"), "envs": (6, "*KeyValue"),
        "mounts": (7, "*Mount"), "logPath": (11, "string"), "linux": (15, "LinuxContainer"),
    },
    "CreateContainerRequest": {
        "podSandboxId": (1, "string"), "config": (2, "ContainerConfig"),
        "sandboxConfig": (3, "PodSandboxConfig"),
    },
    "CreateContainerResponse": {"containerId": (1, "string")},
    "StartContainerRequest": {"containerId": (1, "string")},
    "StartContainerResponse": {},
    "StopContainerRequest": {"containerId": (1, "string"), "timeout": (2, "int64")},
    "StopContainerResponse": {},
    "RemoveContainerRequest": {"containerId": (1, "string")},
    "RemoveContainerResponse": {},
    "ContainerStatusRequest": {"containerId": (1, "string")},
    "ContainerState": {
        "state": (3, "int32"), "exitCode": (7, "int32"), "reason": (10, "string"),
        "message": (11, "string"),
    },
    "ContainerStatusResponse": {"status": (1, "ContainerState")},
    "ExecSyncRequest": {
        "containerId": (1, "string"), "cmd": (2, "*string"), "timeout": (3, "int64"),
    },
    "ExecSyncResponse": {"stdout": (1, "bytes"), "stderr": (2, "bytes"), "exitCode": (3, "int32")},
    "StatusRequest": {},
    "Condition": {
        "type": (1, "string"), "status": (2, "bool"), "reason": (3, "string"),
        "message": (4, "string"),
    },
    "RuntimeStatus": {"conditions": (1, "*Condition")},
    "StatusResponse": {"status": (1, "RuntimeStatus")},
}  # fmt: skip
_FIELD = descriptor_pb2.FieldDescriptorProto


def _message_types() -> dict[str, Any]:
    """The classes of _MESSAGES, by name."""
    file = descriptor_pb2.FileDescriptorProto(
        name="podwire-cri.proto", package=PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            if kind == "map":
                _add_map(message, field, number)
            else:
                _add_field(message, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    find = pool.FindMessageTypeByName
    return {n: message_factory.GetMessageClass(find(f"{PACKAGE}.{n}")) for n in _MESSAGES}


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    label = _FIELD.LABEL_REPEATED if kind.startswith("*") else _FIELD.LABEL_OPTIONAL
    kind = kind.lstrip("*")
    field = message.field.add(name=name, json_name=name, number=number, label=label)
    if kind[0].islower():
        field.type = getattr(_FIELD, f"TYPE_{kind.upper()}")
    else:
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{PACKAGE}.{kind}"


def _add_map(message: Any, name: str, number: int) -> None:
    """A map is a repeated message of the type NameEntry. Source: protobuf.dev, Maps."""
    entry = message.nested_type.add(name=name[0].upper() + name[1:] + "Entry")
    entry.options.map_entry = True
    for at, key in enumerate(("key", "value"), 1):
        _add_field(entry, key, at, "string")
    field = message.field.add(
        name=name, json_name=name, number=number, label=_FIELD.LABEL_REPEATED,
        type=_FIELD.TYPE_MESSAGE,
    )  # fmt: skip
    field.type_name = f".{PACKAGE}.{message.name}.{entry.name}"


_TYPES = _message_types()


class Cri:
    """A runtime behind a socket. Calls raise grpc.RpcError."""

    def __init__(self, socket: Path) -> None:
        # Where an HTTP proxy is configured it is none of a local socket's business.
        options = [("grpc.enable_http_proxy", 0), ("grpc.default_authority", "localhost")]
        self._channel = grpc.insecure_channel(f"unix:{socket}", options=options)

    def call(self, method: str, request: Mapping[str, Any] | None = None) -> Json:
        """One call; both messages as their JSON forms, fields that are unset included."""
        invoke = self._channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=_TYPES[f"{method}Response"].FromString,
        )
        message = json_format.ParseDict(dict(request or {}), _TYPES[f"{method}Request"]())
        answer = invoke(message, timeout=LIMIT_S)
        return json_format.MessageToDict(answer, always_print_fields_with_no_presence=True)

    def network_condition(self) -> tuple[bool, str]:
        """NetworkReady: whether, and the message otherwise."""
        found = self.call("Status")["status"]["conditions"]
        one = next(each for each in found if each["type"] == "NetworkReady")
        return one["status"], one["message"]

    def close(self) -> None:
        """No more calls."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
