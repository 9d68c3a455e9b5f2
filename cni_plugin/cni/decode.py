"""stdin bytes -> JSON object, stricter than `json`: nothing ambiguous gets in.

A duplicate key, NaN or a number out of range would be read differently by podwire and by the
delegates that get the same bytes, so all of them are refused. Every error says what and where.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from cni_plugin.cni.errors import DecodeFailure
from cni_plugin.cni.names import shown

MAX_BYTES = 1 << 20  # 1 MiB; a config list with every capability is a few KiB
MAX_DEPTH = 64  # the deepest podwire key is at 6
MAX_INT_DIGITS = 19  # a signed 64-bit number, as Go's decoders have it
_BOM = b"\xef\xbb\xbf"
_JSON_TYPES = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}


class _Refused(Exception):
    """Raised inside json's hooks, which know the token but not where it stands."""

    def __init__(self, what: str, token: str, *, key: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.token = token
        self.key = key


def decode_object(data: bytes, source: str = "stdin") -> dict[str, object]:
    """The JSON object in data; source names it in messages.

    Raises DecodeFailure (SPEC error 6) when data is empty, over 1 MiB, not UTF-8, not JSON, not
    an object, nested deeper than 64, or holds a duplicate key, NaN, Infinity, or a number out of
    the range of a 64-bit integer or double.
    """
    if not data.strip():
        raise DecodeFailure(
            f"{source} is empty, expected a network configuration as a JSON object",
            "the runtime writes the plugin's configuration to its standard input",
        )
    if len(data) > MAX_BYTES:
        raise DecodeFailure(f"{source} holds {len(data)} bytes, at most {MAX_BYTES} are accepted")
    text = _text(data, source)
    _check_depth(text, source)
    document = _parse(text, source)
    if not isinstance(document, dict):
        kind = _JSON_TYPES.get(type(document), "a number")
        raise DecodeFailure(f"{source} holds {kind} ({shown(document)}), expected a JSON object")
    return document


def _text(data: bytes, source: str) -> str:
    if data.startswith(_BOM):
        raise DecodeFailure(
            f"{source} starts with a byte order mark, expected plain UTF-8",
            "save the file as UTF-8 without BOM",
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - before.rfind(b"\n")
        raise DecodeFailure(
            f"{source} is not UTF-8: byte 0x{data[error.start]:02x}"
            f", {error.reason} (line {line} column {column})"
        ) from None


def _parse(text: str, source: str) -> object:
    try:
        document: object = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_float,
        )
        if "\\u" in text:
            json.dumps(document, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise DecodeFailure(
            f"{source} is not JSON: {error.msg} (line {error.lineno} column {error.colno})"
        ) from None
    except _Refused as refused:
        where = _where(text, refused)
        raise DecodeFailure(f"{source} holds {refused.what}{where}") from None
    except UnicodeEncodeError as error:
        raise DecodeFailure(
            f"{source} holds half of a surrogate pair (\\u{ord(error.object[error.start]):04x}),"
            " expected Unicode text"
        ) from None
    except RecursionError:  # a caller deep in the stack; MAX_DEPTH is the ordinary bound
        raise DecodeFailure(f"{source} is nested too deeply") from None
    return document


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Refused(f"the key {shown(key)} twice in one object", key, key=True)
            seen.add(key)
    return document


def _constant(token: str) -> object:
    raise _Refused(f"{token}, which is not JSON", token)


def _integer(token: str) -> int:
    if len(token.lstrip("-")) <= MAX_INT_DIGITS:
        return int(token)
    raise _Refused(
        f"the number {shown_number(token)}, at most {MAX_INT_DIGITS} digits are accepted", token
    )


def _float(token: str) -> float:
    number = float(token)
    if number - number == 0:  # false for infinity only: NaN never comes here
        return number
    raise _Refused(f"the number {shown_number(token)}, which no double can hold", token)


def shown_number(token: str) -> str:
    """A number's text, shortened."""
    return token if len(token) <= 24 else f"{token[:20]}… ({len(token)} characters)"


def _tokens(text: str) -> Iterator[tuple[int, str]]:
    # Only on suspicion or failure, so `re` compiles nothing on the ordinary path.
    import re

    pattern = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}:,]|[^\s\[\]{}:,"]+', re.DOTALL)
    return ((match.start(), match.group()) for match in pattern.finditer(text))


def _check_depth(text: str, source: str) -> None:
    # Counting characters is nearly free and nearly always answers the question.
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for start, piece in _tokens(text):
        if piece in "[{":
            depth += 1
        elif piece in "]}":
            depth -= 1
        if depth > MAX_DEPTH:
            raise DecodeFailure(
                f"{source} is nested deeper than {MAX_DEPTH} levels{_at(text, start)}"
            )


def _where(text: str, refused: _Refused) -> str:
    """Line and column of the token that a hook refused; empty if it cannot be found again."""
    keys: list[set[str]] = []
    previous: tuple[int, str] = (0, "")
    for start, piece in _tokens(text):
        if not refused.key and piece == refused.token:
            return _at(text, start)
        if piece in "[{":
            keys.append(set())
        elif piece in "]}" and keys:
            keys.pop()
        elif piece == ":" and keys and refused.key:
            key = json.loads(previous[1])
            if key == refused.token and key in keys[-1]:
                return _at(text, previous[0])
            keys[-1].add(key)
        previous = (start, piece)
    return ""


def _at(text: str, offset: int) -> str:
    line = text.count("\n", 0, offset) + 1
    return f" (line {line} column {offset - text.rfind(chr(10), 0, offset)})"
