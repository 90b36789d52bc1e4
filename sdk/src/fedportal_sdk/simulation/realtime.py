"""Taking part in a run by the real clock.

A waiting device costs no connection: of those with nothing to do a few, the sentinels, hold the long poll that real
devices hold. When one of them gets a task, a round has opened, and all others ask. In a round that asks a sample the
sentinels may not be in it, so there everybody asks now and then.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from fedportal_sdk.simulation.device import Device
from fedportal_sdk.simulation.fleet import SENTINELS, Fleet, Job
from fedwire.messages import Task
from fedwire.states import TaskKind

LONGEST_WAIT = 25.0
# How often everybody asks: in a round that asks a sample, and otherwise only to be known to be there.
SAMPLED_SECONDS, PRESENT_SECONDS = 1.0, 15.0
# Asking everybody must leave time for everything else.
SHARE_OF_ASKING = 4.0
# Whether the run is over is asked soon after something happened and ever more rarely when nothing does.
FIRST_LOOK, LONGEST_LOOK = 0.1, 1.0
# So many devices work before somebody looks whether others were not heard of for so long: those the portal would soon
# take to be gone.
AT_ONCE, SILENT_SECONDS = 200, 25.0

Taken = tuple[Device, Task, float]  # and when, by the run's clock


class RealTime:
    """Taking part in one run, by the real clock."""

    def __init__(self, fleet: Fleet, job: Job) -> None:
        self._fleet, self._job, self._began = fleet, job, time.monotonic()
        self._lock = threading.Lock()
        self._due: list[tuple[float, int, Device, Task, float]] = []
        self._order = 0
        self._asked = self._asking = 0.0  # when everybody asked last, and how long that took
        self._bell = threading.Event()
        self._watching: set[Future[None]] = set()
        self._working: set[Future[None]] = set()

    @property
    def now(self) -> float:
        """Seconds since the devices began."""
        return time.monotonic() - self._began

    def work(self, pool: ThreadPoolExecutor) -> None:
        """Until the run is over. Raises `Stopped`, and what a person has to mend."""
        while True:
            self._bell.clear()
            self._ask_everybody(pool)
            if self._rest(pool):
                return

    def _ask_everybody(self, pool: ThreadPoolExecutor) -> None:
        """Take what there is for everybody, then do it: a task that nobody takes is soon given up."""
        began = time.monotonic()
        taken = self._take(pool, self._free())
        self._asked = time.monotonic()
        self._asking = self._asked - began
        while taken:
            some, taken = taken[:AT_ONCE], taken[AT_ONCE:]
            list(pool.map(lambda one: self._begin(*one), some))
            silent = [device for device in self._free() if time.monotonic() - device.heard > SILENT_SECONDS]
            taken += self._take(pool, silent)

    def _take(self, pool: ThreadPoolExecutor, devices: Sequence[Device]) -> list[Taken]:
        return [taken for taken in pool.map(self._ask, devices) if taken is not None]

    def _rest(self, pool: ThreadPoolExecutor) -> bool:
        """Wait until everybody should ask (False) or the run is over (True)."""
        look = FIRST_LOOK
        next_look = time.monotonic() + look
        while True:
            self._start_due(pool)
            self._place_sentinels(pool)
            self._look_after()
            until = min(next_look, self._ask_again(), self._due[0][0] if self._due else next_look)
            if self._bell.wait(max(0.0, until - time.monotonic())) or time.monotonic() >= self._ask_again():
                return False
            if time.monotonic() >= next_look:
                if self._fleet.over(self._job):
                    return True
                look = min(LONGEST_LOOK, 2 * look)
                next_look = time.monotonic() + look

    def _ask_again(self) -> float:
        every = SAMPLED_SECONDS if self._job.sampled else PRESENT_SECONDS
        return self._asked + max(every, SHARE_OF_ASKING * self._asking)

    def _free(self) -> list[Device]:
        return [device for device in self._fleet.devices if not device.busy and not device.away]

    def _ask(self, device: Device) -> Taken | None:
        if device.end == "absent":
            self._fleet.drop(device, self._job)
            return None
        task = self._fleet.ask(device, 0)
        device.busy = task is not None
        return (device, task, self.now) if task is not None else None

    def _begin(self, device: Device, task: Task, taken: float) -> None:
        """Do the task, at once or when the device will have trained."""
        seconds = device.character.seconds if task["kind"] == TaskKind.TRAIN else 0.0
        if not seconds:
            self._finish(device, task, taken)
            return
        device.busy = True
        with self._lock:
            self._order += 1
            due = self._began + taken + seconds
            heapq.heappush(self._due, (due, self._order, device, task, taken))

    def _finish(self, device: Device, task: Task, taken: float) -> None:
        device.busy = True
        try:
            self._fleet.do(device, task, taken)
        finally:
            device.busy = False

    def _start_due(self, pool: ThreadPoolExecutor) -> None:
        with self._lock:
            while self._due and self._due[0][0] <= time.monotonic():
                *_, device, task, taken = heapq.heappop(self._due)
                self._working.add(pool.submit(self._finish, device, task, taken))

    def _place_sentinels(self, pool: ThreadPoolExecutor) -> None:
        """Let a few free devices wait as real ones do."""
        free = [device for device in self._free() if device.end != "absent"]
        for device in free[: max(0, SENTINELS - len(self._watching))]:
            device.busy = True
            self._watching.add(pool.submit(self._watch, device))

    def _watch(self, device: Device) -> None:
        try:
            task = self._fleet.ask(device, LONGEST_WAIT)
        finally:
            device.busy = False
        if task is not None:
            self._bell.set()
            self._begin(device, task, self.now)

    def _look_after(self) -> None:
        """Raises what went wrong in a thread."""
        for futures in (self._watching, self._working):
            for future in [one for one in futures if one.done()]:
                futures.discard(future)
                future.result()
