#!/bin/sh
# The image's content as a folder, without a registry and without a builder: Debian by debootstrap,
# from where apt is configured to take it, and on it what the image has beside its base.
#
#   hack/image/rootfs.sh FOLDER
#
# `tar -C FOLDER -c . | podman import - NAME` makes an image of it, and with hack/debootstrap.sh alone
# a base for `make image BASE=NAME`. As root; FOLDER is new. PYTHON as in hack/image/stage.sh.
set -eu
[ $# -eq 1 ] || { echo "usage: hack/image/rootfs.sh FOLDER" >&2; exit 2; }
[ ! -e "$1" ] || { echo "podwire: $1 is there already" >&2; exit 1; }
here=$(dirname "$0")
"$here/../debootstrap.sh" "$1" "${SUITE:-bookworm}" iptables
"$here/stage.sh" "$1"
