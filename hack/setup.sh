#!/bin/sh
# Everything a make target needs, made when missing or out of date; then the command, if any.
#
#   hack/setup.sh demo|bench|bench-cluster|lint|fmt|test|launcher|tree|machine|manifests [COMMAND...]
#
# .venv gets podwire itself as a user would have it: a normal install from a built wheel, not
# an editable one, whose import hook costs start-up time in every run of the executable.
# It is made again when a source file's content changed. Development tools are added only for
# the targets that use them. Everything lands in .venv and build, both ignored by git.
#
# A lock lets runs at the same time share .venv: the shared side is held as long as COMMAND
# runs, the exclusive side while something is installed.
#
# PYTHON=... chooses the interpreter. Silent unless something has to be done.
set -eu
cd "$(dirname "$0")/.."

say() { printf 'podwire: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

target=${1:-}
[ $# -eq 0 ] || shift
# Each entry is PROBE:PACKAGE, the probe a command or a file. The demo needs no more than ip.
needs_tools=
case $target in
    demo) wanted="ip:iproute2 gcc:gcc /usr/include/spawn.h:libc6-dev" ;;
    bench)
        wanted="ip:iproute2 unshare:util-linux /usr/lib/cni/bridge:containernetworking-plugins
            gcc:gcc /usr/include/spawn.h:libc6-dev"
        ;;
    bench-cluster)
        wanted="ip:iproute2 bridge:iproute2 unshare:util-linux ping:iputils-ping iperf3:iperf3"
        ;;
    test)
        needs_tools=yes
        wanted="ip:iproute2 unshare:util-linux ping:iputils-ping nft:nftables
            iptables:iptables conntrack:conntrack strace:strace openssl:openssl gcc:gcc
            /usr/include/spawn.h:libc6-dev /usr/lib/cni/bridge:containernetworking-plugins
            containerd:containerd runc:runc busybox:busybox-static podman:podman
            debootstrap:debootstrap strip:binutils"
        ;;
    lint | fmt) needs_tools=yes wanted= ;;
    launcher) wanted="gcc:gcc /usr/include/spawn.h:libc6-dev" ;;
    tree) # which of the packages it takes, it decides itself
        needs_tools=yes
        wanted="gcc:gcc /usr/include/spawn.h:libc6-dev strip:binutils"
        ;;
    machine) needs_tools=yes wanted="debootstrap:debootstrap" ;;
    manifests) wanted= ;;
    *) die "usage: hack/setup.sh demo|bench|bench-cluster|lint|fmt|test|launcher|tree|machine|" \
        "manifests [COMMAND...]" ;;
esac

# Debian keeps ip, nft and others out of an ordinary user's PATH.
PATH=$PATH:/usr/sbin:/sbin
export PATH

have() {
    case $1 in
        /*) [ -e "$1" ] ;;
        *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

# quietly LOG COMMAND...: its output is shown only when it fails.
quietly() {
    log=build/$1.log
    shift
    "$@" >"$log" 2>&1 </dev/null || {
        status=$?
        cat "$log" >&2
        return "$status"
    }
}

# apt_install PACKAGE...: only for root on Debian and its like.
apt_install() {
    say "installing with apt-get: $*"
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-update apt-get update -q &&
        quietly apt-install apt-get install -y -q --no-install-recommends "$@"
}

can_apt() { [ "$(id -u)" = 0 ] && [ -z "${PODWIRE_SANDBOX:-}" ] && have apt-get; }

# better_compiler: a launcher made with musl starts in a third of the time (hack/launcher.sh), and
# one that is made without works as well.
better_compiler() {
    case $wanted in *gcc:gcc*) ;; *) return 0 ;; esac
    if [ -n "${CC:-}" ] || have musl-gcc || ! can_apt; then return 0; fi
    apt_install musl-tools 2>build/musl.log || say "no musl-tools: see build/musl.log"
}

system_packages() {
    missing=
    for pair in $wanted; do
        have "${pair%%:*}" || missing="$missing ${pair##*:}"
    done
    [ -n "$missing" ] || return 0
    # One at a time when not all can be had together: podman is not everywhere.
    # shellcheck disable=SC2086  # a list of names
    if can_apt; then
        apt_install $missing && return 0
        failed=
        for package in $missing; do
            quietly apt-install apt-get install -y -q --no-install-recommends "$package" ||
                failed="$failed $package"
        done
        [ -n "$failed" ] || return 0
        missing=$failed
    fi
    say "missing$missing; install with: apt-get install$missing"
    # The suite says for each skipped test what it lacks; demo and bench cannot do without.
    [ "$target" = test ]
}

pip() { .venv/bin/python -m pip --quiet --disable-pip-version-check --no-input "$@"; }

usable_python() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for name in ${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14 /usr/bin/python3}; do
        if have "$name" && usable_python "$name"; then
            echo "$name"
            return 0
        fi
    done
    return 1
}

make_venv() {
    python=$(find_python) || {
        can_apt && apt_install python3 python3-venv && python=$(find_python)
    } || die "no Python 3.11 or newer with venv; install with: apt-get install python3 python3-venv"
    say "making .venv with $("$python" --version)"
    rm -rf .venv
    quietly venv "$python" -m venv .venv
    # setuptools in site-packages brings a .pth file that every start of Python executes, and
    # older pips write console scripts that import re: neither belongs in what we measure.
    quietly pip-first pip install --upgrade 'pip>=25.1'
    quietly pip-setuptools pip uninstall -y setuptools
    quietly pip-build pip install --target .venv/build-tools 'setuptools>=77'
}

content() { find "$@" -type f ! -name '*.py[co]' -print0 2>/dev/null | sort -z | xargs -0 sha256sum; }

product_files() { content cni_plugin ipam setup.cfg pyproject.toml README.md LICENSE; }

# install_product: a wheel from a copy of the sources, so that neither egg-info nor a stale
# build/lib can appear in the tree or the wheel.
install_product() {
    copy=$(mktemp -d build/wheel.XXXXXX)
    for path in cni_plugin ipam setup.cfg pyproject.toml README.md LICENSE; do
        if [ -e "$path" ]; then cp -R "$path" "$copy/"; fi
    done
    PYTHONPATH="$PWD/.venv/build-tools" quietly wheel \
        pip wheel --no-deps --no-build-isolation -w "$copy/out" "./$copy"
    quietly install pip install --no-deps --force-reinstall "$copy"/out/*.whl
    rm -rf "$copy"
}

# dependencies EXTRA: what setup.cfg names, at the versions pip finds.
dependencies() {
    say "installing Python packages ($1)"
    .venv/bin/python - "$1" >build/requirements.txt <<'PYTHON'
import configparser
import sys

options = configparser.ConfigParser()
options.read("setup.cfg")
listed = options["options"]["install_requires"]
if sys.argv[1] == "dev":
    listed += "\n" + options["options.extras_require"]["dev"]
print(listed)
PYTHON
    quietly "pip-$1" pip install --upgrade --requirement build/requirements.txt
}

stamp() { cat ".venv/stamp-$1" 2>/dev/null || true; }
is_current() {
    [ -x .venv/bin/podwire ] && .venv/bin/python -c '' 2>/dev/null || return 1
    [ "$(stamp run)" = "$requirements" ] || [ "$(stamp dev)" = "$requirements" ] || return 1
    [ -z "$needs_tools" ] || [ "$(stamp dev)" = "$requirements" ] || return 1
    [ "$(stamp product)" = "$(product_files | sha256sum)" ]
}

bring_up_to_date() {
    if [ ! -x .venv/build-tools ] || ! .venv/bin/python -c '' 2>/dev/null; then make_venv; fi
    kind=run
    [ -z "$needs_tools" ] || kind=dev
    if [ "$(stamp "$kind")" != "$requirements" ] &&
        { [ "$kind" = dev ] || [ "$(stamp dev)" != "$requirements" ]; }; then
        dependencies "$kind"
        echo "$requirements" >".venv/stamp-$kind"
    fi
    now=$(product_files | sha256sum)
    if [ "$(stamp product)" != "$now" ]; then
        install_product
        echo "$now" >.venv/stamp-product
    fi
}

requirements=$(sha256sum <setup.cfg)
mkdir -p build
# The lock file is never removed: a second one of the same name would be another lock.
exec 9>>build/setup.lock
flock -s 9
# The launcher is C alone: an image is built without Python's part.
if [ "$target" != launcher ] && ! is_current; then
    flock -n 9 || {
        say "waiting for another run that uses .venv"
        flock 9
    }
    is_current || bring_up_to_date
    flock -s 9
fi
system_packages
better_compiler
# kubectl and helm, and nodes as kind's; a test that finds none says so.
case $target in
    manifests) .venv/bin/python hack/tools.py ;;
    test)
        .venv/bin/python hack/tools.py || say "no kubectl and helm in build/tools"
        hack/node_root.sh build/node-root 9>&- || say "no node's root file system in build/node-root"
        # containerd 2, which this release may not have.
        suite=${SUITE:-forky}
        hack/node_root.sh "build/node-root-$suite" "$suite" 9>&- ||
            say "no node's root file system of Debian's $suite"
        ;;
esac
[ $# -eq 0 ] || exec "$@"
