"""`podwire validate` and `podwire schema`."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from cni_plugin.cli.app import main

ROOT = Path(__file__).parents[3]
SAMPLES = sorted((ROOT / "manifests" / "samples").glob("*.conflist"))
BAD = {
    "cniVersion": "1.1.0",
    "name": "a b",
    "plugins": [{"type": "podwire", "mtu": "1500", "isGatway": True}],
}


@pytest.fixture
def bad_file(tmp_path: Path) -> str:
    path = tmp_path / "bad.conflist"
    path.write_text(json.dumps(BAD))
    return str(path)


def test_there_are_samples() -> None:
    assert len(SAMPLES) >= 8


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_every_sample_is_valid_without_a_warning(
    sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(sample)]) == 0
    assert capsys.readouterr().out == f"{sample}: valid\n"


def test_every_problem_and_warning_is_shown(
    bad_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", bad_file, str(SAMPLES[0])]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{bad_file}: 2 problems"
    assert lines[1].startswith('  error: name is "a b", accepted: ')
    assert lines[2].startswith('  error: plugins[0].mtu is "1500", accepted: ')
    assert lines[3] == f"{SAMPLES[0]}: valid"


def test_warnings_are_shown_and_do_not_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd.conf"
    path.write_text('{"cniVersion":"1.1.0","name":"a","type":"podwire","isGatway":true}')
    assert main(["validate", str(path)]) == 0
    assert capsys.readouterr().out == (
        f"{path}: valid\n"
        "  warning: isGatway is not a key of podwire and is ignored; did you mean isGateway?\n"
    )


def test_json_output(bad_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-o", "json", bad_file]) == 1
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["file"], entry["valid"]) == (bad_file, False)
    assert [(p["path"], p["value"], p["code"]) for p in entry["problems"]] == [
        ("name", "a b", 7),
        ("plugins[0].mtu", "1500", 7),
    ]


def test_stdin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.TextIOWrapper(io.BytesIO(SAMPLES[0].read_bytes()))
    monkeypatch.setattr(sys, "stdin", text)
    assert main(["validate", "-"]) == 0
    assert capsys.readouterr().out == "<stdin>: valid\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "is empty"), (b"{", "is not JSON"), (b"\xff", "is not UTF-8"), (None, "cannot be read")],
)
def test_a_file_that_is_no_config(
    content: bytes | None, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.conflist"
    if content is not None:
        path.write_bytes(content)
    assert main(["validate", str(path)]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"{path}: 1 problem\n  error: ")
    assert told in out


def test_a_file_cannot_move_the_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.conflist"
    path.write_text(json.dumps({"name": "a", "plugins": [{"type": "podwire", "\x1b[2J": 1}]}))
    main(["validate", str(path)])
    assert "\x1b" not in capsys.readouterr().out


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    plugin = json.loads(capsys.readouterr().out)
    assert main(["schema", "--list"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert "mtu" in plugin["properties"]
    assert "plugins" in whole["properties"]
