"""The cluster: made without a network, given podwire, waited for."""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

from tools import ROOT, Failed, Tools, say

CONFIG = """\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking:
  disableDefaultCNI: true
  ipFamily: {family}
  kubeProxyMode: {proxy}
nodes:
- role: control-plane
- role: worker
- role: worker
"""
# By name, so that the certificate fits: kind's has it, and docker's own name server on each node
# knows it. Without kube-proxy the service's address leads nowhere.
SERVER = 'source: {{kubernetes: {{server: "https://{name}-control-plane:6443"}}}}'
KUSTOMIZATION = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: podwire
resources:
- ../../../manifests/overlays/kind
images:
- name: podwire
  newName: {image}
  newTag: "{tag}"
"""
CHANGED = """\
generatorOptions:
  disableNameSuffixHash: true
configMapGenerator:
- name: podwire
  behavior: merge
  files: [agent.yaml]
"""


def image() -> str:
    """Podwire's of this tree, as `make image` names it."""
    text = (ROOT / "cni_plugin" / "__init__.py").read_text()
    found = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    assert found
    return f"podwire:{found[1]}"


def tagged(text: str) -> str:
    """An image with a tag. Raises ArgumentTypeError."""
    name, _, tag = text.rpartition(":")
    if not name or not tag or "/" in tag:  # what follows the last colon may be a registry's port
        raise argparse.ArgumentTypeError(f"{text!r} has no tag, accepted: NAME:TAG")
    return text


def up(tools: Tools, options: argparse.Namespace) -> None:
    """The cluster with podwire, its nodes ready. Raises Failed."""
    there = options.name in tools.run("kind", "get", "clusters").stdout.split()
    if there and not options.reuse:
        raise Failed(
            f"there is a cluster {options.name}: --reuse takes it, `make kind-down` deletes it"
        )
    if not options.no_build:
        say(f"building {options.image}")
        tools.run("make", "image", f"IMAGE={options.image}", shown=True)
    if not there:
        _create(tools, options)
    say(f"loading {options.image} into the nodes")
    tools.run("kind", "load", "docker-image", options.image, "--name", options.name, shown=True)
    say("applying manifests/overlays/kind")
    tools.kubectl("apply", "-k", str(_kustomization(options)), shown=True)
    _wait(tools, options)


def _create(tools: Tools, options: argparse.Namespace) -> None:
    """Without --wait: the nodes become ready by what comes next."""
    say(f"creating the cluster {options.name}: {options.ip_family}, {options.proxy_mode}")
    config = CONFIG.format(family=options.ip_family, proxy=options.proxy_mode)
    chosen = ["--image", options.node_image] if options.node_image else []
    create = ("kind", "create", "cluster", "--name", options.name, "--config", "-")
    tools.run(*create, *chosen, stdin=config, shown=True)


def _kustomization(options: argparse.Namespace) -> Path:
    """A folder that is the overlay with this image, and with the API's own address where there is
    no kube-proxy."""
    folder = ROOT / "build" / "kind" / options.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    name, _, tag = options.image.rpartition(":")
    text = KUSTOMIZATION.format(image=name, tag=tag)
    if options.proxy_mode == "none":
        agent = (ROOT / "manifests" / "overlays" / "kind" / "agent.yaml").read_text()
        wanted = "source: {kubernetes: {}}"
        assert wanted in agent, agent
        (folder / "agent.yaml").write_text(agent.replace(wanted, SERVER.format(name=options.name)))
        text += CHANGED
    (folder / "kustomization.yaml").write_text(text)
    return folder


def _wait(tools: Tools, options: argparse.Namespace) -> None:
    limit = f"--timeout={options.timeout}s"
    waits = [
        ("the agents", ("-n", "podwire", "rollout", "status", "daemonset/podwire", limit)),
        ("the nodes", ("wait", "--for=condition=Ready", "nodes", "--all", limit)),
    ]
    if options.proxy_mode != "none":  # without it CoreDNS does not find the API
        dns = ("-n", "kube-system", "rollout", "status", "deployment/coredns", limit)
        waits.append(("CoreDNS", dns))
    for what, command in waits:
        say(f"waiting for {what}")
        try:
            tools.kubectl(*command, shown=True)
        except Failed as failed:
            _show_why(tools)
            raise Failed(
                f"{what} did not become ready in {options.timeout} s: {failed}"
            ) from failed


def _show_why(tools: Tools) -> None:
    tools.kubectl("-n", "podwire", "get", "pods", "-o", "wide", check=False, shown=True)
    log = ("logs", "daemonset/podwire", "--all-containers", "--prefix", "--tail=40")
    tools.kubectl("-n", "podwire", *log, check=False, shown=True)


def down(tools: Tools, name: str) -> None:
    """Nothing there is fine. Raises Failed."""
    tools.run("kind", "delete", "cluster", "--name", name, shown=True)
    shutil.rmtree(ROOT / "build" / "kind" / name, ignore_errors=True)
