"""The broker in memory: a waiting worker is woken by a message, and by nothing else for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from kombu import Connection, Consumer, Queue

from fedportal.common import broker


@pytest.fixture
def line() -> Iterator[Connection]:
    broker.register()
    with Connection(f"{broker.SCHEME}://localhost/") as connection:
        yield connection


def test_messages_come_in_order_and_wake_who_waits(line: Connection) -> None:
    queue, heard, told = Queue("of-a-test"), list[int](), threading.Event()

    def hear(body: int, message: object) -> None:
        heard.append(body)
        message.ack()  # type: ignore[attr-defined]
        if len(heard) == 20:
            told.set()

    def listen() -> None:
        with Consumer(line, queue, callbacks=[hear]):
            while not told.is_set():
                line.drain_events(timeout=10)

    listener = threading.Thread(target=listen)
    listener.start()
    with Connection(f"{broker.SCHEME}://localhost/") as other:
        for number in range(20):
            other.Producer().publish(number, routing_key=queue.name, declare=[queue])
            time.sleep(0.001 * (number % 3))
    listener.join(20)
    assert heard == list(range(20))


def test_who_waits_in_vain_is_told_so(line: Connection) -> None:
    with Consumer(line, Queue("of-nobody"), callbacks=[print]):
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            line.drain_events(timeout=0.2)
        assert time.monotonic() - began >= 0.2


def test_a_message_that_lies_there_is_taken_without_waiting(line: Connection) -> None:
    queue, heard = Queue("of-the-past"), list[str]()
    line.Producer().publish("before", routing_key=queue.name, declare=[queue])
    with Consumer(line, queue, callbacks=[lambda body, message: heard.append(body)], no_ack=True):
        line.drain_events(timeout=10)
    assert heard == ["before"]
