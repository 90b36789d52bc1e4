"""What reaches Django: short bodies of a stated length, and nothing else."""

from __future__ import annotations

import pytest

from fedwire import routes
from tests.protocol.wire import Wire
from tests.running import Portal

PAGES = ["/", "/sign-in", "/api/v1/models", "/no/such/page"]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
def test_a_large_body_is_refused_before_it_is_read(portal: Portal, path: str, method: str) -> None:
    with Wire(portal) as wire:
        wire.head(method, path, {"Content-Length": 1 << 40})
        reply = wire.reply()
        assert (reply.status, reply.code) == (413, "body_too_large")


@pytest.mark.parametrize("path", PAGES)
def test_a_body_of_unknown_length_is_refused(portal: Portal, path: str) -> None:
    with Wire(portal) as wire:
        wire.head("POST", path, {"Transfer-Encoding": "chunked"})
        reply = wire.reply()
        assert (reply.status, reply.code) == (411, "length_missing")


def test_a_large_body_that_is_sent_all_the_same_gets_its_answer(portal: Portal) -> None:
    body = b"x" * (8 << 20)
    with Wire(portal) as wire:
        wire.head("POST", "/api/v1/models", {"Content-Length": len(body)})
        wire.send(body)
        assert wire.reply().code == "body_too_large"


def test_a_short_body_reaches_django(portal: Portal) -> None:
    with Wire(portal) as wire:
        reply = wire.request("POST", "/no/such/page", {}, b"{}")
        assert reply.status in (403, 404)
        assert "error" not in reply.headers


def test_a_request_that_is_no_http_is_refused_in_our_words(portal: Portal) -> None:
    with Wire(portal) as wire:
        wire.send(b"HELO portal\r\n\r\n")
        reply = wire.reply()
        assert (reply.status, reply.code) == (400, "bad_request")


@pytest.mark.parametrize(
    "path",
    [routes.TASK + "/answer/", routes.TASK + "/update/x", "/api/v1/device/tasks//answer", "/api/v1/device/tasks"],
)
def test_neighbours_of_the_doors_addresses_are_not_the_doors(portal: Portal, path: str) -> None:
    with Wire(portal) as wire:
        assert wire.request("GET", path.format(task="tsk_x")).status == 404
