"""The four requests that are made of the Kubernetes API: list, watch, get and patch nodes.

What goes wrong becomes one of a few exceptions, whose text tells a person what to do about it.
Source: kubernetes.io/docs, "Kubernetes API Concepts" (list, watch, bookmarks, status codes).
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, Self
from urllib.parse import quote, urlencode

from cni_plugin import __version__
from cni_plugin.cluster.http import Broken, Connection, Request, connected
from cni_plugin.cluster.kube_access import (
    Access,
    NoAccess,
    find_access,
    server_of,
)
from cni_plugin.cluster.kube_choice import Choice
from cni_plugin.cni.names import shown

NODES = "/api/v1/nodes"
PAGE = (
    100  # nodes; a Node of 16 kB (its images) makes a page of 1.6 MB, parsed about five times that
)
ANSWER_MAX = 64 << 20  # bytes; an unpaged list of 4,000 such nodes
LINE_MAX = 4 << 20  # bytes; etcd takes objects of 1.5 MiB
TOLD_MAX = 300  # characters of what the API says of a failure


class ApiFailure(Exception):
    """The API could not be asked, or declined. retry_after_s: what it asked to wait, 0: nothing."""

    retry_after_s = 0.0


class Unauthorized(ApiFailure):
    """401: the credentials are not known, or no longer."""


class Forbidden(ApiFailure):
    """403: the credentials are known and not allowed this."""


class Expired(ApiFailure):
    """410 Gone: the version to go on from is too old, only a new list helps."""


class NotFound(ApiFailure):
    """404: there is no such node."""


class Limits(NamedTuple):
    """Seconds. idle_s: a watch that is silent for longer is dead; the API sends a bookmark about
    once a minute. watch_s: how long one is asked to last, at most; between half of it and that,
    so that a cluster's agents do not come back all at once."""

    connect_s: float = 5.0
    answer_s: float = 30.0
    idle_s: float = 90.0
    watch_s: float = 600.0


class Event(NamedTuple):
    """kind: ADDED | MODIFIED | DELETED | BOOKMARK. item: the object as JSON gave it."""

    kind: str
    item: dict[str, Any]


class Api:
    """Requests one at a time; connections are made when needed. A context manager."""

    def __init__(self, choice: Choice, limits: Limits) -> None:
        self._choice = choice
        self._limits = limits
        self._held = AsyncExitStack()
        self._connection: Connection | None = None
        self._access = Access("")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._held.aclose()

    async def nodes(self, take: Callable[[dict[str, Any]], None], page: int = PAGE) -> str:
        """Gives every Node to `take`, and answers the list's version. page: how many are asked for
        at once, 0: all. Raises ApiFailure; Expired when going through the list took too long."""
        position = ""
        while True:
            query = {"limit": str(page)} if page else {}
            query |= {"continue": position} if position else {}
            answer = await self._whole("GET", "list nodes", f"{NODES}?{urlencode(query)}")
            metadata, items = answer.get("metadata"), answer.get("items")
            if not isinstance(metadata, dict) or not isinstance(items, list | None):
                raise ApiFailure("what the API sends for a list of nodes is none")
            for item in items or ():
                take(item)
            position = metadata.get("continue") or ""
            if not position:
                return str(metadata.get("resourceVersion") or "")

    async def watch(self, version: str, begun: Callable[[], None]) -> AsyncIterator[Event]:
        """What happens to nodes from a version on, until the API ends it in good order. begun: told
        when it listens. Raises ApiFailure."""
        seconds = random.uniform(0.5, 1.0) * self._limits.watch_s  # noqa: S311  no secret
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        try:
            connection = await self._ask("GET", "watch nodes", f"{NODES}?{urlencode(query)}")
            begun()
            async for line in _lines(connection.pieces(self._limits.idle_s)):
                yield _event(line)
        except Broken as error:
            raise ApiFailure(f"the Kubernetes API: {error}") from error

    async def node(self, name: str) -> dict[str, Any]:
        """One Node. Raises ApiFailure."""
        return await self._whole("GET", "get nodes", _path(name))

    async def annotate(self, name: str, annotations: dict[str, str | None]) -> None:
        """Sets annotations of a Node, None takes one away. Raises ApiFailure.

        By the status subresource: who may patch that cannot touch a node's spec, its taints and
        ranges, while metadata can be written either way. Source: RFC 7396, JSON Merge Patch."""
        patch = json.dumps({"metadata": {"annotations": annotations}}).encode()
        await self._whole("PATCH", "patch nodes/status", f"{_path(name)}/status", patch)

    async def _whole(
        self, method: str, what: str, target: str, body: bytes = b""
    ) -> dict[str, Any]:
        try:
            connection = await self._ask(method, what, target, body)
            data = await connection.body(self._limits.answer_s, ANSWER_MAX)
        except Broken as error:
            raise ApiFailure(f"the Kubernetes API: {error}") from error
        return _document(data)

    async def _ask(self, method: str, what: str, target: str, body: bytes = b"") -> Connection:
        """The connection, whose answer has status 200 and is yet to be read."""
        connection = await self._free()
        headers = {"Accept": "application/json", "User-Agent": f"podwire/{__version__}"}
        if self._access.token:
            headers["Authorization"] = f"Bearer {self._access.token}"
        if body:
            headers["Content-Type"] = "application/merge-patch+json"
        request = Request(method, target, headers, body)
        status, answered = await connection.ask(request, self._limits.answer_s)
        if status != 200:
            told = await connection.body(self._limits.answer_s, ANSWER_MAX)
            raise _failure(status, what, told, answered.get("retry-after", ""))
        return connection

    async def _free(self) -> Connection:
        if self._connection is None or not self._connection.free:
            await self._held.aclose()
            try:
                self._access = find_access(self._choice, os.environ)
                server = server_of(self._access)
            except NoAccess as error:
                raise ApiFailure(str(error)) from error
            self._connection = await self._held.enter_async_context(
                connected(server, self._limits.connect_s)
            )
        return self._connection


def _path(name: str) -> str:
    return f"{NODES}/{quote(name, safe='')}"


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines of a stream, without their ends; what comes after the last one is dropped."""
    rest = bytearray()
    async for piece in pieces:
        rest += piece
        *lines, left = rest.split(b"\n")
        rest = left
        for line in lines:
            if line:
                yield bytes(line)
        if len(rest) > LINE_MAX:
            raise Broken(f"an event has more than {LINE_MAX} bytes")


def _event(line: bytes) -> Event:
    document = _document(line)
    kind, item = document.get("type"), document.get("object")
    if not isinstance(kind, str) or not isinstance(item, dict):
        raise ApiFailure(f"what the API sends is no event: {shown(document)}")
    if kind == "ERROR":
        code = item.get("code")
        raise _failure(code if isinstance(code, int) else 0, "watch nodes", line, "")
    return Event(kind, item)


def _document(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ApiFailure(f"what the API sends is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise ApiFailure("what the API sends is no object")
    return document


def _failure(status: int, what: str, body: bytes, retry_after: str) -> ApiFailure:
    """What a status code means for who asked. what: verb and resource."""
    said = _said(body)
    kind, text = ApiFailure, f"the Kubernetes API declines to {what}: status {status}{said}"
    if status == 401:
        kind = Unauthorized
        text = (
            f"the Kubernetes API does not know who asks (401){said}; the token or certificate is "
            "read anew for the next try: has it expired, and is it of this cluster?"
        )
    elif status == 403:
        verb, _, resource = what.partition(" ")
        kind = Forbidden
        text = (
            f"the Kubernetes API forbids to {what} (403){said}; give the agent's account the verb"
            f' "{verb}" on the resource "{resource}" of the core group in a ClusterRole'
        )
    elif status == 404:
        kind = NotFound
    elif status == 410:
        kind = Expired
    failure = kind(text)
    if retry_after.isascii() and retry_after.isdecimal():
        failure.retry_after_s = min(float(retry_after[:6]), 60.0)
    return failure


def _said(body: bytes) -> str:
    """The API's own words, of the Status object that is the body or in the event."""
    try:
        status = _document(body)
    except ApiFailure:
        return ""
    status = status["object"] if isinstance(status.get("object"), dict) else status
    message = " ".join(str(status.get("message") or "").split())
    return f", it says {shown(message[:TOLD_MAX])}" if message else ""
