#!/bin/sh
# A release of Debian in a folder, from the mirror that this machine's apt uses.
#
#   hack/debootstrap.sh FOLDER SUITE PACKAGE,PACKAGE... [ARGUMENT...]
#
# SUITE may be another release than this machine's: the mirror has them all. ARGUMENT: of debootstrap.
# FOLDER is not there yet; what debootstrap said is in FOLDER.log, its end shown when it fails. Root
# only. Nothing is mounted on the machine: debootstrap works in namespaces of its own.
set -eu
[ $# -ge 3 ] || { echo "usage: hack/debootstrap.sh FOLDER SUITE PACKAGES [ARGUMENT...]" >&2; exit 2; }
say() { printf 'podwire: %s\n' "$*" >&2; }
[ "$(id -u)" = 0 ] || { say "only root can make a root file system"; exit 3; }
command -v debootstrap >/dev/null ||
    { say "debootstrap is missing; install it with: apt-get install debootstrap"; exit 3; }
# shellcheck source=/dev/null
. /etc/os-release
# The component and the site of this machine's packages: a mirror is never named here.
# shellcheck disable=SC2016  # apt's own variables
mirror=$(apt-get indextargets --format '$(CREATED_BY) $(CODENAME) $(COMPONENT) $(SITE)' |
    awk -v wanted="$VERSION_CODENAME" '$1 == "Packages" && $2 == wanted { print $3, $4; exit }')
[ -n "$mirror" ] || { say "apt knows no $VERSION_CODENAME; run: apt-get update"; exit 3; }
mkdir "$1"
folder=$(cd "$1" && pwd)
suite=$2 packages=$3
shift 3
# A debootstrap that is older than the release makes it as it makes the newest that it knows.
script=
[ -e "/usr/share/debootstrap/scripts/$suite" ] || script=/usr/share/debootstrap/scripts/sid
say "making a root file system of $suite with debootstrap, about a minute (log: $folder.log)"
unshare --mount --pid --fork --kill-child --mount-proc --propagation private \
    debootstrap --variant=minbase "--include=$packages" "--components=${mirror%% *}" "$@" \
    "$suite" "$folder" "${mirror#* }" ${script:+"$script"} >"$folder.log" 2>&1 </dev/null ||
    { tail -5 "$folder.log" >&2; exit 1; }
