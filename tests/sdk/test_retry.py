"""Patience: what is tried again, how soon, and when it ends."""

from __future__ import annotations

import threading
import time

import pytest

from fedportal_sdk._retry import LONGEST_DELAY, TRIES_AFTER_500, Patience, Stop, Stopped, delay_after, is_passing
from fedwire.errors import FedportalError


class Flaky:
    """Fails with these codes, one after the other, then succeeds."""

    def __init__(self, *codes: str) -> None:
        self.codes = list(codes)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.codes:
            raise FedportalError(self.codes.pop(0))
        return "done"


class Impatient(Patience):
    """Waits as the original does, a thousand times faster."""

    def wait(self, seconds: float) -> None:
        super().wait(seconds / 1000)


@pytest.mark.parametrize("code", ["unreachable", "unavailable", "storage_full", "too_many_tries"])
def test_passing_trouble_is_waited_out(code: str) -> None:
    flaky = Flaky(*[code] * 12)
    assert Impatient(Stop())(flaky) == "done"
    assert flaky.calls == 13


@pytest.mark.parametrize("code", ["key_revoked", "task_closed", "not_found", "length_wrong", "tls_failed"])
def test_a_refusal_is_raised_at_once(code: str) -> None:
    flaky = Flaky(code)
    with pytest.raises(FedportalError) as caught:
        Impatient(Stop())(flaky)
    assert (caught.value.code, flaky.calls) == (code, 1)
    assert not is_passing(caught.value)


def test_further_codes_can_be_named() -> None:
    assert Impatient(Stop())(Flaky("body_short"), also={"body_short"}) == "done"


def test_a_fault_of_the_portal_is_tried_some_times_and_then_raised() -> None:
    flaky = Flaky(*["internal"] * 50)
    with pytest.raises(FedportalError):
        Impatient(Stop())(flaky)
    assert flaky.calls == TRIES_AFTER_500


def test_an_outage_is_told_once_and_so_is_its_end() -> None:
    told: list[str | None] = []
    Impatient(Stop(), lambda error: told.append(error and error.code))(Flaky("unreachable", "unavailable"))
    assert told == ["unreachable", None]


def test_success_at_once_tells_nothing() -> None:
    told: list[object] = []
    Patience(Stop(), told.append)(Flaky())
    assert told == []


def test_stop_ends_a_wait_at_once() -> None:
    stop = Stop()
    threading.Timer(0.05, stop.set).start()
    started = time.monotonic()
    with pytest.raises(Stopped):
        Patience(stop)(Flaky(*["unreachable"] * 1000))
    assert time.monotonic() - started < 2


def test_nothing_is_called_after_stop() -> None:
    stop, flaky = Stop(), Flaky()
    stop.set()
    with pytest.raises(Stopped):
        Patience(stop)(flaky)
    assert flaky.calls == 0


def test_patience_with_a_limit_raises_the_last_error() -> None:
    with pytest.raises(FedportalError) as caught:
        Impatient(Stop(), limit=0.0)(Flaky("unreachable"))
    assert caught.value.code == "unreachable"


def test_delays_grow_to_five_seconds_and_differ() -> None:
    ceilings = [max(delay_after(n) for _ in range(200)) for n in (1, 2, 3, 20)]
    assert ceilings == sorted(ceilings)
    assert 4 < ceilings[-1] <= LONGEST_DELAY
    assert len({delay_after(5) for _ in range(50)}) > 40


def test_a_portal_that_names_its_delay_gets_it() -> None:
    assert delay_after(1, FedportalError("too_many_tries", seconds=7)) == 7
    assert delay_after(1, FedportalError("too_many_tries", seconds=10_000)) == 60
