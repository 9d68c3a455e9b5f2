"""A YAML file that holds one mapping, read strictly."""

from __future__ import annotations

import os
import stat
import sys

from cni_plugin.cni.errors import InvalidNetworkConfig
from cni_plugin.cni.names import shown
from cni_plugin.strict_yaml import parse_yaml

STDIN = "-"


def read_document(path: str) -> dict[str, object]:
    """What the file holds; an empty one, nothing. path: STDIN is standard input. Raises
    InvalidNetworkConfig and OSError."""
    document = parse_yaml(_text(path), path)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InvalidNetworkConfig(f"{path} holds {shown(document)}, accepted: a mapping")
    return document


def _text(path: str) -> str:
    data = sys.stdin.buffer.read() if path == STDIN else _bytes(path)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidNetworkConfig(
            f"{path} is no YAML", f"byte {error.start} is not UTF-8: {error.reason}"
        ) from error


def _bytes(path: str) -> bytes:
    with open(path, "rb", opener=_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InvalidNetworkConfig(f"{path} is no regular file", "name a file that holds YAML")
        return file.read()


def _at_once(path: str, flags: int) -> int:
    """Opening a FIFO would wait for somebody who writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)
