"""What the direct path needs of `typing`, without its price.

A direct run is a cold interpreter. `typing` costs it 12 ms to import and each NamedTuple 0.3 ms
to build (it evaluates source text); with some sixty values that was a quarter of an ADD. The type
checkers see typing's own names. At run time NamedTuple makes tuples with the same fields,
defaults, `_replace`, `_asdict`, equality and repr, in 20 microseconds a class; the others stand for
nothing, as annotations are never evaluated.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the checkers know the name; importing it from typing is what is avoided
if TYPE_CHECKING:
    # ruff: noqa: PLC0414  re-exports, said so
    from typing import Any as Any
    from typing import NamedTuple as NamedTuple
    from typing import Protocol as Protocol
    from typing import Self as Self
    from typing import TypeVar as TypeVar
else:
    from _collections import _tuplegetter  # the field descriptor of collections.namedtuple

    Any = Self = Protocol = object

    def TypeVar(name: str) -> str:  # noqa: N802  the name it stands for
        """Only its name is left at run time."""
        return name

    class _Meta(type):
        """Turns annotations into fields, as typing.NamedTuple's metaclass does."""

        def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Any:
            fields = tuple(namespace.get("__annotations__", ()))
            defaults = {field: namespace[field] for field in fields if field in namespace}
            for number, field in enumerate(fields):
                namespace[field] = _tuplegetter(number, field)
            namespace |= {
                "__slots__": (),
                "__match_args__": fields,
                "_fields": fields,
                "_field_defaults": defaults,
            }
            return super().__new__(mcs, name, bases, namespace)

    class NamedTuple(tuple, metaclass=_Meta):  # noqa: SLOT001  the metaclass sets them
        """A tuple with named fields."""

        def __new__(cls, *values: object, **named: object) -> Any:
            if len(values) == len(cls._fields) and not named:  # thousands are read at a time
                return tuple.__new__(cls, values)
            missing = cls._fields[len(values) :]
            if missing or named:
                values += tuple(cls._value(field, named) for field in missing)
            if named or len(values) != len(cls._fields):
                extra = ", ".join(named) or f"{len(values)} values"
                raise TypeError(f"{cls.__name__} takes {cls._fields}, got {extra}")
            return tuple.__new__(cls, values)

        @classmethod
        def _value(cls, field: str, named: dict[str, object]) -> object:
            if field in named:
                return named.pop(field)
            if field in cls._field_defaults:
                return cls._field_defaults[field]
            raise TypeError(f"{cls.__name__} is missing {field!r}")

        def __getnewargs__(self) -> tuple[object, ...]:
            return tuple(self)

        def __repr__(self) -> str:
            pairs = zip(self._fields, self, strict=True)
            shown = ", ".join(f"{name}={value!r}" for name, value in pairs)
            return f"{type(self).__name__}({shown})"

        def _asdict(self) -> dict[str, object]:
            return dict(zip(self._fields, self, strict=True))

        def _replace(self, **named: object) -> Any:
            made = tuple.__new__(type(self), map(named.pop, self._fields, self))
            if named:
                raise ValueError(f"{type(self).__name__} has no {', '.join(named)}")
            return made


def quicken() -> None:
    """Gives the NamedTuples that are loaded so far a constructor made of source text, as
    collections.namedtuple does: five times as fast, and dear enough to make that only a process
    which lives long should ask for it."""
    for kind in NamedTuple.__subclasses__():
        names = "".join(f"{field}, " for field in kind._fields)
        source = f"lambda _cls, {names}: _new(_cls, ({names}))"
        made = eval(source, {"_new": tuple.__new__})  # noqa: S307  names of our own fields
        made.__defaults__ = tuple(kind._field_defaults.values())
        kind.__new__ = made  # type: ignore[method-assign]
