#!/bin/sh
# A node's root file system as one of kind or of a small cluster has it: Debian's containerd and
# runc, the few tools of a node, in /opt/cni/bin what kind's image has there, and no Python.
#
#   hack/node_root.sh FOLDER [SUITE]
#
# SUITE: another release of Debian than this machine's, for another containerd. Made once for each
# content of this script: FOLDER is complete or not there. Root only.
set -eu
[ $# -eq 1 ] || [ $# -eq 2 ] || { echo "usage: hack/node_root.sh FOLDER [SUITE]" >&2; exit 2; }
folder=$1
# shellcheck source=/dev/null
. /etc/os-release
suite=${2:-$VERSION_CODENAME}
of=$suite
# shellcheck source=hack/once.sh
. "$(dirname "$0")/once.sh"

# Source: /opt/cni/bin of kind's node image.
plugins="host-local loopback ptp portmap"
packages=containerd,runc,containernetworking-plugins,iproute2,iptables,nftables,conntrack
new=$folder.new
rm -rf "$new" "$folder"
"$(dirname "$0")/debootstrap.sh" "$new" "$suite" "$packages" 8>&-
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
