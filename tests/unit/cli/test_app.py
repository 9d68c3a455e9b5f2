"""The command line: overview, usage errors, completion."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from cni_plugin import __version__
from cni_plugin.cli.app import COMMANDS, main
from cni_plugin.cli.completion import script


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"podwire {__version__}\n"


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_lists_every_command(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 0
    out = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"  {name}" in out
        assert command.help in out
    assert "\x1b" not in out


def test_nothing_says_what_it_is_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "CNI versions supported: 0.1.0" in captured.err


def test_an_unknown_command_hints_and_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["valdate"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "unknown command 'valdate'" in captured.err
    assert "did you mean `podwire validate`?" in captured.err


@pytest.mark.parametrize(
    "argv", [["validate"], ["schema", "--lst"], ["completion", "tcsh"], ["validate", "-o", "xml"]]
)
def test_wrong_usage_exits_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"usage: podwire {argv[0]}" in captured.err


def test_a_commands_help_exits_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--help"]) == 0
    assert "every problem is shown" in capsys.readouterr().out


def test_the_overview_imports_no_parser() -> None:
    program = (
        "import sys; from cni_plugin.cli.app import main; main(['--version']);"
        " print('argparse' in sys.modules, 'pydantic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("False False\n")


WORDS = {"validate": ["-o", "--output"], "completion": ["bash", "zsh"], "schema": ["--list"]}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["podwire", "va"], ["validate"]),
        (["podwire", "--v"], ["--version"]),
        (["podwire", "validate", "--"], ["--output"]),
        (["podwire", "completion", ""], ["bash", "zsh"]),
        (["podwire", "schema", "-"], ["--list"]),
        (["podwire", "unheard", "-"], []),
    ],
)
def test_bash_completes(line: list[str], expected: list[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    words = " ".join(f"'{word}'" for word in line)
    program = (
        f"{script('bash', WORDS)}\nCOMP_WORDS=({words}); COMP_CWORD={len(line) - 1};"
        ' _podwire; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [bash, "--norc", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == expected


def test_zsh_and_fish_have_every_command_and_option() -> None:
    for shell in ("zsh", "fish"):
        text = script(shell, WORDS)
        for name, options in WORDS.items():
            assert name in text
            assert all(option.lstrip("-") in text for option in options)


def test_completion_knows_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    out = capsys.readouterr().out
    assert all(f"{name})" in out for name in COMMANDS)
    assert "--output" in out
