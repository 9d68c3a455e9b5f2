"""stdin is read strictly, and a refusal says what and where."""

from __future__ import annotations

import pytest

from cni_plugin.cni.decode import MAX_BYTES, MAX_DEPTH, decode_object
from cni_plugin.cni.errors import DecodeFailure

REFUSED = {
    b"": "is empty, expected a network configuration",
    b" \n\t": "is empty",
    b"{": "is not JSON: Expecting property name enclosed in double quotes (line 1 column 2)",
    b'{"a":1}x': "Extra data (line 1 column 8)",
    b'{\n "a": 1,\n}': "is not JSON",
    b"[]": "holds an array ([]), expected a JSON object",
    b'"text"': 'holds a string ("text"), expected a JSON object',
    b"null": "holds null",
    b"12": "holds a number (12)",
    b"true": "holds a boolean",
    b'\xef\xbb\xbf{"a":1}': "byte order mark",
    b'{"a":\n "\xff"}': "is not UTF-8: byte 0xff, invalid start byte (line 2 column 3)",
    '{"a":1}'.encode("utf-16"): "is not UTF-8",
    b'{"a":1,\n "a":2}': 'the key "a" twice in one object (line 2 column 2)',
    b'{"x":{"a":"a:","b":[{"a":1}],"a":2}}': 'the key "a" twice in one object (line 1 column 30)',
    b'{"a":1,"\\u0061":2}': 'the key "a" twice in one object (line 1 column 8)',
    b'{"a":NaN}': "NaN, which is not JSON (line 1 column 6)",
    b'{"b":"NaN",\n"a":NaN}': "NaN, which is not JSON (line 2 column 5)",
    b'{"a":Infinity}': "Infinity, which is not JSON",
    b'{"a":-Infinity}': "-Infinity, which is not JSON",
    b'{"a":1e999}': "1e999, which no double can hold (line 1 column 6)",
    b'{"a":12345678901234567890}': "at most 19 digits are accepted (line 1 column 6)",
    b'{"a":1' + b"0" * 5000 + b"}": "(5001 characters), at most 19 digits",
    b'{"a":-1' + b"0" * 5000 + b"}": "at most 19 digits",
    b'{"a":1' + b"0" * 5000 + b".5}": "which no double can hold",
    b'{"a":"\\ud800"}': "half of a surrogate pair (\\ud800)",
    b'{"\\udfff":1}': "half of a surrogate pair (\\udfff)",
    b'{"a":"\x00"}': "Invalid control character",
    b'{"a":01}': "is not JSON",
    b"{'a':1}": "is not JSON",
    b'{"a":1} // no': "is not JSON",
    b'{"a":' * 65 + b"1" + b"}" * 65: "nested deeper than 64 levels (line 1 column 321)",
    b"[" * 100_000: "nested deeper than 64 levels (line 1 column 65)",
    b'{"a":' * 100_000: "nested deeper than 64 levels",
}


@pytest.mark.parametrize(
    ("data", "told"), REFUSED.items(), ids=[repr(data[:24]) for data in REFUSED]
)
def test_refused(data: bytes, told: str) -> None:
    with pytest.raises(DecodeFailure) as caught:
        decode_object(data)
    assert told in caught.value.msg
    assert caught.value.msg.startswith("stdin ")
    assert caught.value.code == 6


def test_one_mebibyte_is_the_limit() -> None:
    filler = b'{"a":"' + b"x" * (MAX_BYTES - 8) + b'"}'
    assert len(filler) == MAX_BYTES
    assert decode_object(filler).keys() == {"a"}
    with pytest.raises(DecodeFailure, match=rf"{MAX_BYTES + 1} bytes"):
        decode_object(filler + b" ")


def test_the_greatest_depth_is_accepted() -> None:
    data = b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH
    assert decode_object(data)["a"]


def test_brackets_in_text_are_no_depth() -> None:
    assert decode_object(b'{"a":"' + b"[" * 1000 + b'\\""}')["a"] == "[" * 1000 + '"'


def test_ordinary_values_survive() -> None:
    text = '{"s":"grün 🐳","i":-9223372036854775808,"f":1.5,"n":null,"t":true,"l":[{}]}'
    assert decode_object(text.encode()) == {
        "s": "grün 🐳",
        "i": -(2**63),
        "f": 1.5,
        "n": None,
        "t": True,
        "l": [{}],
    }


def test_an_escaped_pair_of_surrogates_is_one_character() -> None:
    assert decode_object(b'{"a":"\\ud83d\\udc33"}') == {"a": "🐳"}


def test_the_source_is_named() -> None:
    with pytest.raises(DecodeFailure, match=r"^the result of dhcp is empty"):
        decode_object(b"", "the result of dhcp")
