"""`FederatedClient`: a device takes part in federated training in five lines.

from fedportal_sdk import FederatedClient

client = FederatedClient(api_key="edg_…", device_identifier="hospital-001", url="https://portal.example")
client.register()
client.train(model="radiology-v1", data="patients.csv", target_col="diagnosis")
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from fedportal_sdk import data as rows
from fedportal_sdk._aside import asides
from fedportal_sdk._config import DeviceRecord, Home, key_id_of, rotate_at
from fedportal_sdk._door import DeviceDoor
from fedportal_sdk._http import Http
from fedportal_sdk._journal import FileJournal
from fedportal_sdk._loop import LONGEST_WAIT, Loop
from fedportal_sdk._machine import about_this_machine
from fedportal_sdk._masking import Identity, Masking
from fedportal_sdk._participation import Participation
from fedportal_sdk._policy import DevicePolicy, policy_of
from fedportal_sdk._retry import Patience, Stop, Stopped
from fedportal_sdk.functions import EvaluateFn, FunctionWork, LocalTrainFn
from fedportal_sdk.installed import HealthCounts, Installed, InstalledModel, health_report
from fedportal_sdk.local import TableWork, Work, measured
from fedportal_sdk.parts import OwnModel, Parts
from fedportal_sdk.slicing import Slices, columns_of
from fedportal_sdk.variates import Variates
from fedwire import routes
from fedwire.errors import FedportalError
from fedwire.messages import Registered, Registration, Task
from fedwire.metrics import Ratios
from fedwire.version import VERSION

log = logging.getLogger("fedportal")
Event = dict[str, Any]

HEARTBEAT_SECONDS = 20.0
# After a failure a key is changed for a fresh one not sooner than so many seconds.
ROTATE_AGAIN_SECONDS = 300.0


class FederatedClient:
    """A device at one portal.

    `api_key`: the organization's enrolment key, from the argument, FEDPORTAL_API_KEY or `fedportal login`; a device
    that registered before needs none. `device_identifier`: its name within the organization, by default
    FEDPORTAL_DEVICE or the host's name. `url`: the portal, from the argument, FEDPORTAL_URL or `fedportal login`.
    `home`: the folder that keeps its keys, FEDPORTAL_HOME or ~/.fedportal. `ca_file`: further trusted certificates.
    `on_event` is called with a dict for everything that happens, in the thread that trains. `patience`: seconds after
    which `register` and the other single calls give up; training never does. `least_records`: the fewest rows with
    which this device takes part in anything, from the argument, FEDPORTAL_LEAST_RECORDS or the saved settings; the
    organization's policy may ask for more, never for less.
    """

    def __init__(
        self,
        api_key: str | None = None,
        device_identifier: str | None = None,
        url: str | None = None,
        home: str | Path | None = None,
        *,
        ca_file: str | Path | None = None,
        on_event: Callable[[Event], None] | None = None,
        patience: float = 30.0,
        least_records: int | None = None,
    ) -> None:
        self.home = Home(home)
        self.least_records = self.home.least_records(least_records)
        self.url = self.home.url(url)
        self.device_identifier = device_identifier or os.environ.get("FEDPORTAL_DEVICE") or socket.gethostname()
        self._api_key = self.home.api_key(api_key)
        self._key_id = key_id_of(self._api_key) if self._api_key else ""
        self._folder = self.home.device(self.url, self.device_identifier)
        self._parts = Parts(self._folder.folder / "personal", self.device_identifier)
        self._http = Http(self.url, ca_file=self.home.ca_file(ca_file))
        self._on_event = on_event
        self._stop = Stop()
        self._patience = Patience(self._stop, self._report, limit=patience)
        self._record: DeviceRecord | None = None
        self._rotate_again = 0.0
        self._use(self._folder.record(self._key_id))

    @property
    def device_id(self) -> str | None:
        """The device's public id, None before its first registration."""
        return self._record.id if self._record else None

    @property
    def organization(self) -> str:
        """The id of the device's organization, "" before its first registration."""
        return self._record.org_id if self._record else ""

    @property
    def folder(self) -> Path:
        """What this device keeps at this portal."""
        return self._folder.folder

    def policy(self) -> DevicePolicy:
        """What this device demands of secure aggregation, from its policy file. Raises field_invalid."""
        return policy_of(self.folder, self.home.folder)

    def register(self, groups: Sequence[str] | None = None) -> DeviceRecord:
        """Register this device, or say again that it is the same one; either way it gets a fresh device key.

        `groups`: labels such as "production" that the device begins with; those of one that is registered are changed
        in the portal, and what is given here changes nothing. Raises not_configured without an enrolment
        key, key_invalid, key_revoked, device_taken, device_inactive, enrolment_full, unreachable, …
        """
        return self._register(groups, self._patience)

    def train(
        self,
        model: str | None = None,
        data: Any = None,
        target_col: str = "target",
        *,
        rounds: int | None = None,
        forever: bool = False,
        labels: Sequence[Any] | None = None,
        holdout_seed: int = 0,
        slices: Slices = None,
        work_share: float = 1.0,
    ) -> Participation:
        """Take part in training `model` (id or name; None: whatever comes) with this device's rows.

        `data`: the path of a CSV file, a pair (features, target), or a data frame. `labels`: the classes in the model's
        order, where sorting them is not it. `slices`: parts of the held-out rows on which it reports too, by the values
        of a column ("sex", or several), or as functions of the loaded rows by name; parts that are too small are not
        sent, and a slice column of text is no feature. `work_share`: from 0.1 to 1, of the steps that a task asks for,
        where this machine cannot do all of them in time; its update counts by its rows all the same. Returns when a run
        ends, after `rounds` training rounds, or on `stop()`; with `forever` only on `stop()`. Restarts and cuts are
        waited out. Data that cannot be used raise their `FedportalError` before the portal is asked for work.
        """
        work = TableWork(rows.load(data, target_col, columns_of(slices)), labels, holdout_seed, slices, work_share)
        return self._take_part(work, model, rounds, forever)

    def train_from_remote(
        self,
        model: str | None,
        local_train_fn: LocalTrainFn,
        rounds: int | None = 5,
        *,
        evaluate_fn: EvaluateFn | None = None,
        framework: str = "numpy",
        forever: bool = False,
    ) -> Participation:
        """Take part with a training function of one's own, for any model.

        `local_train_fn(base_state_dict) → (state_dict, n, metrics)`: new weights under the same names, the number of
        rows trained on, and numbers to show (or None). `evaluate_fn(state_dict) → (scores, labels, losses)` on held-out
        rows, the scores being probabilities of class 1 [n] or a score per class [n, k]; or a mapping of these three,
        `logits` in place of `scores` for a model's raw outputs, with further metrics: `named` (by name a value per
        row), `scored` (by name probabilities and labels, which get an AUC) and `slices` (by name each row's slice); or
        a ready report. The portal shows `named` metrics under their names, as the mean over all rows of all devices,
        and `scored` ones as `auc_NAME`. With `framework="torch"` both get torch tensors, otherwise numpy arrays; they
        may give either.
        """
        return self._take_part(FunctionWork(local_train_fn, evaluate_fn, framework), model, rounds, forever)

    def personal_model(self, model: str | None = None) -> OwnModel:
        """This device's own model of `model` (id or name; None: the only one there is), from a run that gave it one.

        It lies on this machine and was never sent. Raises no_personal_model, ambiguous_name.
        """
        return self._parts.model(model)

    def save_personal(self, model: str | None, path: str | Path) -> Path:
        """Write this device's own model to a safetensors file. Raises as `personal_model`, and file_unwritable."""
        found, target = self.personal_model(model), Path(path)
        try:
            shutil.copyfile(found.path, target)
        except OSError as error:
            raise FedportalError("file_unwritable", path=str(target), reason=error.strerror or str(error)) from error
        return target

    def evaluate_personal(
        self,
        model: str | None = None,
        data: Any = None,
        target_col: str = "target",
        *,
        labels: Sequence[Any] | None = None,
        holdout_seed: int = 0,
    ) -> Ratios:
        """How this device's own model does on the held-out ones of these rows, the same that `train` holds out.

        Raises as `personal_model` and `train` do, and architecture_invalid for a model without a description.
        """
        found = self.personal_model(model)
        return measured(found, rows.load(data, target_col), labels, holdout_seed)

    def forget_personal(self, model: str | None = None) -> None:
        """Remove this device's own model, and what it kept of the model's run. Raises as `personal_model`."""
        self._parts.remove(self.personal_model(model))

    def installed(self, model: str | None = None) -> InstalledModel:
        """The version of `model` (id or name; None: of the only one) that this device's organization gave it.

        Raises not_installed, ambiguous_name.
        """
        return Installed(self.folder / "installed").find(model)

    def report_health(self, model: str | None = None, **counts: Unpack[HealthCounts]) -> None:
        """Tell how the installed version of `model` fared. Only counts leave this machine. Raises as `installed`, and
        field_invalid for what cannot be."""
        self._use(self._folder.record(self._key_id))  # a process beside this one may have registered it, or rotated
        report, record = health_report(self.installed(model), counts), self._ensure_registered(self._patience)
        path = routes.DEVICE_HEALTH.format(device=record.id)
        self._patience(lambda: self._http.json("POST", path, {"reports": [report]}))

    def wait_for_task(self, timeout: float = LONGEST_WAIT) -> Task | None:
        """The next task as it came, without working on it; None when none came within `timeout` seconds.

        For clients that do everything themselves. Raises `Stopped` after `stop()`.
        """
        self._ensure_registered(self._patience)
        door, deadline = self._door(self._patience), time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            task = door.next_task(max(0.0, min(LONGEST_WAIT, left)))
            if task is not None or left <= LONGEST_WAIT:
                return task

    def heartbeat(self, **facts: Any) -> dict[str, Any]:
        """Tell the portal that this device is there; gives the portal's answer. `facts`: more capabilities to tell."""
        record = self._ensure_registered(self._patience)
        path = routes.DEVICE_HEARTBEAT.format(device=record.id)
        body: dict[str, Any] = {"sdk_version": VERSION, "os_version": platform.release()}
        body["platform"] = platform.system().lower()
        if facts:
            body["capabilities"] = {**about_this_machine()["capabilities"], **facts}
        answer: dict[str, Any] = self._patience(lambda: self._http.json("POST", path, body)) or {}
        return answer

    def rotate(self) -> DeviceRecord:
        """Change the device key for a fresh one. The old one ends when the fresh one is first used."""
        return self._rotate(self._patience)

    def stop(self) -> None:
        """End what this client is doing, for good; from any thread or a signal handler.

        A task in work is left for the next start.
        """
        self._stop.set()
        self._http.interrupt()

    def close(self) -> None:
        """Stop, and close the connections."""
        self.stop()
        self._http.close()

    def __enter__(self) -> FederatedClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take_part(
        self, work: Work, model: str | None, rounds: int | None, forever: bool, how: type[Loop] = Loop
    ) -> Participation:
        self.policy()  # with a slip of the pen in it nothing begins
        for_ever = Patience(self._stop, self._report)
        busy = threading.Event()
        try:
            self._ensure_registered(for_ever)
        except Stopped:
            return Participation()
        door = self._door(for_ever)
        loop = how(
            door,
            work,
            Variates(self._folder.folder / "variates"),
            self._parts,
            model=model,
            rounds=rounds,
            forever=forever,
            stop=self._stop,
            tell=self._tell,
            renew=lambda: self._register(None, for_ever),
            refresh=self._refresh,
            least_records=self.least_records,
            busy=busy,
            residuals=self._folder.folder / "residuals",
            masking=Masking(self._identity, self.policy, FileJournal(self.folder), self._tell),
            asides=asides(door, work, self.folder, self.policy, model, self.least_records, self._stop, self._tell),
        )
        with self._signs_of_life(busy):
            return loop.run()

    def _identity(self) -> Identity:
        return self.device_id or "", self.organization, self._folder.private_key()

    def _door(self, patience: Patience) -> DeviceDoor:
        return DeviceDoor(self._http, patience, self.home.models, self._folder.folder.name)

    def _ensure_registered(self, patience: Patience) -> DeviceRecord:
        return self._record or self._register(None, patience)

    def _rotate(self, patience: Patience) -> DeviceRecord:
        record = self._ensure_registered(patience)
        answer = patience(lambda: self._http.json("POST", routes.DEVICE_ROTATE))
        # On disk before it is used, as in `_register`.
        fresh = self._folder.keep(replace(record, device_key=answer["device_key"], rotate_at=rotate_at(answer)))
        self._use(fresh)
        self._tell("rotated", device=fresh.id)
        return fresh

    def _refresh(self) -> None:
        """Get a fresh key well before the present one ends. What goes wrong is tried again later: there is time."""
        record = self._record
        if record is None or not record.rotate_at or time.time() < max(float(record.rotate_at), self._rotate_again):
            return
        self._rotate_again = time.time() + ROTATE_AGAIN_SECONDS
        try:
            self._rotate(self._patience)
        except FedportalError as error:
            log.warning("This device's key ends soon and a fresh one did not come: %s", error.message)

    def _register(self, groups: Sequence[str] | None, patience: Patience) -> DeviceRecord:
        if not self._api_key:
            raise FedportalError("not_configured", what="enrolment key", variable="FEDPORTAL_API_KEY")

        about = about_this_machine()

        def attempt() -> Any:
            body: Registration = {**self._folder.registration(self._key_id), **about}
            if groups is not None:
                body["groups"] = list(groups)
            return self._http.json("POST", routes.DEVICE_REGISTER, body, token=self._api_key)

        # On disk before it is used: the old key ends with the first use of the new one.
        found: Registered = patience(attempt)
        record = self._folder.keep(
            DeviceRecord(
                found["id"],
                self.device_identifier,
                found["org_id"],
                found["device_key"],
                self._key_id,
                rotate_at(found),
            )
        )
        self._use(record)
        self._tell("registered", device=record.id, organization=record.org_id)
        return record

    def _use(self, record: DeviceRecord | None) -> None:
        self._record = record
        self._http.token = record.device_key if record else ""

    def _report(self, error: FedportalError | None) -> None:
        if error is None:
            log.warning("The portal at %s is back.", self.url)
            self._tell("reachable")
        elif not self._stop.is_set():
            log.warning("%s Trying again until it works.", error.message)
            self._tell("unreachable", reason=error.message)

    def _tell(self, event: str, **values: Any) -> None:
        if self._on_event is not None:
            self._on_event({"event": event, **values})

    @contextmanager
    def _signs_of_life(self, busy: threading.Event) -> Iterator[None]:
        """While `busy` is set, a heartbeat goes out now and then: training may take longer than the portal waits."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(HEARTBEAT_SECONDS):
                record = self._record
                if not busy.is_set() or record is None:
                    continue
                try:
                    self._http.json("POST", routes.DEVICE_HEARTBEAT.format(device=record.id), {})
                except FedportalError as error:
                    log.debug("No heartbeat: %s", error)

        thread = threading.Thread(target=beat, name="fedportal-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
