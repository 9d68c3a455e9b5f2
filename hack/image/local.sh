#!/bin/sh
# The image by its Dockerfile where there is no registry for its base: Debian by debootstrap instead,
# podman as the builder with a store of its own, and the outcome as an archive.
#
#   hack/image/local.sh FOLDER
#
# Leaves FOLDER/podwire.tar, in the OCI layout. The build reaches what this machine reaches: by its
# network, its authorities and its pip's settings. Root only; no container engine's own store and no
# mount of the machine is touched.
set -eu
[ $# -eq 1 ] || { echo "usage: hack/image/local.sh FOLDER" >&2; exit 2; }
command -v podman >/dev/null || {
    echo "podwire: podman is missing; install it with: apt-get install podman" >&2
    exit 1
}
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
[ -z "${PODWIRE_UNSHARED:-}" ] && exec env PODWIRE_UNSHARED=yes \
    unshare --mount --propagation private "hack/image/$(basename "$0")" "$folder"

export CONTAINERS_STORAGE_CONF="$folder/storage.conf" CONTAINERS_CONF="$folder/containers.conf"
cat >"$CONTAINERS_STORAGE_CONF" <<EOF
[storage]
driver = "overlay"
graphroot = "$folder/store"
runroot = "$folder/run"
EOF
cat >"$CONTAINERS_CONF" <<EOF
[engine]
events_logger = "none"
tmp_dir = "$folder/run/libpod"
EOF
base=localhost/debian:bookworm
if [ ! -e "$folder/base.log" ] || ! podman image exists "$base"; then
    rm -rf "$folder/base"
    hack/debootstrap.sh "$folder/base" bookworm ca-certificates
    tar -C "$folder/base" -c . | podman import --quiet - "$base" >/dev/null
    rm -rf "$folder/base"
fi
settings=
for file in /etc/pip.conf /etc/ssl/certs; do
    [ ! -e "$file" ] || settings="$settings --volume=$file:$file:ro"
done
# shellcheck disable=SC2086  # a list of words
BUILDER=podman BASE=$base hack/image/build.sh --network=host --isolation=chroot $settings \
    >"$folder/build.log" 2>&1 || { tail -20 "$folder/build.log" >&2; exit 1; }
rm -f "$folder/podwire.tar"
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' cni_plugin/__init__.py)
podman save --quiet --format=oci-archive --output="$folder/podwire.tar" \
    "docker.io/library/podwire:$version"
