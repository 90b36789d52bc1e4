"""The simulation from beginning to end: make a model if need be, enrol, run, measure, and leave no device behind."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from fedportal_sdk.simulation import outcome, rows
from fedportal_sdk.simulation.characters import characters
from fedportal_sdk.simulation.crews import Crew, Enrolled, crew_for
from fedportal_sdk.simulation.fleet import Job, Log, Place
from fedportal_sdk.simulation.outcome import MOST_SHOWN, Outcome
from fedportal_sdk.simulation.owner import Owner, Subject, Wish
from fedportal_sdk.simulation.wishes import Settings
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.states import is_final

Tell = Callable[[str], None]
WATCH_SECONDS = 0.5
# A run that is over is heard of by its devices; those that never worked for it are told after so many seconds.
LATE_SECONDS = 4.0
# The portal ends a run a moment after its last answer.
END_SECONDS = 30.0


def _nobody(words: str) -> None:
    """Tells nobody."""


class Simulation:
    """One simulation at a portal. `tell` hears, in a few words, what goes on, `warn` what was left behind and why."""

    def __init__(
        self,
        owner: Owner,
        place: Place,
        settings: Settings,
        wish: Wish,
        *,
        processes: int = 1,
        ray: bool = False,
        keep: bool = False,
        tell: Tell = _nobody,
        warn: Tell = _nobody,
    ) -> None:
        self._owner, self._place, self._settings, self._wish = owner, place, settings, wish
        self._processes, self._ray, self._keep, self._tell = processes, ray, keep, tell
        self._warn = warn
        self.name = f"sim-{secrets.token_hex(3)}"
        self.group = self.name
        self._enrolled = False

    def play(self) -> Outcome:
        """Play it. Raises what the portal refuses; whatever happens, no simulated device stays in service.

        Ctrl-C ends it: a run that was started here is stopped.
        """
        subject = self._owner.subject(self._wish, self._settings)
        Architecture.parse(subject.architecture)
        if self._wish.run:
            self.group = self._owner.session(self._wish.run)["group"] or self.name
        crew = crew_for(self._place, self._settings, subject.architecture, self._processes, ray=self._ray)
        try:
            return self._played(crew, subject)
        finally:
            crew.stop()
            crew.close()
            if self._enrolled and not self._keep:
                self._retire()

    def _played(self, crew: Crew, subject: Subject) -> Outcome:
        count = self._settings.devices
        self._tell(f"registering {count} devices …")
        began = time.monotonic()
        self._enrolled = True
        enrolled = crew.enrol(self.name, self.group)
        crew.greet()
        enrolling = time.monotonic() - began
        self._tell("starting the run …")
        session = self._session(subject)
        try:
            logs = self._taken_part(crew, session)
            session = self._ended(session["id"])
        except BaseException:
            self._stop(session["id"])
            raise
        return self._outcome(subject, session, enrolled, logs, enrolling)

    def _session(self, subject: Subject) -> dict[str, Any]:
        if self._wish.run:
            return self._owner.session(self._wish.run)
        time.sleep(WATCH_SECONDS)  # the portal writes down a moment later who has asked
        return self._owner.begin(subject, self._wish, self._settings, self.group)

    def _taken_part(self, crew: Crew, session: dict[str, Any]) -> list[Log]:
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(crew, session["id"], done), daemon=True)
        watcher.start()
        try:
            return crew.take_part(_job(session))
        finally:
            done.set()
            watcher.join(5)

    def _watch(self, crew: Crew, run: str, done: threading.Event) -> None:
        """Tell how the run stands, and tell the crew when it is over."""
        over_since = 0.0
        while not done.wait(WATCH_SECONDS):
            try:
                session = self._owner.session(run)
            except FedportalError:
                continue
            if not is_final("run", session["state"]):
                self._tell(f"round {session['current_round']} / {session['total_rounds']}: {session['word']}")
            elif not over_since:
                over_since = time.monotonic()
            elif time.monotonic() - over_since > LATE_SECONDS:
                crew.stop()
                return

    def _ended(self, run: str) -> dict[str, Any]:
        """The run once it is over; after a while as it is."""
        give_up = time.monotonic() + END_SECONDS
        while not is_final("run", (session := self._owner.session(run))["state"]) and time.monotonic() < give_up:
            time.sleep(0.1)
        return session

    def _stop(self, run: str) -> None:
        """End a run that was started here."""
        if self._wish.run:
            return
        try:
            self._owner.stop(run)
        except FedportalError as error:
            if error.code != "wrong_state":
                self._warn(f"The run {run} could not be stopped: {error.message}")

    def _retire(self) -> None:
        """Take the devices out of service; those of a joined run by their names."""
        prefix = self.name if self.group != self.name else ""
        try:
            self._owner.retire_group(self.group, prefix, lambda count: self._tell(f"retiring {count} devices …"))
        except (FedportalError, KeyboardInterrupt) as error:
            why = error.message if isinstance(error, FedportalError) else "Interrupted."
            left = f"Simulated devices called {self.name}-… may be left: {why}"
            self._warn(f"{left} Find them with `fedportal device list`, end them with `fedportal device retire`.")
            if isinstance(error, KeyboardInterrupt):
                raise

    def _outcome(
        self,
        subject: Subject,
        session: dict[str, Any],
        enrolled: Sequence[Enrolled],
        logs: Sequence[Log],
        enrolling: float,
    ) -> Outcome:
        settings, found = self._settings, self._owner.rounds(session["id"])
        drawn, points = characters(settings), outcome.points_of(logs)
        counts, errors = outcome.totals(logs)
        attacks = {name: drawn[place].kind for place, _, name in enrolled if drawn[place].kind}
        start = points.get(0)
        return Outcome(
            run=session["id"],
            model=session["model"]["name"],
            state=session["state"],
            reason=session["reason"],
            strategy=session["strategy"],
            devices=settings.devices,
            settings=_told(settings),
            clock="virtual" if settings.virtual else "real",
            rounds=outcome.rounds_seen(found, points),
            start_accuracy=start.accuracy if start else None,
            start_loss=start.loss if start else None,
            counts=counts,
            errors=errors,
            suspects=outcome.suspects(self._owner.flagged(session["id"]), attacks),
            seconds=outcome.seconds_of(found),
            clock_seconds=max((log.seconds for log in logs), default=0.0),
            enrolling_seconds=enrolling,
            durations=[character.seconds for character in drawn],
            holdings=_holdings(settings, subject),
        )


def _job(session: dict[str, Any]) -> Job:
    plan = session["plan"]
    asynchronous = plan.get("schedule") == "asynchronous"
    waits = plan["stragglers"] == "wait"
    return Job(
        session["id"],
        sampled=plan["mode"] == "cross_device",
        round_seconds=float(session["round_seconds"]),
        enough=plan["buffer"] if asynchronous else 0 if waits else session["min_participants"],
        asynchronous=asynchronous,
    )


def _told(settings: Settings) -> dict[str, str]:
    """The settings as people write them."""
    return {
        "data": settings.data,
        "skew": str(settings.skew),
        "speeds": str(settings.speeds),
        "dropout": str(settings.dropout),
        "attackers": ", ".join(map(str, settings.attackers)) or "none",
        "seed": str(settings.seed),
    }


def _holdings(settings: Settings, subject: Subject) -> list[dict[str, int]]:
    """How many rows of each class the first devices hold; nothing where the target is no class."""
    data = rows.load(settings, Architecture.parse(subject.architecture))
    if data.numbers:
        return []
    spread = rows.spread(settings, data)[:MOST_SHOWN]
    return [
        {str(key): count for key, count in sorted(Counter(data.labels[one.rows].tolist()).items())} for one in spread
    ]
