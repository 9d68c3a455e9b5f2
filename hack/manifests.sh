#!/bin/sh
# manifests/podwire.yaml and uninstall.yaml, each made of a kustomization: for who has kubectl alone.
#
#   hack/manifests.sh [FOLDER]    FOLDER: where to, manifests by default
set -eu
cd "$(dirname "$0")/.."
to=${1:-manifests}
kubectl=build/tools/kubectl
[ -x "$kubectl" ] || { echo "podwire: $kubectl is missing; run: make manifests" >&2; exit 3; }

# make_one KUSTOMIZATION FILE
make_one() {
    {
        echo "# Made of manifests/$1 by \`make manifests\`: change that, not this."
        "$kubectl" kustomize "manifests/$1"
    } >"$to/$2.new"
    mv "$to/$2.new" "$to/$2"
}

make_one base podwire.yaml
make_one uninstall uninstall.yaml
