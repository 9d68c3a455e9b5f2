"""ipam.lean_typing.NamedTuple behaves as typing.NamedTuple wherever podwire relies on it."""

from __future__ import annotations

import copy
import pickle
import typing

import pytest

from ipam import lean_typing


class Light(lean_typing.NamedTuple):
    a: int
    b: str = "x"
    c: tuple[int, ...] = ()

    @property
    def twice(self) -> int:
        return 2 * self.a


class Reference(typing.NamedTuple):
    a: int
    b: str = "x"
    c: tuple[int, ...] = ()


CALLS: list[tuple[tuple[object, ...], dict[str, object]]] = [
    ((1,), {}),
    ((1, "y"), {}),
    ((1, "y", (2,)), {}),
    ((1,), {"c": (3,)}),
    ((), {"b": "z", "a": 4}),
]
WRONG: list[tuple[tuple[object, ...], dict[str, object]]] = [
    ((), {}),
    ((1, "y", (), 4), {}),
    ((1,), {"a": 2}),
    ((1,), {"d": 2}),
]


@pytest.mark.parametrize(("args", "kwargs"), CALLS)
def test_a_value_has_the_same_fields_and_text(args: typing.Any, kwargs: typing.Any) -> None:
    light, reference = Light(*args, **kwargs), Reference(*args, **kwargs)
    assert tuple(light) == tuple(reference)
    assert (light.a, light.b, light.c) == (reference.a, reference.b, reference.c)
    assert repr(light) == repr(reference).replace("Reference", "Light")
    assert light._asdict() == reference._asdict()
    assert hash(light) == hash(reference)


@pytest.mark.parametrize(("args", "kwargs"), WRONG)
def test_wrong_calls_are_refused(args: typing.Any, kwargs: typing.Any) -> None:
    for kind in (Light, Reference):
        with pytest.raises(TypeError):
            kind(*args, **kwargs)


def test_replace_keeps_the_rest_and_refuses_strangers() -> None:
    assert Light(1)._replace(b="n") == Light(1, "n")
    with pytest.raises(ValueError, match="d"):
        Light(1)._replace(d=1)


def test_fields_cannot_be_set() -> None:
    light = Light(1)
    with pytest.raises(AttributeError):
        light.a = 2  # type: ignore[misc]  # what is tested
    with pytest.raises(AttributeError):
        light.other = 2  # type: ignore[attr-defined]  # what is tested


def test_methods_fields_and_defaults_are_the_class_own() -> None:
    assert Light(3).twice == 6
    assert Light._fields == Reference._fields
    assert Light._field_defaults == Reference._field_defaults


def test_a_value_survives_copying_and_pickling() -> None:
    light = Light(1, "y", (2,))
    assert copy.deepcopy(light) == light
    assert pickle.loads(pickle.dumps(light)) == light


def test_matching_by_position() -> None:
    match Light(1, "y"):
        case Light(a, b, _):
            assert (a, b) == (1, "y")


def test_a_quickened_class_makes_and_refuses_the_same() -> None:
    class Quick(lean_typing.NamedTuple):
        a: int
        b: str = "x"
        c: tuple[int, ...] = ()

    lean_typing.quicken()
    for args, kwargs in CALLS:
        made: typing.Any = Quick(*args, **kwargs)  # type: ignore[arg-type]
        assert tuple(made) == tuple(Reference(*args, **kwargs))  # type: ignore[arg-type]
        assert type(made) is Quick
        assert made._replace(a=9)[0] == 9
    for args, kwargs in WRONG:
        with pytest.raises(TypeError):
            Quick(*args, **kwargs)  # type: ignore[arg-type]
