"""The dispatcher of a CNI executable: environment and stdin in, one Reply out, never an exception.

Both executables use it; what differs (the config's reader and the verbs) is handed in. The
command decides what is needed, then the document is checked against the rules that every plugin
shares (version, name, prevResult, valid attachments), then the verb runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from cni_plugin.cni.decode import decode_object
from cni_plugin.cni.env import (
    REQUEST_ID,
    UNDOES,
    Environment,
    parse_command,
    parse_environment,
)
from cni_plugin.cni.errors import (
    SUPPORTED_VERSIONS,
    CNIError,
    DecodeFailure,
    InvalidEnvironment,
    InvalidNetworkConfig,
)
from cni_plugin.cni.names import ID_ACCEPTED, id_fault, ifname_fault, shown
from cni_plugin.cni.result import encode_result
from cni_plugin.cni.result_parse import parse_prev_result
from cni_plugin.cni.values import Attachment, Reply, Request, Result
from cni_plugin.cni.versions import (
    LATEST,
    check_command,
    config_version,
    reply_version,
)
from ipam.errors import IpamError
from ipam.lean_typing import Any, Protocol

Warn = Callable[[str], None]
Verb = Callable[[Request], Result | None]
Document = dict[str, object]
# DEL and GC must clean up whatever the config has become since ADD.
LENIENT_COMMANDS = ("DEL", "GC")
# The second is the name that a draft had; libcni sends both with the same content.
_ATTACHMENT_KEYS = ("cni.dev/valid-attachments", "cni.dev/attachments")


class LoadConf(Protocol):
    """Reads the plugin's own config out of the document.

    lenient (DEL and GC): turn what is wrong into warnings and fall back to defaults. The answer
    is whatever the verbs expect in `request.conf`. Raises CNIError or IpamError.
    """

    def __call__(self, document: Document, warn: Warn, *, lenient: bool) -> Any: ...


def serve(
    environ: Mapping[str, str],
    stdin: bytes,
    load_conf: LoadConf,
    verbs: Mapping[str, Verb],
    *,
    about: str,
    warn: Warn,
) -> Reply:
    """One call of the plugin, start to end.

    about: one line for a person who starts the executable with no CNI_COMMAND. warn gets one
    line at a time, for the log. stdout of the reply is one JSON document or empty; status is 0
    or 1. Never raises (except what no program should catch).
    Source: SPEC 1.1.0 sections 2 and 5.
    """
    if not environ.get("CNI_COMMAND"):
        versions = ", ".join(SUPPORTED_VERSIONS)
        return Reply(0, stderr=f"{about}\nCNI versions supported: {versions}\n".encode())
    decoded = _decode(stdin)
    try:
        if parse_command(environ) == "VERSION":
            return _version_reply({} if not stdin.strip() else _document(decoded))
        environment = parse_environment(environ, warn)
        document = _document(decoded)
        request = _request(environ, environment, stdin, document, load_conf, warn)
        return _run(request, config_version(document), verbs)
    except Exception as error:  # noqa: BLE001 - the outermost loop: the runtime must get JSON
        return error_reply(error, reply_version(decoded if isinstance(decoded, dict) else None))


def _decode(stdin: bytes) -> Document | DecodeFailure:
    # The failure is kept, not raised: the environment is judged first, VERSION needs no stdin,
    # and an error reply wants the config's cniVersion whatever went wrong.
    try:
        return decode_object(stdin)
    except DecodeFailure as error:
        return error


def _document(decoded: Document | DecodeFailure) -> Document:
    if isinstance(decoded, DecodeFailure):
        raise decoded
    return decoded


def _run(request: Request, version: str, verbs: Mapping[str, Verb]) -> Reply:
    verb = verbs.get(request.command)
    if verb is None:
        raise InvalidEnvironment(
            f"CNI_COMMAND is {shown(request.command)}, expected one of {', '.join(verbs)}"
        )
    result = verb(request)
    if request.command != "ADD":
        return Reply(0)
    if result is None:
        raise CNIError("ADD ended without a result")
    return Reply(0, encode_result(result, version))


def _version_reply(document: Document) -> Reply:
    """SPEC 1.1.0, VERSION: echoes the input's cniVersion, whether podwire speaks it or not."""
    version = document.get("cniVersion", "")
    if not isinstance(version, str):
        raise InvalidNetworkConfig(
            f"cniVersion is {shown(version)}, accepted: a version as a string"
        )
    return Reply(
        0,
        _line({"cniVersion": version or LATEST, "supportedVersions": list(SUPPORTED_VERSIONS)}),
    )


def _request(
    environ: Mapping[str, str],
    environment: Environment,
    stdin: bytes,
    document: Document,
    load_conf: LoadConf,
    warn: Warn,
) -> Request:
    command = environment.command
    check_command(command, config_version(document))
    _check_name(document)
    return Request(
        command=command,
        conf=load_conf(document, warn, lenient=command in LENIENT_COMMANDS),
        attachment=environment.attachment,
        netns=environment.netns,
        path=environment.path,
        args=environment.args,
        pod=environment.pod,
        prev_result=_prev_result(command, document, warn),
        valid_attachments=_valid_attachments(document) if command == "GC" else None,
        stdin=stdin,
        environ={key: value for key, value in environ.items() if key.startswith("CNI_")},
        id=environ.get(REQUEST_ID, ""),
        undoes=environ.get(UNDOES, "") if command == "DEL" else "",
    )


def _check_name(document: Document) -> None:
    name = document.get("name")
    if not isinstance(name, str) or id_fault(name):
        raise InvalidNetworkConfig(f"name is {shown(name)}, accepted: {ID_ACCEPTED}")


def _prev_result(command: str, document: Document, warn: Warn) -> Result | None:
    value = document.get("prevResult")
    if command not in ("ADD", "CHECK", "DEL"):
        return None
    if value is None:
        if command == "CHECK":
            raise InvalidNetworkConfig(
                "CHECK needs prevResult: the config has none",
                "SPEC, CHECK: the runtime must send the result of the last ADD",
            )
        return None
    try:
        return parse_prev_result(value, config_version(document))
    except CNIError as error:
        if command != "DEL":
            raise
        # SPEC 1.1.0, DEL: clean up as much as possible, a missing prevResult included.
        warn(f"DEL goes on without prevResult: {error}")
        return None


def _valid_attachments(document: Document) -> tuple[Attachment, ...] | None:
    """The attachments that GC must keep; None when the runtime sent no list.

    null counts as absent: Go writes a list that nobody filled as null, and a live address freed
    is worse than a dead one kept. For the same reason both keys' entries are joined.
    Raises InvalidNetworkConfig when a list is no list of `{containerID, ifname}` as ADD takes them.
    """
    found: dict[Attachment, None] | None = None
    for key in _ATTACHMENT_KEYS:
        entries = document.get(key)
        if entries is None:
            continue
        if not isinstance(entries, list):
            raise InvalidNetworkConfig(
                f"{key} is {shown(entries)}, accepted: an array of objects with containerID"
                " and ifname"
            )
        found = {} if found is None else found
        for index, entry in enumerate(entries):
            found[_valid_attachment(f"{key}[{index}]", entry)] = None
    return None if found is None else tuple(found)


def _valid_attachment(path: str, entry: object) -> Attachment:
    container_id, ifname = (
        (entry.get("containerID"), entry.get("ifname")) if isinstance(entry, dict) else (None, None)
    )
    if not isinstance(container_id, str) or not isinstance(ifname, str):
        raise InvalidNetworkConfig(
            f"{path} is {shown(entry)}, accepted: an object with the strings containerID and ifname"
        )
    # No ADD can have had such a name: the list is garbage, and what it leaves out would go.
    for key, text, accepted in (
        ("containerID", container_id, id_fault(container_id)),
        ("ifname", ifname, ifname_fault(ifname)),
    ):
        if accepted:
            raise InvalidNetworkConfig(f"{path}.{key} is {shown(text)}, accepted: {accepted}")
    return Attachment(container_id, ifname)


def error_reply(error: Exception, version: str = LATEST) -> Reply:
    """The reply for a failure: error JSON on stdout, status 1.

    An error that is neither CNIError nor IpamError is a defect of podwire: code 999, its class
    and message in details, its traceback on stderr.
    Source: SPEC 1.1.0 section 5, "Error".
    """
    stderr = b""
    if isinstance(error, (CNIError, IpamError)):
        code, msg, details = error.code, error.msg, error.details
    else:
        import traceback

        code, msg = 999, "podwire failed unexpectedly; the log holds the traceback"
        details = f"{type(error).__name__}: {error}"
        stderr = "".join(traceback.format_exception(error)).encode(errors="backslashreplace")
    reply = {"cniVersion": version, "code": code, "msg": clean(msg), "details": clean(details)}
    return Reply(1, _line(reply), stderr)


def clean(text: str) -> str:
    """Text that is surely valid UTF-8: an environment may hold bytes that are not."""
    return text.encode(errors="backslashreplace").decode()


def _line(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"
