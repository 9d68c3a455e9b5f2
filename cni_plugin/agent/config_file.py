"""A YAML file that holds one mapping, read strictly."""

from __future__ import annotations

import os
import stat

import yaml

from cni_plugin.cni.errors import InvalidNetworkConfig
from cni_plugin.cni.names import shown
from cni_plugin.strict_yaml import parse_yaml


def read_document(path: str) -> dict[str, object]:
    """What the file holds; an empty one, nothing. Raises InvalidNetworkConfig and OSError."""
    try:
        document = parse_yaml(_text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidNetworkConfig(f"{path} is no YAML", str(error).replace("\n", " ")) from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InvalidNetworkConfig(f"{path} holds {shown(document)}, accepted: a mapping")
    return document


def _text(path: str) -> str:
    with open(path, "rb", opener=_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InvalidNetworkConfig(f"{path} is no regular file", "name a file that holds YAML")
        return file.read().decode()


def _at_once(path: str, flags: int) -> int:
    """Opening a FIFO would wait for somebody who writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)
