"""A container runtime's part of CNI, as libcni plays it, for a config list on a node."""

from __future__ import annotations

import base64
import json
from collections.abc import Container, Iterable, Mapping
from typing import Any

from tests.support.node import Node, Pod, Reply

CACHE = "/var/lib/cni/results"
Json = dict[str, Any]


class Failed(AssertionError):
    """A plugin of the chain failed. reply is its answer, plugin its type."""

    def __init__(self, plugin: str, verb: str, reply: Reply) -> None:
        self.plugin = plugin
        self.reply = reply
        answer = reply.stdout.decode(errors="replace") or reply.stderr
        super().__init__(f'plugin type="{plugin}" failed ({verb.lower()}): {answer}')

    @property
    def code(self) -> int | None:
        """The CNI error code."""
        return self.reply.code


class Runtime:
    """Runs a config list's chain: ADD and CHECK in order, DEL in reverse, results cached.

    conflist: the list as it would be in /etc/cni/net.d. A single plugin object is wrapped.
    """

    def __init__(self, node: Node, conflist: Mapping[str, Any]) -> None:
        self.node = node
        self.conflist: Json = dict(conflist)
        if "plugins" not in self.conflist:
            head = {key: conflist[key] for key in ("cniVersion", "name")}
            self.conflist = {**head, "plugins": [dict(conflist)]}
        self.cache: dict[tuple[str, str], Json] = {}
        self._arguments: dict[tuple[str, str], tuple[str, Json]] = {}

    @property
    def version(self) -> tuple[int, ...]:
        """The list's cniVersion, comparable."""
        return tuple(map(int, self.conflist["cniVersion"].split(".")))

    def config(
        self, plugin: Mapping[str, Any], capabilities: Json, previous: Json | None, **more: Any
    ) -> Json:
        """What one plugin of the list gets on stdin."""
        merged: Json = dict(plugin)
        merged["name"] = self.conflist["name"]
        merged["cniVersion"] = self.conflist["cniVersion"]
        wanted = {k for k, on in plugin.get("capabilities", {}).items() if on}
        given = {key: value for key, value in capabilities.items() if key in wanted}
        if given:
            merged["runtimeConfig"] = given
        if previous is not None:
            merged["prevResult"] = previous
        return {**merged, **more}

    def _run(self, verb: str, plugin: Mapping[str, Any], env: Mapping[str, str], conf: Json) -> Any:
        reply = self.node.plugin(plugin["type"], {"CNI_COMMAND": verb, **env}, conf)
        if reply.returncode:
            raise Failed(plugin["type"], verb, reply)
        return reply.json

    @staticmethod
    def _env(pod: Pod, ifname: str, args: str, netns: str | None) -> dict[str, str]:
        return {
            "CNI_CONTAINERID": pod.container_id,
            "CNI_NETNS": pod.netns if netns is None else netns,
            "CNI_IFNAME": ifname,
            "CNI_ARGS": args,
        }

    def add(
        self,
        pod: Pod,
        ifname: str = "eth0",
        *,
        args: str = "",
        capabilities: Json | None = None,
    ) -> Json:
        """The chain's result, cached for CHECK and DEL. Failed: nothing is cleaned up here, a
        runtime's next call is `delete`."""
        key = (pod.container_id, ifname)
        self._arguments[key] = (args, capabilities or {})
        result: Json | None = None
        for plugin in self.conflist["plugins"]:
            conf = self.config(plugin, capabilities or {}, result)
            result = self._run("ADD", plugin, self._env(pod, ifname, args, None), conf)
        assert result is not None
        self.cache[key] = result
        self._write_cache(pod, ifname, result)
        return result

    def check(self, pod: Pod, ifname: str = "eth0", *, skip: Container[str] = ()) -> None:
        """CHECK along the chain with the cached result. Failed on the first difference.

        skip: plugin types left out, for a foreign plugin whose CHECK is broken."""
        key = (pod.container_id, ifname)
        args, capabilities = self._arguments.get(key, ("", {}))
        for plugin in self.conflist["plugins"]:
            if plugin["type"] in skip:
                continue
            conf = self.config(plugin, capabilities, self.cache[key])
            assert self._run("CHECK", plugin, self._env(pod, ifname, args, None), conf) is None

    def delete(
        self,
        pod: Pod,
        ifname: str = "eth0",
        *,
        netns: str | None = None,
        forget: bool = False,
    ) -> None:
        """DEL along the chain in reverse. netns="" as for a dead sandbox; forget: as after a
        reboot, without prevResult."""
        key = (pod.container_id, ifname)
        args, capabilities = self._arguments.get(key, ("", {}))
        # Before 0.4.0 a runtime keeps no result.
        previous = self.cache.get(key) if self.version >= (0, 4, 0) and not forget else None
        for plugin in reversed(self.conflist["plugins"]):
            conf = self.config(plugin, capabilities, previous)
            assert self._run("DEL", plugin, self._env(pod, ifname, args, netns), conf) is None
        self.cache.pop(key, None)
        self._cache_file(pod, ifname).unlink(missing_ok=True)

    def status(self) -> None:
        """STATUS along the chain, with the variables set but empty, as containerd does."""
        env = {"CNI_CONTAINERID": "", "CNI_NETNS": "", "CNI_IFNAME": "", "CNI_ARGS": ""}
        for plugin in self.conflist["plugins"]:
            assert self._run("STATUS", plugin, env, self.config(plugin, {}, None)) is None

    def gc(self, valid: Iterable[tuple[str, str]] | None) -> None:
        """GC along the chain. valid: (container id, ifname) pairs; None leaves the list out."""
        keys: Json = {}
        if valid is not None:
            listed = [{"containerID": owner, "ifname": ifname} for owner, ifname in valid]
            keys = {"cni.dev/valid-attachments": listed, "cni.dev/attachments": listed}
        for plugin in self.conflist["plugins"]:
            assert self._run("GC", plugin, {}, self.config(plugin, {}, None, **keys)) is None

    def _cache_file(self, pod: Pod, ifname: str) -> Any:
        name = f"{self.conflist['name']}-{pod.container_id}-{ifname}"
        return self.node.path(f"{CACHE}/{name}")

    def _write_cache(self, pod: Pod, ifname: str, result: Json) -> None:
        args, capabilities = self._arguments[pod.container_id, ifname]
        path = self._cache_file(pod, ifname)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_text(
            json.dumps(
                {
                    "kind": "cniCacheV1",
                    "containerId": pod.container_id,
                    "config": base64.b64encode(json.dumps(self.conflist).encode()).decode(),
                    "ifName": ifname,
                    "networkName": self.conflist["name"],
                    "netns": pod.netns,
                    "cniArgs": [item.split("=", 1) for item in args.split(";") if item],
                    "capabilityArgs": capabilities,
                    "result": result,
                }
            )
        )
