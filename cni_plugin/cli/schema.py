"""Print the JSON Schema (2020-12) of podwire's plugin object, or of a config list with --list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_plugin.cli.output import emit_json

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """--list."""
    parser.add_argument("--list", action="store_true", help="the schema of a whole config list")


def run(args: Namespace) -> int:
    """Print it."""
    from cni_plugin.cni.conf_schema import json_schema, list_schema

    emit_json(list_schema() if args.list else json_schema())
    return 0
