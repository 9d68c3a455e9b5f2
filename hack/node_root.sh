#!/bin/sh
# A node's root file system as one of kind or of a small cluster has it: Debian's containerd and
# runc, the few tools of a node, in /opt/cni/bin what kind's image has there, and no Python.
#
#   hack/node_root.sh FOLDER [SUITE]
#
# SUITE: another release of Debian than this machine's, from the same mirror, for another containerd.
# Made by debootstrap from the mirror that this machine's apt uses, once for each content of this
# script: FOLDER is complete or not there. Root only. Nothing is mounted on the machine: debootstrap
# works in namespaces of its own.
set -eu
[ $# -eq 1 ] || [ $# -eq 2 ] || { echo "usage: hack/node_root.sh FOLDER [SUITE]" >&2; exit 2; }
say() { printf 'podwire: %s\n' "$*" >&2; }
folder=$1
# shellcheck source=/dev/null
. /etc/os-release
suite=${2:-$VERSION_CODENAME}
made_by="$suite $(sha256sum <"$0")"
is_current() { [ "$(cat "$folder/.made-by" 2>/dev/null)" = "$made_by" ]; }
! is_current || exit 0
[ "$(id -u)" = 0 ] || { say "only root can make a node's root file system"; exit 3; }
command -v debootstrap >/dev/null ||
    { say "debootstrap is missing; install it with: apt-get install debootstrap"; exit 3; }
mkdir -p "$(dirname "$folder")"
exec 8>>"$folder.lock"
flock 8
! is_current || exit 0

# Source: /opt/cni/bin of kind's node image.
plugins="host-local loopback ptp portmap"
packages=containerd,runc,containernetworking-plugins,iproute2,iptables,nftables,conntrack

# The component and the site of this release's packages: a mirror is never named here.
# shellcheck disable=SC2016  # apt's own variables
mirror=$(apt-get indextargets --format '$(CREATED_BY) $(CODENAME) $(COMPONENT) $(SITE)' |
    awk -v wanted="$VERSION_CODENAME" '$1 == "Packages" && $2 == wanted { print $3, $4; exit }')
[ -n "$mirror" ] || { say "apt knows no $VERSION_CODENAME; run: apt-get update"; exit 3; }
new=$folder.new
rm -rf "$new" "$folder"
mkdir "$new"
new=$(cd "$new" && pwd)
# A debootstrap that is older than the release makes it as it makes the newest that it knows.
script=
[ -e "/usr/share/debootstrap/scripts/$suite" ] || script=/usr/share/debootstrap/scripts/sid
say "making a node's root file system of $suite with debootstrap, about a minute (log: $new.log)"
unshare --mount --pid --fork --kill-child --mount-proc --propagation private \
    debootstrap --variant=minbase "--include=$packages" "--components=${mirror%% *}" \
    "$suite" "$new" "${mirror#* }" ${script:+"$script"} >"$new.log" 2>&1 </dev/null 8>&- ||
    { tail -5 "$new.log" >&2; exit 1; }
# What apt fetched and what nobody reads there: half of it.
rm -rf "$new"/var/cache/apt/* "$new"/var/lib/apt/lists/* "$new"/usr/share/doc \
    "$new"/usr/share/man "$new"/usr/share/locale "$new"/usr/share/info
mkdir -p "$new/opt/cni/bin" "$new/etc/cni/net.d"
for plugin in $plugins; do cp "$new/usr/lib/cni/$plugin" "$new/opt/cni/bin/"; done
rm -rf "$new/usr/lib/cni"
for python in "$new"/usr/bin/python*; do
    [ ! -e "$python" ] || { say "there is a Python in it: $python"; exit 1; }
done
echo "$made_by" >"$new/.made-by"
mv "$new" "$folder"
