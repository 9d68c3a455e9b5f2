"""YAML as configs are meant: safe, and no key twice."""

from __future__ import annotations

from typing import Any

import yaml

from cni_plugin.cni.errors import InvalidNetworkConfig
from cni_plugin.cni.names import shown


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML takes the last of two values of one key (1.2, 3.2.1.3: keys are unique). By libyaml,
    where PyYAML has it: ten times as fast."""

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
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


def parse_yaml(text: str, where: str) -> Any:
    """The document. where: its name, for errors. Raises InvalidNetworkConfig."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506  a safe loader, and stricter
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidNetworkConfig(f"{where} is no YAML", _said(error)) from error


def _said(error: Exception) -> str:
    """The place first, and without Python's name for a text."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
