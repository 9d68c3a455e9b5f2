"""HTTP from a server that says what a test has written down, byte by byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cni_plugin.cluster.http import Broken, Connection, Request, Server, connected
from cni_plugin.cluster.kube_api import Api, ApiFailure, Limits
from cni_plugin.cluster.kube_choice import Choice
from tests.unit.cluster.kit import kubeconfig

ASK = Request("GET", "/x", {"Accept": "application/json"})
OK = b"HTTP/1.1 200 OK\r\n"
QUICK = Limits(connect_s=5.0, answer_s=0.2, idle_s=0.2)


@asynccontextmanager
async def saying(*answers: bytes, stays: bool = False) -> AsyncIterator[tuple[Server, list[bytes]]]:
    """A server that answers each request with the next of these, and then hangs up or stays."""
    left, asked = list(answers), []
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while left:
                asked.append(await reader.readuntil(b"\r\n\r\n"))
                answer = left.pop(0)
                writer.write(answer)
                if b"close" in answer:
                    return
            if stays:
                await ended.wait()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Server("127.0.0.1", port, "api.example"), asked
    finally:
        ended.set()
        server.close()
        await server.wait_closed()


async def whole(connection: Connection) -> tuple[int, bytes]:
    status, _ = await connection.ask(ASK, 0.2)
    return status, await connection.body(0.2, 100)


def test_a_request_and_its_answer():
    async def main() -> None:
        async with saying(OK + b"Content-Length: 2\r\n\r\n{}") as (server, asked):
            async with connected(server, 5.0) as connection:
                assert await whole(connection) == (200, b"{}")
            head = asked[0].decode().split("\r\n")
            assert head[0] == "GET /x HTTP/1.1"
            assert f"Host: api.example:{server.port}" in head

    asyncio.run(main())


def test_a_connection_serves_as_long_as_the_server_lets_it():
    async def main() -> None:
        last = OK + b"Connection: close\r\nContent-Length: 1\r\n\r\n2"
        first = OK + b"Content-Length: 1\r\n\r\n1"
        async with saying(first, last) as (server, _), connected(server, 5.0) as connection:
            assert connection.free
            assert await whole(connection) == (200, b"1")
            assert connection.free
            assert await whole(connection) == (200, b"2")
            assert not connection.free

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "broke off"),
        (b"HTTP/1.1 200", "broke off|closed"),
        (b"", "broke off|closed"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "broke off"),
        (OK + b"Content-Length: 50\r\n\r\nshort", "broke off"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "broke off"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", "broke off"),
        (OK + b"Content-Length: 101\r\n\r\n" + b"x" * 101, "more than 100 bytes"),
    ],
)
def test_an_answer_that_is_none_is_broken(answer, words):
    async def main() -> None:
        async with saying(answer) as (server, _), connected(server, 5.0) as connection:
            with pytest.raises(Broken, match=words):
                await whole(connection)

    asyncio.run(main())


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\n", OK + b"Content-Length: 5\r\n\r\nab"]
)
def test_a_server_that_falls_silent_is_given_up(answer):
    async def main() -> None:
        async with saying(answer, stays=True) as (server, _), connected(server, 5.0) as connection:
            with pytest.raises(Broken, match=r"has said nothing for 0\.2 s"):
                await whole(connection)

    asyncio.run(main())


def test_nobody_there():
    async def main() -> None:
        async with saying() as (server, _):
            pass
        with pytest.raises(Broken, match="cannot be reached"):
            async with connected(server, 5.0):
                pass

    asyncio.run(main())


def ask(folder, *answers: bytes, page: int = 2) -> tuple[list[str], str, list[bytes]]:
    """Names and version of a list that the API gets from these answers."""
    names: list[str] = []

    async def main() -> tuple[str, list[bytes]]:
        async with saying(*answers) as (server, asked):
            choice = Choice(kubeconfig(folder, "abc"), f"http://{server}")
            async with Api(choice, QUICK) as api:
                version = await api.nodes(lambda item: names.append(item["metadata"]["name"]), page)
            return version, asked

    version, asked = asyncio.run(main())
    return names, version, asked


def json_answer(text: str, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(text)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + text).encode()


def test_pages_come_by_new_connections_where_the_server_closes_them(tmp_path):
    first = '{"metadata": {"continue": "a/b="}, "items": [{"metadata": {"name": "a"}}]}'
    last = '{"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "b"}}]}'
    names, version, asked = ask(
        tmp_path, json_answer(first, "Connection: close"), json_answer(last)
    )
    assert (names, version) == (["a", "b"], "7")
    assert asked[1].startswith(b"GET /api/v1/nodes?limit=2&continue=a%2Fb%3D ")
    assert all(b"Authorization: Bearer abc\r\n" in one for one in asked)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (json_answer("<html>"), "no JSON"),
        (json_answer("[]"), "no object"),
        (json_answer("{}"), "is none"),
        (json_answer('{"metadata": {}, "items": 7}'), "is none"),
        (json_answer("<html>", status="502 Bad Gateway"), "declines to list nodes: status 502$"),
        (json_answer("[" * 10_000, status="500 X"), "status 500$"),
        (json_answer('{"message": 7}', status="403 X"), 'it says "7"'),
        (json_answer("", status="302 X"), "status 302$"),
    ],
)
def test_what_is_no_list_is_a_failure_with_words(tmp_path, answer, words):
    with pytest.raises(ApiFailure, match=words):
        ask(tmp_path, answer)


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [("Retry-After: 7", 7.0), ("Retry-After: 99999999999", 60.0), ("Retry-After: soon", 0.0)],
)
def test_what_the_api_asks_to_wait_is_kept(tmp_path, header, wait_s):
    with pytest.raises(ApiFailure) as caught:
        ask(tmp_path, json_answer("{}", header, status="429 Too Many Requests"))
    assert caught.value.retry_after_s == wait_s


def test_a_list_without_items_is_empty(tmp_path):
    names, version, _ = ask(
        tmp_path, json_answer('{"metadata": {"resourceVersion": "9"}, "items": null}')
    )
    assert (names, version) == ([], "9")
