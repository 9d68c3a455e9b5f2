"""What pydantic refuses of a document that a person wrote, in podwire's words: path, value, what is
accepted. Each field's description says that; pydantic's own words are about Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from cni_plugin.cni.errors import InvalidNetworkConfig
from cni_plugin.cni.problems import Problem, nearest, path_of

Parts = tuple[object, ...]
_UNKNOWN = ("extra_forbidden", "invalid_key")  # the latter: a key that is no text


class InvalidDocument(InvalidNetworkConfig):
    """faults: a line each. where: the document's name."""

    def __init__(self, where: str, faults: Sequence[str], most: int = 100) -> None:
        more = (f"and {len(faults) - most} more",) if len(faults) > most else ()
        self.faults = tuple(f"{where}: {fault}" for fault in (*faults[:most], *more))
        super().__init__(self.faults[0], "; ".join((*faults[1:most], *more)))


def faults(error: ValidationError, model: type[BaseModel], what: str) -> list[str]:
    """A line each. what: the document's kind, as in "no key of WHAT"."""
    found = [_fault(one, model, what) for one in error.errors(include_url=False)]
    # Of a value that may be several things each way to read it has failed: the one that came
    # furthest tells why.
    shallow = {parts[:length] for parts, _line in found for length in range(len(parts))}
    return list(dict.fromkeys(line for parts, line in found if parts not in shallow))


class _Place(NamedTuple):
    """parts: of the path. accepted: there. model: of the keys below, if it is an object."""

    parts: Parts
    accepted: str
    model: type[BaseModel] | None


def _fault(error: Mapping[str, Any], model: type[BaseModel], what: str) -> tuple[Parts, str]:
    loc: Parts = error["loc"]
    if error["type"] in _UNKNOWN:
        above = _follow(model, loc[:-1])
        return (*above.parts, str(loc[-1])), _stranger(above, str(loc[-1]), model, what)
    place = _follow(model, loc)
    path = path_of(place.parts) or "the document"
    accepted = place.accepted
    if error["type"] == "value_error":
        accepted = str(error["ctx"]["error"])
    missing = error["type"] == "missing"
    return place.parts, str(Problem(path, error["input"], accepted, missing=missing))


def _stranger(above: _Place, name: str, model: type[BaseModel], what: str) -> str:
    keys = _keys(above.model or model)
    there = f" in {path_of(above.parts)}" if above.parts else ""
    elsewhere = (path for path in _paths(model) if path[-1] == name)
    meant = next(elsewhere, None)
    if meant is None and (near := nearest(name, keys)):
        meant = (*above.parts, near)
    hint = f"; did you mean {path_of(meant)}?" if meant else ""
    path = path_of((*above.parts, name))
    return f"{path} is no key of {what}, accepted{there}: {', '.join(keys)}{hint}"


def _follow(model: type[BaseModel], loc: Parts) -> _Place:
    """Without what pydantic adds: the names of the ways to read a value."""
    here: type[BaseModel] | None = model
    parts: list[object] = []
    accepted = f"an object of {', '.join(_keys(model))}"
    mapped = False
    for part in loc:
        info = _keys(here).get(str(part)) if here else None
        if info is not None:
            accepted = info.description or accepted
            here, mapped = _model_of(info.annotation), _is_mapping(info.annotation)
        if info is not None or isinstance(part, int) or (mapped and part != "[key]"):
            parts.append(part)
    return _Place(tuple(parts), accepted, here)


def _paths(model: type[BaseModel]) -> Iterator[Parts]:
    for name, info in _keys(model).items():
        yield (name,)
        below = _model_of(info.annotation)
        if below is not None and get_origin(info.annotation) is not tuple:
            yield from ((name, *rest) for rest in _paths(below))


def _keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """As the document spells them."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The object that a value may be, or be a list of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_of, get_args(annotation))), None)


def _is_mapping(annotation: Any) -> bool:
    return get_origin(annotation) is dict
