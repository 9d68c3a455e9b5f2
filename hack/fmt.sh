#!/bin/sh
# Format, and repair what ruff knows how to repair.
set -eu
cd "$(dirname "$0")/.."
.venv/bin/ruff format --quiet
.venv/bin/ruff check --fix
