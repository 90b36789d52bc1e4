"""What reaches Django: short bodies of a stated length, and nothing else."""

from __future__ import annotations

import time

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


@pytest.mark.parametrize("path", ["/federations/%00", "/sign-in?next=%00", "/api/v1/device/tasks/%00/answer"])
def test_an_address_with_a_character_that_no_database_keeps_is_refused(portal: Portal, path: str) -> None:
    with Wire(portal) as wire:
        reply = wire.request("GET", path)
        assert (reply.status, reply.code) == (400, "bad_request")


def test_a_head_without_an_end_is_refused(portal: Portal) -> None:
    with Wire(portal) as wire:
        wire.send(b"GET / HTTP/1.1\r\nX-Long: ")
        with pytest.raises(OSError, match=r"closed|reset|pipe"):  # noqa: PT012  (the refusal may outrun the sending)
            for _ in range(100):
                wire.send(b"x" * 10_000)
            while True:
                reply = wire.reply()
                assert (reply.status, reply.code) == (400, "bad_request")


@pytest.mark.slow
@pytest.mark.parametrize("said", [b"", b"GET /sign-in HTTP/1.1\r\nHost: "], ids=["silent", "slow"])
def test_a_connection_that_never_asks_is_closed(portal: Portal, said: bytes) -> None:
    with Wire(portal) as wire:
        wire.send(said)
        began = time.monotonic()
        assert wire.socket.recv(100) == b""
        assert 10 < time.monotonic() - began < 20


def test_pages_answer_head_like_get_and_many_cookies_as_one(portal: Portal) -> None:
    with Wire(portal) as wire:
        whole = wire.request("GET", "/sign-in", {"Cookie": "a=1"})
        head = wire.request("HEAD", "/sign-in")
        assert (head.status, whole.status) == (200, 200)
        assert head.body == b""
        assert whole.body


def test_pages_answer_while_many_devices_wait_and_others_are_slow(portal: Portal) -> None:
    made = portal.do("enrol", count=50, organization="acme", first=2000)
    waiting = [Wire(portal, one["key"]) for one in made]
    slow = [Wire(portal) for _ in range(50)]
    try:
        for wire in waiting:
            wire.head("GET", f"{routes.TASK_NEXT}?wait=25")
        for wire in slow:
            wire.head("POST", "/sign-in", {"Content-Length": 100})
            wire.send(b"x")
        with Wire(portal) as wire:
            began = time.monotonic()
            for _ in range(20):
                assert wire.request("GET", "/sign-in").status == 200
            assert time.monotonic() - began < 3.0
    finally:
        for wire in [*waiting, *slow]:
            wire.close()


def test_a_body_nested_without_end_is_refused(portal: Portal) -> None:
    key = portal.do("enrol", count=1, organization="acme", first=3000)[0]["key"]
    for path in ("/api/v1/federations", routes.TASK_ANSWER.format(task="tsk_x")):
        with Wire(portal, key) as wire:
            body = b"[" * 200_000
            wire.head("POST", path, {"Content-Length": len(body), "Content-Type": "application/json"})
            wire.send(body)
            assert wire.reply().status < 500


@pytest.mark.slow
def test_a_body_that_never_comes_is_the_senders_fault(portal: Portal) -> None:
    with Wire(portal, timeout=30) as wire:
        wire.head("POST", routes.TASK_ANSWER.format(task="tsk_x"), {"Content-Length": 10})
        reply = wire.reply()
        assert (reply.status, reply.code) == (408, "body_late")
