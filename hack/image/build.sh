#!/bin/sh
# podwire's image by docker, podman or buildah, whichever is there.
#
#   hack/image/build.sh [ARGUMENT...]        arguments of the build go to the builder
#
# IMAGE: its name, podwire:VERSION, written out as a node's runtime understands it: podman and buildah
# would call it localhost/podwire, which no manifest names. BASE: another base image than the pinned one, for a mirror or a
# newer digest. PLATFORM: linux/amd64, linux/arm64 or both with a comma, where the builder can.
# BUILDER: docker, podman or buildah, when there are several.
set -eu
cd "$(dirname "$0")/../.."
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' cni_plugin/__init__.py)
IMAGE=${IMAGE:-docker.io/library/podwire:$version}

usable() {
    command -v "$1" >/dev/null 2>&1 || return 1
    # A docker client without its daemon builds nothing.
    [ "$1" != docker ] || docker info >/dev/null 2>&1
}

for builder in ${BUILDER:-docker podman buildah}; do
    if usable "$builder"; then break; fi
    builder=
done
if [ -z "$builder" ]; then
    echo "podwire: an image needs docker (with its daemon running), podman or buildah;" \
        "install one: apt-get install podman" >&2
    exit 1
fi
set -- -f Dockerfile -t "$IMAGE" --build-arg "VERSION=$version" "$@"
[ -z "${BASE:-}" ] || set -- --build-arg "BASE=$BASE" "$@"
[ -z "${PLATFORM:-}" ] || set -- --platform "$PLATFORM" "$@"
echo "podwire: $builder builds $IMAGE" >&2
exec "$builder" build "$@" .
