"""Taking part in a run by a virtual clock: what a real fleet takes hours for, in the order in which it would happen.

A device that gets a task answers when its duration has passed on the virtual clock. The clock jumps from answer to
answer; after each it stands still until the portal has nothing more to do, so that machines of any speed see the same
order of events.
"""

from __future__ import annotations

import heapq
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Generic, TypeVar

from fedportal_sdk.simulation.device import Device
from fedportal_sdk.simulation.fleet import Fleet, Job
from fedwire.messages import Task
from fedwire.states import TaskKind

T = TypeVar("T")
# How long a device holds the long poll before somebody asks whether the run is over.
PATIENCE = 1.0
# Who was not heard of for long is not asked, so everybody asks now and then, by the real clock.
PRESENT_SECONDS = 20.0


class EventQueue(Generic[T]):
    """Events in the order of their times; of equal times in the order in which they were pushed."""

    def __init__(self) -> None:
        self._events: list[tuple[float, int, T]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._events)

    def push(self, at: float, event: T) -> None:
        """Let the event happen at this time."""
        heapq.heappush(self._events, (at, next(self._order), event))

    def pop(self) -> tuple[float, T]:
        """The next event, and its time. Raises IndexError when there is none."""
        at, _, event = heapq.heappop(self._events)
        return at, event


class Timeline:
    """One run by the virtual clock."""

    def __init__(self, fleet: Fleet, job: Job) -> None:
        self._fleet, self._job = fleet, job
        self._queue: EventQueue[tuple[Device, Task, float]] = EventQueue()
        self.now = 0.0
        self._round = (-1, 0)  # number and attempt of the round that tasks were last offered for
        self._opened = 0.0  # when that was
        self._trains = False  # whether that round trains
        self._answers = 0  # since then
        self._missing = False  # whether somebody dropped out since then
        self._asked = 0.0  # when everybody asked last, by the real clock

    def work(self, pool: ThreadPoolExecutor) -> None:
        """Until the run is over. Raises `Stopped`."""
        self._take_offers(pool)
        while True:
            if not self._queue:
                if self._wait_for_work(pool):
                    return
                continue
            self.now, (device, task, taken) = self._queue.pop()
            self._answers += self._fleet.do(device, task, taken)
            device.busy = False
            self._missing |= device.away
            self._settle(pool)

    def _settle(self, pool: ThreadPoolExecutor) -> None:
        """Wait until everything has happened at the portal that follows from the last answer.

        While it needs further answers that is nothing. With enough of them a new model is made, and whoever has nothing
        to do is asked.
        """
        enough = self._job.enough if self._trains else 0
        if enough and self._answers >= enough and self._queue:
            self._wait_for_work(pool)
        elif time.monotonic() - self._asked > PRESENT_SECONDS:
            self._take_offers(pool)

    def _wait_for_work(self, pool: ThreadPoolExecutor) -> bool:
        """Until somebody gets a task (False) or the run is over (True). Whoever has nothing to do is asked for."""
        for turn in count():
            if self._fleet.over(self._job):
                return True
            free = [device for device in self._free() if device.end != "absent"]
            if not free:
                self._fleet.rest(PATIENCE)
            elif (task := self._fleet.ask(device := free[turn % len(free)], PATIENCE)) is not None:
                self._expect(device, task)
                self._take_offers(pool)
                return False
            if self._take_offers(pool):
                return False
        return True

    def _take_offers(self, pool: ThreadPoolExecutor) -> bool:
        """Ask for everybody who has nothing to do; whether anybody got a task."""
        free = self._free()
        asked = [device for device in free if device.end != "absent"]
        for device in free:
            if device.end == "absent":
                self._fleet.drop(device, self._job)
                self._missing = True
        tasks = list(pool.map(lambda one: self._fleet.ask(one, 0), asked))
        self._asked = time.monotonic()
        for device, task in zip(asked, tasks, strict=True):
            if task is not None:
                self._expect(device, task)
        return any(task is not None for task in tasks)

    def _free(self) -> list[Device]:
        return [device for device in self._fleet.devices if not device.busy and not device.away]

    def _expect(self, device: Device, task: Task) -> None:
        """The device answers this task when it will have trained."""
        if (task["round"], task["attempt"]) != self._round:
            self._begin_round(task)
        device.busy = True
        seconds = device.character.seconds if task["kind"] == TaskKind.TRAIN else 0.0
        self._queue.push(self.now + seconds, (device, task, self.now))

    def _begin_round(self, task: Task) -> None:
        """Tasks of another round are offered. For whoever dropped out of the last the portal waited to its deadline."""
        if self._missing and not self._job.asynchronous:
            self.now = max(self.now, self._opened + self._job.round_seconds)
        self._round, self._opened = (task["round"], task["attempt"]), self.now
        self._answers, self._missing, self._trains = 0, False, task["kind"] == TaskKind.TRAIN
