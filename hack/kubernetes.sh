#!/bin/sh
# Kubernetes' own programs, for the nodes of `make test-kubernetes`: kubeadm, kubelet, the API server,
# the controllers, the scheduler, kube-proxy, and etcd.
#
#   hack/kubernetes.sh FOLDER
#
# Built from Debian 12's source package of 1.20.2: the newest one with more than kubectl in it, and
# no package has them built. In a root file system of its own with Debian's Go, without a network;
# some eight minutes, and 4 GB until it is done. Root only; made once for each content of this script.
set -eu
[ $# -eq 1 ] || { echo "usage: hack/kubernetes.sh FOLDER" >&2; exit 2; }
folder=$1
# shellcheck source=hack/once.sh
. "$(dirname "$0")/once.sh"

programs="kubeadm kubelet kube-apiserver kube-controller-manager kube-scheduler kube-proxy"
# reflect2: the source's own copy ends programs of Go 1.18 and newer with a panic.
packages=golang-go,make,rsync,jq,dpkg-dev,etcd-server,golang-github-modern-go-reflect2-dev
root=$folder.root
rm -rf "$root" "$folder.new" "$folder"
"$(dirname "$0")/debootstrap.sh" "$root" bookworm "$packages" 8>&-
root=$(cd "$root" && pwd)
sed -n 's/^deb /deb-src /p' "$root/etc/apt/sources.list" >"$root/etc/apt/sources.list.d/source.list"
say "building Kubernetes from Debian's source, some eight minutes (log: $root.log)"
mkdir "$root/source"
# This machine's apt and network with that root's sources and lists.
sources() {
    (cd "$root/source" && apt-get -q -o "Dir=$root" -o APT::Sandbox::User=root "$@") \
        >>"$root.log" 2>&1 </dev/null 8>&- || { tail -5 "$root.log" >&2; exit 1; }
}
sources update
sources source --download-only kubernetes
# shellcheck disable=SC2016,SC2086  # for the shell in there; a list of names
unshare --mount --pid --net --fork --kill-child --propagation private chroot "$root" sh -euc '
    mount -t proc proc /proc
    cd /source
    dpkg-source --no-check -x kubernetes_*.dsc tree
    version=$(ls kubernetes_*.dsc | sed "s/.*really\([0-9.]*\)-.*/\1/")
    cd tree
    reflect2=github.com/modern-go/reflect2
    rm "vendor/$reflect2"/*.go "vendor/$reflect2"/*.s
    cp "/usr/share/gocode/src/$reflect2"/*.go "/usr/share/gocode/src/$reflect2"/*.s "vendor/$reflect2/"
    printf "%s\n" "KUBE_GIT_COMMIT=debian" "KUBE_GIT_TREE_STATE=archive" \
        "KUBE_GIT_VERSION=v$version" "KUBE_GIT_MAJOR=1" "KUBE_GIT_MINOR=20" >/source/version
    export HOME=/root CGO_ENABLED=0 GOFLAGS=-mod=vendor KUBE_GIT_VERSION_FILE=/source/version
    make WHAT="$(printf "cmd/%s " "$@")"
' sh $programs >>"$root.log" 2>&1 </dev/null 8>&- || { tail -20 "$root.log" >&2; exit 1; }
mkdir "$folder.new"
for program in $programs; do
    mv "$root"/source/tree/_output/local/bin/linux/*/"$program" "$folder.new/"
done
mv "$root/usr/bin/etcd" "$folder.new/"
rm -rf "$root"
echo "$made_by" >"$folder.new/.made-by"
mv "$folder.new" "$folder"
