#!/bin/sh
# The launcher as one static executable, with the flags of every build: of `make launcher`, of
# the tree and of the suite.
#
#   hack/launcher.sh OUTPUT
#
# CC: musl-gcc where there is one (a tenth of the size, a third of the start: glibc asks the processor
# what it can, which a virtual machine answers slowly), otherwise gcc; a cross compiler does
# too. PYTHON_TREE and AGENT_SOCKET: the paths compiled in. SOURCE: another program than the
# launcher, relative to the repository.
set -eu
[ $# -eq 1 ] || { echo "usage: hack/launcher.sh OUTPUT" >&2; exit 2; }
source=$(dirname "$0")/../${SOURCE:-cni_plugin/launcher/launcher.c}
CC=${CC:-$(command -v musl-gcc || echo gcc)}

build() {
    "$CC" -std=gnu11 -O2 -Wall -Wextra -Werror -fstack-protector-strong -D_FORTIFY_SOURCE=2 \
        -Wl,-z,relro,-z,now,-z,noexecstack -s \
        "-DPYTHON_TREE=\"${PYTHON_TREE:-/opt/podwire/current}\"" \
        "-DAGENT_SOCKET=\"${AGENT_SOCKET:-/run/podwire/agent.sock}\"" "$@" "$source"
}

mkdir -p "$(dirname "$1")"
# Where the C library has no start for it, -static-pie fails or, with Debian's musl-gcc, makes an
# executable that asks for a dynamic loader, which a node's image lacks.
if ! build -static-pie -fPIE -o "$1" 2>/dev/null || readelf -lW "$1" | grep -q INTERP; then
    build -static -o "$1"
fi
