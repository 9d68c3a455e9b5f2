#!/bin/sh
# A kind cluster with podwire as its network, and a test of everything that pods expect of one.
#
#   hack/kind-up.sh [--name NAME] [--ip-family ipv4|ipv6|dual]
#                   [--proxy-mode iptables|ipvs|nftables|none] [--reuse] [--no-build] [-o json]
#   hack/kind-up.sh --down [--name NAME]
#
# Needs docker with its daemon, kind, kubectl and Python 3.11; what is missing is named, with the
# remedy, before anything is changed. The work is done by hack/kind/.
set -eu
cd "$(dirname "$0")/.."
for python in python3 python3.11 python3.12 python3.13 python3.14; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        exec "$python" -B hack/kind "$@"
    fi
done
echo "podwire: no Python 3.11 or newer; install with: apt-get install python3" >&2
exit 3
