"""A Kubernetes API server with nothing but Nodes: list, watch, get and patch as the real one does
them, and the ways in which it fails.

Its rules are those of kubernetes.io/docs, "Kubernetes API Concepts":
- one counter of versions; each change of any object takes the next, a removal too;
- a list with `limit` comes in pages of one moment, by an opaque `continue`;
- a watch from a version gives all that came after it, from none first what is there (ADDED);
- versions and continues from before a compaction are 410 Gone, of a watch as an ERROR event;
- BOOKMARK events for those who ask, `timeoutSeconds` ends a watch in good order;
- a merge patch (RFC 7396) of nodes/status leaves spec alone.

    async with KubeApi() as api:
        api.put(node_object("a", ["10.244.1.0/24"], ["192.0.2.1"]))
        ... api.url ...
        api.down(); await api.up()

In a process of its own, for agents in other network namespaces (KubeProcess starts one):

    python -m tests.support.kube_api HOST PORT [FILE]

FILE: a certificate and its key, PEM, to speak TLS with. It prints its URL, and then carries out the
lines of its standard input, JSON arrays: the name of one of its methods and arguments, or "set", an
attribute and its value. Each is answered by a line, what the method returned.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, unquote, urlsplit

Object = dict[str, Any]
NODES = "/api/v1/nodes"
REASONS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 410: "Expired", 429: "TooMany"}


def node_object(
    name: str,
    pod_cidrs: list[str] | None = None,
    addresses: list[str] | None = None,
    annotations: dict[str, str] | None = None,
    bulk: int = 0,
) -> Object:
    """A Node as kubelet and controllers leave it. bulk: how many images it has."""
    cidrs = pod_cidrs or []
    spec: Object = {"providerID": f"test://{name}"}
    if cidrs:
        spec |= {"podCIDR": cidrs[0], "podCIDRs": cidrs}
    listed = [{"type": "InternalIP", "address": address} for address in addresses or []]
    images = [
        {"names": [f"registry.example/app{n}@sha256:{'0' * 64}"], "sizeBytes": n}
        for n in range(bulk)
    ]
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": name, "uid": f"uid-{name}", "annotations": dict(annotations or {})},
        "spec": spec,
        "status": {
            "addresses": [*listed, {"type": "Hostname", "address": name}],
            "images": images,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


class Asked(NamedTuple):
    """A request that came. verb: list | watch | get | patch."""

    verb: str
    path: str
    query: dict[str, str]
    status: int


class _Declined(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def _status(code: int, message: str) -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": REASONS.get(code, "Unknown"),
        "code": code,
    }


class _Stream:
    """One watch. Events wait in the queue; None ends it in good order."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.queue: asyncio.Queue[Object | None] = asyncio.Queue()
        self.writer = writer
        self.silent = False


class KubeApi:
    """The server, on loopback, in the loop that enters it. Set the attributes to make it fail:

    token: what callers must bear, "": nobody is asked. forbidden: verbs that are 403. slow_s: how
    long each answer waits. drop, duplicate: how many events to come are lost, or come twice.
    holding: events are kept back until `release` sends them, the last first. page_max: more are
    never in one page. failing: the status of all answers, 0: none."""

    def __init__(
        self,
        tls: ssl.SSLContext | None = None,
        bookmark_s: float = 0.05,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.asked: list[Asked] = []
        self.token = ""
        self.forbidden: set[str] = set()
        self.failing = 0
        self.slow_s = 0.0
        self.drop = 0
        self.duplicate = 0
        self.holding = False
        self.gone_by_status = False  # 410 as the answer's status rather than as an event
        self.compact_after_pages = 0
        self.host = host
        self.port = port
        self._tls = tls
        self._bookmark_s = bookmark_s
        self._revision = 100
        self._compacted = 0
        self._objects: dict[str, Object] = {}
        self._events: list[tuple[int, Object]] = []
        self._moments: dict[int, list[Object]] = {}
        self._held: list[Object] = []
        self._streams: set[_Stream] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.down()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{_bracketed(self.host)}:{self.port}"

    # --- what happens in the cluster

    def put(self, item: Object) -> None:
        """A Node is made, or changed to this."""
        name = item["metadata"]["name"]
        kind = "MODIFIED" if name in self._objects else "ADDED"
        item = copy.deepcopy(item)
        self._revision += 1
        item["metadata"]["resourceVersion"] = str(self._revision)
        self._objects[name] = item
        self._happen(kind, item)

    def delete(self, name: str) -> None:
        """A Node is removed."""
        item = copy.deepcopy(self._objects.pop(name))
        self._revision += 1
        item["metadata"]["resourceVersion"] = str(self._revision)
        self._happen("DELETED", item)

    def annotations(self, name: str) -> dict[str, str]:
        """What a Node has been given."""
        found: dict[str, str] = self._objects[name]["metadata"]["annotations"]
        return found

    @property
    def pod_cidrs(self) -> dict[str, str]:
        """The first range of each Node that has one."""
        found = {name: item["spec"].get("podCIDR", "") for name, item in self._objects.items()}
        return {name: cidr for name, cidr in found.items() if cidr}

    def compact(self) -> None:
        """Versions up to now are forgotten."""
        self._compacted = self._revision
        self._events.clear()
        self._moments.clear()

    # --- how it fails

    def down(self) -> None:
        """Nobody listens, and connections are reset."""
        if self._server is not None:
            self._server.close()
        self._server = None
        for writer in self._writers:
            writer.transport.abort()
        self._streams.clear()

    async def up(self) -> None:
        """It listens, where it did before."""
        self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def listens(self) -> bool:
        """Whether it is up."""
        return self._server is not None

    def silence(self) -> None:
        """Watches that run are never sent anything again, and stay open."""
        for stream in self._streams:
            stream.silent = True

    def hang_up(self) -> None:
        """Watches that run are cut off in the middle of an event."""
        for stream in self._streams:
            stream.silent = True
            stream.writer.write(b'40\r\n{"type": "MODI')
            stream.writer.close()

    def half_close(self) -> None:
        """Watches that run get no more, and the connection is closed from here only."""
        for stream in self._streams:
            stream.silent = True
            with suppress(OSError):  # one whose agent was killed
                stream.writer.write_eof()

    def expire(self) -> None:
        """Watches that run end, and where they would go on from is forgotten: 410 Gone."""
        self._revision += 1
        self.compact()
        self.end_watches()

    def end_watches(self) -> None:
        """Watches that run end in good order, as at their timeoutSeconds."""
        for stream in self._streams:
            stream.queue.put_nowait(None)

    def release(self) -> None:
        """Events that were held back are sent, the last first."""
        self.holding = False
        for event in reversed(self._held):
            self._send(event)
        self._held.clear()

    def send_line(self, event: Object) -> None:
        """Something that no change made, to all watches."""
        self._send(event)

    @property
    def watches(self) -> int:
        """Those that are open and served."""
        return sum(not stream.silent for stream in self._streams)

    # --- inside

    def _happen(self, kind: str, item: Object) -> None:
        event = {"type": kind, "object": item}
        self._events.append((self._revision, event))
        if self.drop:
            self.drop -= 1
        elif self.holding:
            self._held.append(event)
        else:
            self._send(event)
            if self.duplicate:
                self.duplicate -= 1
                self._send(event)

    def _send(self, event: Object) -> None:
        for stream in self._streams:
            stream.queue.put_nowait(event)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {
            key.lower(): value.strip()
            for key, _, value in (line.partition(":") for line in head[1:])
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        await asyncio.sleep(self.slow_s)
        url = urlsplit(target)
        query = dict(parse_qsl(url.query))
        verb = _verb(method, url.path, query)
        try:
            self._admit(verb, headers)
            if verb == "watch":
                self.asked.append(Asked(verb, url.path, query, 200))
                await self._watch(query, writer)
                return True
            answer, code = self._answer(verb, url.path, query, headers, body), 200
        except _Declined as declined:
            answer, code = _status(declined.code, str(declined)), declined.code
        self.asked.append(Asked(verb, url.path, query, code))
        data = json.dumps(answer).encode()
        writer.write(
            f"HTTP/1.1 {code} {REASONS.get(code, 'OK')}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        await writer.drain()
        return True

    def _admit(self, verb: str, headers: dict[str, str]) -> None:
        if self.failing:
            raise _Declined(self.failing, "the test wants it so")
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            raise _Declined(401, "Unauthorized")
        if verb in self.forbidden:
            user = '"system:serviceaccount:kube-system:podwire"'
            raise _Declined(403, f"nodes is forbidden: User {user} cannot {verb} resource")

    def _answer(
        self, verb: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> Object:
        if verb == "list":
            return self._list(query)
        name = unquote(path.removeprefix(f"{NODES}/").removesuffix("/status"))
        if verb not in ("get", "patch") or name not in self._objects:
            raise _Declined(404, f'nodes "{name}" not found')
        if verb == "patch":
            if headers.get("content-type") != "application/merge-patch+json":
                raise _Declined(415, "the body of the request was in an unknown format")
            self._patch(name, json.loads(body), status=path.endswith("/status"))
        return self._objects[name]

    def _patch(self, name: str, patch: Object, *, status: bool) -> None:
        allowed = ("metadata", "status") if status else ("metadata", "spec")
        before = self._objects[name]
        after = merged(before, {key: patch[key] for key in allowed if key in patch})
        if after != before:
            self.put(after)

    def _list(self, query: dict[str, str]) -> Object:
        position = query.get("continue")
        if position:
            at, start = json.loads(base64.b64decode(position))
            if at not in self._moments:
                raise _Declined(410, "The provided continue parameter is too old")
        else:
            at, start = self._revision, 0
            self._moments[at] = [self._objects[name] for name in sorted(self._objects)]
        items = self._moments[at]
        end = start + int(query.get("limit", "0") or 0) if query.get("limit") else len(items)
        metadata: Object = {"resourceVersion": str(at)}
        if end < len(items):
            metadata["continue"] = base64.b64encode(json.dumps([at, end]).encode()).decode()
            metadata["remainingItemCount"] = len(items) - end
            if self.compact_after_pages:
                self.compact_after_pages -= 1
                self.compact()
        # Items of a list bear neither kind nor apiVersion, as in the real one.
        shown = [
            {key: value for key, value in item.items() if key not in ("kind", "apiVersion")}
            for item in items[start:end]
        ]
        return {"kind": "NodeList", "apiVersion": "v1", "metadata": metadata, "items": shown}

    async def _watch(self, query: dict[str, str], writer: asyncio.StreamWriter) -> None:
        version = int(query.get("resourceVersion") or 0)
        gone = 0 < version < self._compacted
        if gone and self.gone_by_status:
            raise _Declined(410, f"too old resource version: {version} ({self._revision})")
        stream = _Stream(writer)
        if gone:
            message = f"too old resource version: {version} ({self._revision})"
            stream.queue.put_nowait({"type": "ERROR", "object": _status(410, message)})
            stream.queue.put_nowait(None)
        elif not version:
            for item in self._objects.values():
                stream.queue.put_nowait({"type": "ADDED", "object": item})
        else:
            for at, event in self._events:
                if at > version:
                    stream.queue.put_nowait(event)
        self._streams.add(stream)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        try:
            async for event in self._stream_events(stream, query):
                data = json.dumps(event).encode() + b"\n"
                if not stream.silent:
                    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
                    await writer.drain()
            if not writer.transport.is_closing() and not stream.silent:
                writer.write(b"0\r\n\r\n")
                await writer.drain()
        finally:
            self._streams.discard(stream)

    async def _stream_events(self, stream: _Stream, query: dict[str, str]) -> AsyncIterator[Object]:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + float(query.get("timeoutSeconds", "1800"))
        while (left_s := end_s - loop.time()) > 0 or stream.silent:
            try:
                async with asyncio.timeout(min(max(left_s, 1.0), self._bookmark_s)):
                    event = await stream.queue.get()
            except TimeoutError:
                if query.get("allowWatchBookmarks") == "true" and not self.holding:
                    yield {"type": "BOOKMARK", "object": self._bookmark()}
                continue
            if event is None:
                return
            yield event

    def _bookmark(self) -> Object:
        return {
            "kind": "Node",
            "apiVersion": "v1",
            "metadata": {"resourceVersion": str(self._revision), "creationTimestamp": None},
            "spec": {},
            "status": {"daemonEndpoints": {}, "nodeInfo": {}},
        }


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _verb(method: str, path: str, query: dict[str, str]) -> str:
    if path == NODES:
        return "watch" if query.get("watch") in ("true", "1") else "list"
    return {"GET": "get", "PATCH": "patch"}.get(method, method)


class KubeProcess:
    """The server in a process of its own. start: runs a command, wherever its network is to be,
    with pipes for its standard input and output."""

    def __init__(
        self,
        start: Callable[[list[str]], subprocess.Popen[str]],
        host: str,
        port: int,
        python: str = sys.executable,
        certificate: str = "",
    ) -> None:
        tls = [certificate] if certificate else []
        self._process = start([python, "-m", "tests.support.kube_api", host, str(port), *tls])
        self.url = self._line()

    def do(self, name: str, *arguments: Any) -> Any:
        """What the method of that name returns."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._line())

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the API server has ended"
        return line.strip()


async def _carry_out(api: KubeApi, name: str, arguments: list[Any]) -> Any:
    if name == "set":
        setattr(api, *arguments)
        return None
    found = getattr(api, name)
    returned = found(*arguments) if callable(found) else found
    return await returned if asyncio.iscoroutine(returned) else returned


async def _main(host: str, port: int, certificate: str = "") -> None:
    loop, tls = asyncio.get_running_loop(), None
    if certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
    async with KubeApi(tls, host=host, port=port, bookmark_s=1.0) as api:
        sys.stdout.write(f"{api.url}\n")
        sys.stdout.flush()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            name, *arguments = json.loads(line)
            answer = await _carry_out(api, name, arguments)
            sys.stdout.write(f"{json.dumps(answer, default=list)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
