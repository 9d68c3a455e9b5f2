#!/bin/sh
# What the image holds beside its base, put below a folder. The Dockerfile runs it, and so does
# whoever wants the same without an image (hack/image/rootfs.sh, the suite).
#
#   PYTHON=python3.11 hack/image/stage.sh FOLDER
#
# PYTHON needs pip, setuptools and wheel; its interpreter is the one that goes into the tree.
# Packages come from where pip is configured to take them, and are those of the lock files. SITE:
# a folder where podwire and its packages are installed already, for a machine without any such
# place; then there is no list of what is in it.
set -eu
[ $# -eq 1 ] || { echo "usage: hack/image/stage.sh FOLDER" >&2; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

pip() { "$PYTHON" -m pip --quiet --disable-pip-version-check --no-input "$@"; }

# locked TARGET FILE: the wheels that a lock file names.
locked() {
    pip install --target "$1" --no-compile --no-deps --only-binary :all: --require-hashes -r "$2"
}

# packages TARGET: podwire's own from a copy, so that neither egg-info nor a stale build/ is in it.
packages() {
    locked "$1" hack/image/requirements.lock
    mkdir "$work/source"
    cp -R cni_plugin ipam setup.cfg pyproject.toml README.md LICENSE "$work/source"
    pip wheel --no-deps --no-build-isolation --no-index -w "$work" "$work/source"
    pip install --target "$1" --no-compile --no-deps --no-index "$work"/podwire-*.whl
}

listed() {
    locked "$work/sbom" hack/image/sbom.lock
    PYTHONPATH=$work/sbom "$PYTHON" -m cyclonedx_py requirements --output-reproducible \
        --output-format JSON --output-file "$work/sbom.json" hack/image/requirements.lock
    mkdir -p "$folder/usr/share/podwire"
    "$PYTHON" hack/image/sbom.py "$work/sbom.json" "$folder/usr/lib/podwire" \
        >"$folder/usr/share/podwire/sbom.cdx.json"
}

[ -n "${SITE:-}" ] || packages "$work/site"
mkdir -p "$folder/usr/lib" "$folder/usr/local/bin"
"$PYTHON" hack/tree "$folder/usr/lib/podwire" --site "${SITE:-$work/site}"
ln -sf /usr/lib/podwire/bin/podwire "$folder/usr/local/bin/podwire"
[ -n "${SITE:-}" ] || listed
