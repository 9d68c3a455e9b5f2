#!/bin/sh
# The demo, on nodes that are network namespaces of their own: nothing of this machine is touched.
#
#   make demo                   make demo ARGS='-o json'
#
# `make demo` makes .venv first (hack/setup.sh) and then runs this.
set -eu
cd "$(dirname "$0")/.."
[ -x .venv/bin/podwire ] || { echo "podwire: not installed yet; run: make demo" >&2; exit 3; }
# make gives variables of its command line to what it runs.
# shellcheck disable=SC2086  # several words
set -- ${ARGS:-} "$@"
# Without an agent the launcher runs the Python that was installed here.
PYTHON_TREE=$PWD/.venv hack/launcher.sh build/demo/podwire
exec hack/sandbox.sh .venv/bin/python -B hack/demo "$@"
