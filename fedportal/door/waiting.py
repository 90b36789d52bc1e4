"""The long poll: idle devices wait here, woken at once when there is work, at the cost of a few kilobytes each.

A waiting device is one coroutine that listens for its own disconnect. There is no thread, timer or second task per
device: one ticker for all ends waits, checks keys and notes who is there, and one question to the database serves every
device that was woken or arrived meanwhile. A device registers before the first question, so a bell between the two is
never lost; bells that are lost on the way (another process, a broker that is away) are made good within a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any

from fedportal.common import clock
from fedportal.door import callers, hooks, replies, threads
from fedportal.door.hooks import Caller, NextTask
from fedportal.door.replies import Receive, Scope, Send
from fedwire.errors import FedportalError

log = logging.getLogger(__name__)

LONGEST_WAIT = 25.0
TICK_SECONDS = 0.25
# A revoked device is sent away within this and a tick.
CHECK_SECONDS = 0.5
# How often lost bells are made good.
LOOK_SECONDS = 1.0
SEEN_SECONDS = 8.0
# Devices per question, so that the first are answered while the next question runs.
BATCH = 250


class Waiter:
    """A device that waits on an open request."""

    __slots__ = ("asked", "caller", "deadline", "done", "fresh", "send", "token")

    def __init__(self, caller: Caller, token: str, send: Send, seconds: float) -> None:
        self.caller = caller
        self.token = token
        self.send = send
        self.deadline = time.monotonic() + seconds
        self.asked = False  # whether the database was asked for it at least once
        self.fresh = True  # upper floors have not heard yet that it waits
        self.done = False


class Hub:
    """Every device that waits in this process."""

    def __init__(self) -> None:
        self._waiters: dict[int, Waiter] = {}
        self._asking: dict[int, None] = {}  # an ordered set of devices to ask for
        self._taken: list[int] = []
        self._seen: dict[int, float] = {}  # device → when it was last noted as seen
        self._arrived: dict[int, datetime] = {}  # devices to be noted as seen, and when they were
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._question: asyncio.Task[None] | None = None
        self._answers: set[asyncio.Task[None]] = set()
        self._chores: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    def __len__(self) -> int:
        return len(self._waiters)

    def start(self) -> None:
        """Begin to tick on the running loop. Doing it again changes nothing."""
        if self._ticker is None:
            self._loop = asyncio.get_running_loop()
            self._ticker = self._loop.create_task(self._tick_for_ever())

    def ring(self, device_pks: Sequence[int]) -> None:
        """Wake these devices if they wait here. Any thread may call this."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ask_for, list(device_pks))

    def saw(self, device_pk: int) -> None:
        """This device made itself heard; that is written down soon, at most every SEEN_SECONDS."""
        if time.monotonic() - self._seen.get(device_pk, -SEEN_SECONDS) >= SEEN_SECONDS:
            self._arrived.setdefault(device_pk, clock.now())

    def join(self, caller: Caller, token: str, seconds: float, send: Send) -> Waiter:
        """Let a device wait: its request is answered with a task (200), or when `seconds` have passed (204).

        Call `leave` when the device went away. A request of the same device that waits already ends with `conflict`.
        Raises `unavailable` while the portal stops.
        """
        if self._closing:
            raise FedportalError("unavailable")
        self.start()
        waiter = Waiter(caller, token, send, seconds)
        before = self._waiters.get(caller.device_pk)
        if before is not None:
            # Whoever asks last is served. Two that are told to ask again at once would drive each other for ever.
            self._fail(before, FedportalError("conflict"))
        self._waiters[caller.device_pk] = waiter
        self.saw(caller.device_pk)
        self._ask_for([caller.device_pk])
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """The device does not wait any more."""
        waiter.done = True
        if self._waiters.get(waiter.caller.device_pk) is waiter:
            del self._waiters[waiter.caller.device_pk]

    def close(self) -> None:
        """Send every waiting device away because the portal stops; they come back by themselves."""
        self._closing = True
        for waiter in list(self._waiters.values()):
            self._fail(waiter, FedportalError("unavailable"))
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

    # -- asking the database, for many devices at once

    def _ask_for(self, device_pks: Sequence[int]) -> None:
        waiters = self._waiters
        self._asking.update((pk, None) for pk in device_pks if pk in waiters)
        if self._asking and self._question is None and self._loop is not None:
            self._question = self._loop.create_task(self._ask())

    async def _ask(self) -> None:
        try:
            while self._asking:
                batch = list(self._asking)[:BATCH]
                for pk in batch:
                    del self._asking[pk]
                try:
                    self._hand_out(batch, await threads.ask(hooks.desk().next_tasks, batch))
                except Exception as error:
                    if not isinstance(error, FedportalError):
                        error = replies.unexpected(error, "the question for tasks")
                    for waiter in [self._waiters[pk] for pk in batch if pk in self._waiters]:
                        self._fail(waiter, error)
        finally:
            self._question = None

    def _hand_out(self, batch: Sequence[int], tasks: Mapping[int, NextTask]) -> None:
        now = time.monotonic()
        for pk in batch:
            waiter = self._waiters.get(pk)
            if waiter is None:
                continue
            waiter.asked = True
            task = tasks.get(pk)
            if task is not None:
                self._taken.append(task.task_pk)
                self._finish(waiter, 200, task.body)
            elif waiter.deadline <= now:
                self._finish(waiter, 204)

    # -- ending a wait

    def _finish(self, waiter: Waiter, status: int, body: bytes = b"") -> None:
        self.leave(waiter)
        headers = [(b"content-type", b"application/json")] if body else []
        self._send(replies.send_bytes(waiter.send, status, body, headers))

    def _fail(self, waiter: Waiter, error: FedportalError) -> None:
        self.leave(waiter)
        self._send(replies.send_error(waiter.send, error))

    def _send(self, answer: Coroutine[Any, Any, None]) -> None:
        # A task of its own: a device that does not read must not hold up the others.
        task = asyncio.ensure_future(answer)
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    # -- the ticker

    async def _tick_for_ever(self) -> None:
        checked = looked = 0.0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            for waiter in [one for one in self._waiters.values() if one.deadline <= now and one.asked]:
                self._finish(waiter, 204)
            if self._waiters and now - checked >= CHECK_SECONDS:
                checked = now
                self._chore("keys", self._send_away_the_gone)
            if self._waiters and now - looked >= LOOK_SECONDS:
                looked = now
                self._chore("bells", self._make_good_lost_bells)
            self._chore("notes", self._note)
            callers.tidy()

    def _chore(self, name: str, chore: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do `chore` beside the ticker, unless its last time is not over yet."""
        if name not in self._chores:
            self._chores[name] = asyncio.ensure_future(self._careful(chore))
            self._chores[name].add_done_callback(lambda _: self._chores.pop(name, None))

    async def _careful(self, chore: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await chore()
        except FedportalError as error:
            log.warning("the hub could not look after its devices: %s", error)
        except Exception:
            log.exception("the hub could not look after its devices")

    async def _make_good_lost_bells(self) -> None:
        self._ask_for(await threads.ask(hooks.desk().with_work))

    async def _note(self) -> None:
        """Write down, for all at once, which tasks left, who is there, and who has nothing to do."""
        now = time.monotonic()
        if self._taken:
            taken, self._taken = self._taken, []
            try:
                await threads.record(hooks.desk().note_taken, taken)
            except BaseException:
                self._taken[:0] = taken  # said again when the database is back
                raise
        due = [pk for pk in self._waiters if now - self._seen.get(pk, -SEEN_SECONDS) >= SEEN_SECONDS]
        seen = list(dict.fromkeys([*self._arrived, *due]))
        if seen:
            # When the first of them was seen, not when it is written down: what a device did in between came later.
            at = min(self._arrived.values(), default=clock.now())
            arrived, self._arrived = self._arrived, {}
            try:
                await threads.record(hooks.desk().note_seen, seen, at)
            except BaseException:
                self._arrived = {**self._arrived, **arrived}
                raise
            self._seen.update((pk, now) for pk in seen)
        if len(self._seen) > 2 * len(self._waiters) + 1000:
            self._seen = {pk: at for pk, at in self._seen.items() if now - at < SEEN_SECONDS}
        # Those that are still being asked for may get their task before anybody had to be told.
        idle = [waiter for waiter in self._waiters.values() if waiter.fresh and waiter.asked]
        if idle:
            for waiter in idle:
                waiter.fresh = False
            try:
                await threads.record(hooks.desk().note_idle, [waiter.caller.device_pk for waiter in idle])
            except BaseException:
                for waiter in idle:
                    waiter.fresh = True
                raise

    async def _send_away_the_gone(self) -> None:
        waiting = [waiter.caller for waiter in self._waiters.values()]
        for caller in await threads.ask(hooks.desk().gone, waiting):
            waiter = self._waiters.get(caller.device_pk)
            if waiter is None or waiter.caller != caller:
                continue
            callers.forget(waiter.token)
            try:
                await threads.ask(callers.identify, waiter.token)
            except FedportalError as error:
                self._fail(waiter, error)  # with the code that says why


hub = Hub()


def seconds_asked(scope: Scope) -> float:
    """The `wait` of the query, at most LONGEST_WAIT and by default that. Raises `field_invalid`."""
    for part in scope["query_string"].split(b"&"):
        name, _, value = part.partition(b"=")
        if name == b"wait":
            try:
                seconds = float(value)
            except ValueError:
                seconds = -1.0
            if not 0 <= seconds < 1e6:
                raise FedportalError("field_invalid", field="wait", reason="it is not a number of seconds.")
            return min(seconds, LONGEST_WAIT)
    return LONGEST_WAIT


async def next_task(scope: Scope, receive: Receive, send: Send) -> None:
    """GET …/device/tasks/next?wait=25."""
    token = replies.bearer(scope)
    seconds = seconds_asked(scope)
    caller = callers.known(token)
    if caller is None:
        caller = await threads.ask(callers.identify, token)
    _strip(scope)
    waiter = hub.join(caller, token, seconds, send)
    try:
        while not waiter.done and (await receive())["type"] != "http.disconnect":
            pass  # a body has no business here and is thrown away
    finally:
        hub.leave(waiter)


def _strip(scope: Scope) -> None:
    """Throw away what nobody reads any more of a request that waits: thousands of times two kilobytes are something.

    uvicorn would read more of it for an access log, which the portal does not have it write.
    """
    scope["headers"].clear()
    kept = {name: scope[name] for name in ("type", "method", "path", "headers")}
    scope.clear()
    scope.update(kept)
