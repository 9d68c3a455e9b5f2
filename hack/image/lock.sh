#!/bin/sh
# What the image's Python packages are, to the byte: writes hack/image/requirements.lock from
# setup.cfg (podwire with the extras agent and cluster), and sbom.lock, the tool that lists them.
# pyroute2 is in neither: the product does not import it (hack/tree/contents.py).
set -eu
cd "$(dirname "$0")/../.."
[ -x build/lock/bin/pip-compile ] || {
    python3 -m venv build/lock
    build/lock/bin/pip --quiet --disable-pip-version-check install pip-tools
}

# lock OUTPUT ARGUMENT...: without a word of where the packages came from.
lock() {
    output=$1
    shift
    CUSTOM_COMPILE_COMMAND=hack/image/lock.sh build/lock/bin/pip-compile --quiet --generate-hashes \
        --strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
        --unsafe-package pyroute2 --output-file "$output.new" "$@"
    sed '/WARNING: The following/,$d' "$output.new" | sed -e '$!b' -e '/^$/d' >"$output"
    rm "$output.new"
}

lock hack/image/requirements.lock --extra agent --extra cluster setup.cfg
echo cyclonedx-bom >build/lock/sbom.in
lock hack/image/sbom.lock build/lock/sbom.in
