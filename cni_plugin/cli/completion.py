"""Print a completion script; load it with `source <(podwire completion bash)` or the like.

The words come from the argument parsers themselves, so that a new option is completed at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", choices=SHELLS, help="the shell to write for")


def run(args: Namespace) -> int:
    """Print the script."""
    print(script(args.shell, words()), end="")
    return 0


def words() -> dict[str, list[str]]:
    """The options, and the choices of positional arguments, of every command."""
    from cni_plugin.cli.app import COMMANDS, command_parser

    return {name: _words_of(command_parser(name)) for name in COMMANDS}


def _words_of(parser: ArgumentParser) -> list[str]:
    """Choices first, then options; a command's own subcommands bring theirs."""
    actions = parser._actions  # noqa: SLF001 - argparse lists them nowhere else
    options = [option for action in actions for option in action.option_strings]
    choices: list[str] = []
    for action in actions:
        if action.option_strings or not action.choices:
            continue
        choices += map(str, action.choices)
        if isinstance(action.choices, dict):  # subcommands, by name
            options += [word for child in action.choices.values() for word in _words_of(child)]
    return list(dict.fromkeys([*choices, *options]))


def script(shell: str, by_command: Mapping[str, list[str]]) -> str:
    """The completion script for one of SHELLS."""
    if shell == "fish":
        return _fish(by_command)
    bash = _bash(by_command)
    if shell == "bash":
        return bash
    return f"#compdef podwire\nautoload -U +X bashcompinit && bashcompinit\n{bash}"


def _bash(by_command: Mapping[str, list[str]]) -> str:
    cases = "\n".join(
        f"        {name}) words='{' '.join(options)}' ;;" for name, options in by_command.items()
    )
    top = " ".join([*by_command, "--help", "--version"])
    return f"""\
_podwire() {{
    local words current="${{COMP_WORDS[COMP_CWORD]}}"
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W '{top}' -- "$current"))
        return
    fi
    case "${{COMP_WORDS[1]}}" in
{cases}
        *) words='' ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o bashdefault -o default -F _podwire podwire
"""


def _fish(by_command: Mapping[str, list[str]]) -> str:
    from cni_plugin.cli.app import COMMANDS

    lines = [
        f"complete -c podwire -n __fish_use_subcommand -a {name} -d '{COMMANDS[name].help}'"
        for name in by_command
    ]
    lines += ["complete -c podwire -n __fish_use_subcommand -l help -l version"]
    for name, options in by_command.items():
        seen = f"complete -c podwire -n '__fish_seen_subcommand_from {name}'"
        for option in options:
            if option.startswith("--"):
                lines.append(f"{seen} -l {option[2:]}")
            elif option.startswith("-"):
                lines.append(f"{seen} -s {option[1:]}")
            else:
                lines.append(f"{seen} -a {option}")
    return "\n".join(lines) + "\n"
