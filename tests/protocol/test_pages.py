"""Django in the door's threads: any WSGI application is served whole, in order, and its ends are closed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fedportal.door.pages import PIECE_BYTES, THREADS, Pages, environ


def scope(**changes: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "http_version": "1.1",
        "scheme": "http",
        "server": ("127.0.0.1", 8000),
        "client": ("10.0.0.9", 5000),
        "headers": [],
    } | changes


async def served(application: Any, body: bytes = b"", **changes: Any) -> list[dict[str, Any]]:
    """What the application sends."""
    halves = [{"type": "http.request", "body": body[:3], "more_body": True}, {"type": "http.request", "body": body[3:]}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return halves.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await Pages(application)(scope(**changes), receive, send)
    return sent


class Response:
    """A WSGI response that knows whether it was closed."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces, self.closed = pieces, 0

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces

    def close(self) -> None:
        self.closed += 1


def answering(response: Response) -> Callable[..., Response]:
    def application(environment: dict[str, Any], start_response: Callable[..., Any]) -> Response:
        start_response("201 Created", [("X-One", "1"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        return response

    return application


async def test_a_short_response_leaves_in_one_piece_and_is_closed() -> None:
    response = Response([b"a", b"", b"b"])
    start, body = await served(answering(response))
    assert start["status"] == 201
    assert start["headers"] == [(b"x-one", b"1"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    assert (body["body"], body["more_body"]) == (b"ab", False)
    assert response.closed == 1


@pytest.mark.parametrize("count", [1, 2, 7])
async def test_a_long_response_leaves_in_pieces_and_is_closed(count: int) -> None:
    response = Response([bytes([number]) * (PIECE_BYTES // 2 + 1) for number in range(count)])
    _, *bodies = await served(answering(response))
    assert b"".join(message["body"] for message in bodies) == b"".join(response.pieces)
    assert [message["more_body"] for message in bodies] == [True] * (len(bodies) - 1) + [False]
    assert response.closed == 1


async def test_an_error_on_the_way_closes_the_response() -> None:
    class Broken(Response):
        def __iter__(self) -> Iterator[bytes]:
            yield b"a"
            raise ZeroDivisionError

    response = Broken([])
    with pytest.raises(ZeroDivisionError):
        await served(answering(response))
    assert response.closed == 1


async def test_the_request_is_described_as_wsgi_describes_it() -> None:
    seen: dict[str, Any] = {}

    def application(environment: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.update(environment, body=environment["wsgi.input"].read())
        start_response("200 OK", [])
        return []

    headers = [
        (b"host", b"portal.example"),
        (b"content-type", b"text/plain"),
        (b"content-length", b"999"),
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
        (b"accept", b"x"),
        (b"accept", b"y"),
        (b"x_forwarded_proto", b"https"),
        (b"transfer-encoding", b"chunked"),
    ]
    await served(application, b"content", method="POST", path="/ä b", query_string=b"q=%C3%A4", headers=headers)
    assert seen["body"] == b"content"
    assert seen["CONTENT_LENGTH"] == "7"
    assert seen["CONTENT_TYPE"] == "text/plain"
    assert seen["PATH_INFO"].encode("latin-1").decode() == "/ä b"
    assert (seen["REQUEST_METHOD"], seen["QUERY_STRING"], seen["REMOTE_ADDR"]) == ("POST", "q=%C3%A4", "10.0.0.9")
    assert (seen["HTTP_HOST"], seen["HTTP_COOKIE"], seen["HTTP_ACCEPT"]) == ("portal.example", "a=1; b=2", "x,y")
    assert not {"HTTP_X_FORWARDED_PROTO", "HTTP_TRANSFER_ENCODING", "HTTP_CONTENT_LENGTH"} & seen.keys()


async def test_requests_share_a_bounded_number_of_threads() -> None:
    names: set[str] = set()

    def application(environment: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        names.add(threading.current_thread().name)
        start_response("200 OK", [])
        return [b"x"]

    pages = Pages(application)

    async def once() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        async def send(message: dict[str, Any]) -> None:
            return None

        await pages(scope(), receive, send)

    await asyncio.gather(*(once() for _ in range(200)))
    assert len(names) <= THREADS


def test_a_missing_peer_is_no_error() -> None:
    assert environ(scope(client=None, server=None), b"")["REMOTE_ADDR"] == ""
