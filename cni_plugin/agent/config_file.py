"""A YAML file that holds one mapping, read strictly."""

from __future__ import annotations

import os
import stat
from typing import Any

import yaml

from cni_plugin.cni.errors import InvalidNetworkConfig
from cni_plugin.cni.names import shown


def read_document(path: str) -> dict[str, object]:
    """What the file holds; an empty one, nothing. Raises InvalidNetworkConfig and OSError."""
    try:
        document = yaml.load(_text(path), _Loader)  # noqa: S506  a safe loader, and stricter
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


class _Loader(yaml.SafeLoader):
    """YAML takes the last of two values of one key (1.2, 3.2.1.3: keys are unique)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Raises ConstructorError."""
        seen: set[str] = set()
        for key, _value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {shown(key.value)} is there twice, accepted: once",
                    problem_mark=key.start_mark,
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)
