"""The sweeper: again and again, whatever fails or hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from fedportal.common import sweeping

SECONDS = 30.0  # when to give up


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Callable[..., threading.Event]:
    """Sweep with these functions only, in a thread; set the event to end it."""
    settings.FEDPORTAL_SWEEP_SECONDS = 0.01

    def start(*passes: Callable[[], object]) -> threading.Event:
        monkeypatch.setattr(sweeping, "_passes", list(passes))
        stop = threading.Event()
        threading.Thread(target=sweeping.forever, args=(stop,), daemon=True).start()
        return stop

    return start


class Counted:
    """A pass that counts itself and says when it has come `enough` times."""

    def __init__(self, enough: int, act: Callable[[], object] = lambda: None) -> None:
        self.enough = threading.Event()
        self._left = enough
        self._act = act

    def run(self) -> None:
        self._left -= 1
        if self._left <= 0:
            self.enough.set()
        self._act()


def test_a_pass_that_hangs_holds_up_no_other(sweep: Callable[..., threading.Event]) -> None:
    answer = threading.Event()
    hanging, other = Counted(1, answer.wait), Counted(5)
    stop = sweep(hanging.run, other.run)
    assert hanging.enough.wait(SECONDS)
    assert other.enough.wait(SECONDS)
    stop.set()
    answer.set()


def test_a_pass_that_fails_is_tried_again_and_stops_no_other(sweep: Callable[..., threading.Event]) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    failing, other = Counted(3, fail), Counted(3)
    stop = sweep(failing.run, other.run)
    assert failing.enough.wait(SECONDS)
    assert other.enough.wait(SECONDS)
    stop.set()


def test_one_pass_does_everything_once_although_something_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    counted = Counted(1)
    monkeypatch.setattr(sweeping, "_passes", [fail, counted.run])
    thread = threading.Thread(target=sweeping.once, daemon=True)  # this thread's connection belongs to other tests
    thread.start()
    thread.join(SECONDS)
    assert counted.enough.is_set()


def test_the_sweeper_ends_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "_passes", [Counted(1).run, Counted(1).run])
    stop = threading.Event()
    thread = threading.Thread(target=sweeping.forever, args=(stop,), daemon=True)
    thread.start()
    stop.set()
    thread.join(SECONDS)
    assert not thread.is_alive()
