#!/bin/sh
# Run a command where it can do no harm: its own network, mounts and processes.
#
#   hack/sandbox.sh COMMAND [ARGUMENT...]
#
# Inside, /run, /etc/cni, /opt/cni, /opt/podwire and what podwire and containerd keep in
# /var/lib are empty and vanish with the command, whatever the machine has there; the only link
# is lo; and every process that the command leaves behind is killed when it ends. Root uses plain namespaces,
# an ordinary user a user namespace in which he is root. PODWIRE_SANDBOX holds the network
# namespace that was left, so that a program can check that it is not still there.
set -eu

say() { printf 'podwire: %s\n' "$*" >&2; }

# cover PATH: an empty tmpfs at PATH, and the machine's own disk is not written to even when
# PATH does not exist yet. Then its parent becomes a tmpfs that holds all its entries again
# (an overlay would do for root, but in a user namespace its top still belongs to nobody).
cover() {
    if [ ! -d "$1" ]; then
        parent=${1%/*}
        mkdir -p /run/.original
        mount --rbind "$parent" /run/.original
        mount -t tmpfs -o mode=755 podwire "$parent"
        for entry in /run/.original/* /run/.original/.[!.]*; do
            name=$parent/${entry##*/}
            if [ -L "$entry" ]; then
                cp -P "$entry" "$name"
            elif [ -d "$entry" ]; then
                mkdir "$name" && mount --rbind "$entry" "$name"
            elif [ -e "$entry" ]; then
                : >"$name" && mount --bind "$entry" "$name"
            fi
        done
        umount -l /run/.original
        rmdir /run/.original
        mkdir -p "$1"
    fi
    mount -t tmpfs -o mode=755 podwire "$1"
}

if [ "${1:-}" = --inside ]; then
    shift
    mount -t tmpfs -o mode=755 podwire /run
    mkdir -p /run/netns /run/lock
    for folder in /etc/cni /opt/cni /opt/podwire /var/lib/cni /var/lib/podwire /var/lib/containerd
    do
        cover "$folder"
    done
    ip link set lo up
    # This shell stays as process 1: it reaps what the command leaves, and its end is theirs.
    status=0
    "$@" || status=$?
    exit "$status"
fi

[ $# -gt 0 ] || { say "usage: hack/sandbox.sh COMMAND [ARGUMENT...]"; exit 2; }
# A sandbox in a sandbox would only cost time.
[ -z "${PODWIRE_SANDBOX:-}" ] || exec "$@"

for tool in unshare mount ip; do
    command -v "$tool" >/dev/null 2>&1 || {
        say "$tool is missing; install it with: apt-get install util-linux iproute2"
        exit 3
    }
done
PODWIRE_SANDBOX=$(readlink /proc/self/ns/net)
export PODWIRE_SANDBOX
set -- --net --mount --propagation private --pid --fork --kill-child --mount-proc \
    "$0" --inside "$@"
[ "$(id -u)" = 0 ] || set -- --user --map-root-user "$@"
if [ "${1}" = --user ] && ! unshare --user --map-root-user --net true 2>/dev/null; then
    say "this kernel gives an ordinary user no user namespace (sysctl" \
        "kernel.unprivileged_userns_clone, user.max_user_namespaces or" \
        "kernel.apparmor_restrict_unprivileged_userns); run as root"
    exit 3
fi
exec unshare "$@"
