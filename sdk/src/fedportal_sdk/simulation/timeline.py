"""Taking part in a run by a virtual clock: what a real fleet takes hours for, in the order in which it would happen.

A device that gets a task answers when its duration has passed on the virtual clock. The clock jumps from answer to
answer; after each it stands still until the portal has nothing more to do, so that machines of any speed see the same
order of events.
"""

from __future__ import annotations

import heapq
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
        self._answers = 0  # since then
        self._missing = False  # whether somebody dropped out since then

    def work(self, pool: ThreadPoolExecutor) -> None:
        """Until the run is over. Raises `Stopped`."""
        self._take_offers(pool)
        while True:
            if not self._queue:
                if self._wait_for_work():
                    return
                self._take_offers(pool)
                continue
            self.now, (device, task, taken) = self._queue.pop()
            self._answers += self._fleet.do(device, task, taken)
            device.busy = False
            self._missing |= device.away
            self._settle(device, pool)

    def _settle(self, device: Device, pool: ThreadPoolExecutor) -> None:
        """Wait until everything has happened at the portal that follows from the device's answer."""
        if self._job.asynchronous:
            self._follow(device)
        elif self._job.enough and self._answers >= self._job.enough and self._queue and not self._wait_for_work():
            self._take_offers(pool)

    def _follow(self, device: Device) -> None:
        """In an asynchronous run whoever has answered gets its next task at once."""
        while not device.away:
            task = self._fleet.ask(device, PATIENCE)
            if task is not None:
                self._expect(device, task)
                return
            if self._fleet.over(self._job):
                return

    def _wait_for_work(self) -> bool:
        """Until somebody gets a task (False) or the run is over (True). Whoever gets it has it."""
        while not self._fleet.over(self._job):
            device = next((one for one in self._free() if one.end != "absent"), None)
            if device is None:
                self._fleet.rest(PATIENCE)
            elif (task := self._fleet.ask(device, PATIENCE)) is not None:
                self._expect(device, task)
                return False
        return True

    def _take_offers(self, pool: ThreadPoolExecutor) -> None:
        """Ask for everybody who has nothing to do."""
        free = self._free()
        asked = [device for device in free if device.end != "absent"]
        for device in free:
            if device.end == "absent":
                self._fleet.drop(device, self._job)
                self._missing = True
        for device, task in zip(asked, pool.map(lambda one: self._fleet.ask(one, 0), asked), strict=True):
            if task is not None:
                self._expect(device, task)

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
        self._answers, self._missing = 0, False
