#!/bin/sh
# Every check, also after one failed, so that one run tells everything. Status 1 if any failed.
set -u
cd "$(dirname "$0")/.." || exit
bin=.venv/bin
failed=

check() {
    printf '== %s\n' "$*"
    "$@" || failed="$failed $(basename "$1")"
}

check $bin/ruff check
check $bin/ruff format --check
check $bin/mypy cni_plugin ipam
check $bin/lint-imports --no-logo --cache-dir build/import_linter
if command -v shellcheck >/dev/null 2>&1; then
    check shellcheck hack/*.sh .ci/run
fi
[ -z "$failed" ] || { echo "podwire: lint failed:$failed" >&2; exit 1; }
