"""YAML as configs are meant: safe, and no key twice."""

from __future__ import annotations

from typing import Any

import yaml

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


def parse_yaml(text: str) -> Any:
    """The document. Raises yaml.YAMLError, ValueError and RecursionError."""
    return yaml.load(text, _Loader)  # noqa: S506  a safe loader, and stricter
