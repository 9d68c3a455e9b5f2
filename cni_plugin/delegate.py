"""Runs other plugins (foreign IPAM), as SPEC 1.1.0 section 4 says. The only user of subprocess
beside the iptables manager."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import FileIO

from cni_plugin.cni.errors import CNIError, InvalidEnvironment, IoFailure, TryAgainLater
from cni_plugin.cni.result_parse import parse_ipam_result
from cni_plugin.cni.values import Request, Result

TIMEOUT_S = 90  # CRI gives a call 120 s in all; what is left is for undoing


def run_delegate(request: Request, plugin: str, command: str) -> Result | None:
    """The plugin's answer to the command: a Result for ADD, otherwise None.

    It gets our environment, with CNI_COMMAND set to command, and the complete config on stdin;
    its stderr is passed through. Raises its error as it gave it, code and all."""
    executable = find_in_path(plugin, request.path)
    environ = {**os.environ, **request.environ, "CNI_COMMAND": command}
    # Files, not pipes: a pipe ends only when the last child that the plugin left running does.
    with _memory("stdout") as stdout, _memory("stderr") as stderr:
        try:
            done = subprocess.run(  # noqa: S603  found by base name in CNI_PATH
                [executable],
                input=request.stdin,
                stdout=stdout,
                stderr=stderr,
                env=environ,
                timeout=TIMEOUT_S,
                check=False,
            )
        except OSError as error:
            raise IoFailure(f"{executable} cannot be started: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise TryAgainLater(
                f"{executable} {command} gave no answer in {TIMEOUT_S} s"
            ) from error
        finally:
            sys.stderr.buffer.write(_content(stderr))
        answer = _content(stdout)
    if done.returncode != 0:
        raise _failure(plugin, command, answer)
    if command != "ADD":
        return None
    return parse_ipam_result(answer, request.conf.cni_version, plugin)


def _memory(name: str) -> FileIO:
    return FileIO(os.memfd_create(name), "r+")


def _content(file: FileIO) -> bytes:
    file.seek(0)
    return file.read()


def find_in_path(plugin: str, path: tuple[str, ...]) -> str:
    """The first regular file of that base name in CNI_PATH's folders."""
    for folder in path:
        candidate = os.path.join(folder, plugin)
        if os.path.isfile(candidate) and os.path.basename(plugin) == plugin:
            return candidate
    raise InvalidEnvironment(
        f"CNI_PATH has no plugin {plugin!r}: searched {':'.join(path) or '(it is empty)'}",
        f"install {plugin} there, or use an ipam type that podwire serves itself",
    )


def _failure(plugin: str, command: str, stdout: bytes) -> CNIError:
    """The delegate's own error; what is no error JSON becomes one that shows what came."""
    try:
        document = json.loads(stdout)
        code, msg = int(document["code"]), str(document["msg"])
        details = str(document.get("details") or "")
    except (ValueError, TypeError, KeyError):
        shown = stdout[:200].decode(errors="replace").strip() or "nothing"
        return CNIError(f"{plugin} {command} failed and printed {shown!r} instead of error JSON")
    return CNIError(f"{plugin} {command}: {msg}", details, code=code)
