"""`Portal`: the owner's and member's side of the API, as Python calls.

Names and ids are taken alike. Every failure is a `FedportalError` that says what to do next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fedportal_sdk import _pulling, transfers
from fedportal_sdk._config import Home
from fedportal_sdk._http import Http
from fedportal_sdk._paths import path_of as _path
from fedportal_sdk._retry import Patience
from fedportal_sdk.transfers import Progress
from fedwire import routes
from fedwire.errors import FedportalError
from fedwire.states import is_final

Json = dict[str, Any]

PAGE = 200
PATIENCE = 30.0


def _nobody(done: int, total: int) -> None:
    """Shows progress to nobody."""


class Portal:
    """A portal with an API key: given, from FEDPORTAL_URL and FEDPORTAL_API_KEY, or saved by `fedportal login`.

    Questions and transfers are repeated for `patience` seconds while the portal is away; `report` is told the error
    when that begins and None when it ends. Everything else is asked once.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        home: str | Path | None = None,
        ca_file: str | Path | None = None,
        patience: float = PATIENCE,
        report: Callable[[FedportalError | None], None] = lambda _: None,
    ) -> None:
        place = Home(home)
        self.url = place.url(url)
        self._http = Http(self.url, place.api_key(api_key), ca_file=place.ca_file(ca_file))
        self._patience = Patience(threading.Event(), report, limit=patience)

    @property
    def has_key(self) -> bool:
        """Whether there is an API key at all."""
        return bool(self._http.token)

    # --- who am I ----------------------------------------------------------------------------------------------------

    def whoami(self) -> Json:
        """The person and the organization for which this key acts."""
        return self._get(routes.WHOAMI)

    # --- federations -------------------------------------------------------------------------------------------------

    def federations(self) -> list[Json]:
        """The federations one sees."""
        return list(self._rows(routes.FEDERATIONS))

    def found_federation(self, name: str, description: str = "") -> Json:
        """Found a federation."""
        return self._post(routes.FEDERATIONS, name=name, description=description)

    def invite(self, federation: str, org_ids: list[str] | None = None, emails: list[str] | None = None) -> list[Json]:
        """Invite organizations by id and people by address; whom it went to, with links where they may be shown."""
        path = _path(routes.FEDERATION_INVITE, federation=federation)
        return list(self._post(path, org_ids=org_ids or [], emails=emails or [])["invited"])

    def join(self, federation: str, accept_agreement: str | None = None) -> Json:
        """Accept an invitation to one's organization, and with it the study agreement with this id."""
        more = {"accept_agreement": accept_agreement} if accept_agreement else {}
        return self._post(_path(routes.FEDERATION_JOIN, federation=federation), **more)

    def agreements(self, federation: str) -> list[Json]:
        """The versions of the study agreement, the current one first."""
        return list(self._rows(_path(routes.FEDERATION_AGREEMENTS, federation=federation)))

    def publish_agreement(self, federation: str, title: str, text: str, expires_at: str | None = None) -> Json:
        """Publish a version; `expires_at` as ISO 8601. One's own organization thereby accepts it."""
        path = _path(routes.FEDERATION_AGREEMENTS, federation=federation)
        return self._post(path, title=title, text=text, expires_at=expires_at)

    def accept_agreement(self, federation: str, agreement: str) -> Json:
        """Accept the current version, given by its id, for one's organization."""
        return self._post(_path(routes.FEDERATION_AGREEMENT, federation=federation, agreement=agreement) + "/accept")

    def decline(self, federation: str) -> Json:
        """Decline it."""
        return self._post(_path(routes.FEDERATION_DECLINE, federation=federation))

    def leave(self, federation: str) -> Json:
        """Leave a federation."""
        return self._post(_path(routes.FEDERATION_LEAVE, federation=federation))

    def members(self, federation: str) -> list[Json]:
        """The roster."""
        return list(self._get(_path(routes.FEDERATION_MEMBERS, federation=federation)))

    def act_on_member(self, federation: str, org: str, act: str) -> Json:
        """suspend, reinstate or remove a member."""
        return self._post(_path(routes.FEDERATION_MEMBER, federation=federation, org=org) + f"/{act}")

    def invitations(self, federation: str) -> list[Json]:
        """The invitations by letter, newest first."""
        return list(self._rows(_path(routes.FEDERATION_INVITATIONS, federation=federation)))

    def act_on_invitation(self, invitation: str, act: str) -> Json:
        """resend or revoke an invitation by letter, given by its id."""
        return self._post(_path(routes.INVITATION, invitation=invitation) + f"/{act}")

    def shared_models(self, federation: str) -> list[Json]:
        """The models that a federation sees."""
        return list(self._rows(_path(routes.FEDERATION_MODELS, federation=federation)))

    def share(self, model: str, federation: str) -> Json:
        """Show a model to a federation."""
        return self._post(_path(routes.FEDERATION_MODELS, federation=federation), model_id=model)

    def unshare(self, model: str, federation: str) -> None:
        """Take it out again."""
        self._call("DELETE", _path(routes.FEDERATION_MODEL, federation=federation, model=model))

    # --- models ------------------------------------------------------------------------------------------------------

    def models(self) -> list[Json]:
        """The models one sees."""
        return list(self._rows(routes.MODELS, "models"))

    def model(self, model: str) -> Json:
        """One model."""
        return self._get(_path(routes.MODEL, model=model))

    def create_model(self, name: str, description: str = "", architecture: Mapping[str, Any] | None = None) -> Json:
        """Register a model."""
        return self._post(routes.MODELS, name=name, description=description, architecture=architecture)

    def versions(self, model: str) -> list[Json]:
        """Its versions, newest first."""
        return list(self._rows(_path(routes.MODEL_VERSIONS, model=model), "versions"))

    def version(self, model: str, version: str = "latest") -> Json:
        """One version with its lineage."""
        return self._get(_path(routes.MODEL_VERSION, model=model, version=version))

    def push_initial(self, model: str, seed: int = 0, version: str | None = None) -> Json:
        """A version with the first weights of the model's described architecture."""
        return self._post(_path(routes.MODEL_VERSIONS, model=model), initial=True, seed=seed, version=version)

    def push(
        self,
        model: str,
        file: str | Path,
        *,
        version: str | None = None,
        architecture: Mapping[str, Any] | None = None,
        notes: str = "",
        progress: Progress = _nobody,
    ) -> Json:
        """Push a safetensors file as a version. An upload that breaks off continues where it broke.

        Raises `data_missing` when the file cannot be read, and what the portal says of it.
        """
        path = Path(file)
        size, sha = transfers.measured(path)
        upload = self._post(_path(routes.MODEL_UPLOADS, model=model), size=size, sha256=sha)
        if not upload["complete"]:
            transfers.send(self._http, self._patience, upload["url"], path, size, sha, progress)
        said = {"upload": upload["id"], "version": version, "architecture": architecture, "notes": notes}
        return self._post(_path(routes.MODEL_VERSIONS, model=model), **said)

    def pull(
        self,
        model: str,
        file: str | Path,
        *,
        version: str = "latest",
        format: str = "safetensors",
        progress: Progress = _nobody,
        waiting: Callable[[], object] = lambda: None,
    ) -> Path:
        """Fetch a version into `file`, whole and checked or not at all; forms other than safetensors are made."""
        path = _path(routes.MODEL_LINK, model=model, version=version) + f"?format={quote(format)}"
        _pulling.pull(self._http, self._patience, path, Path(file), progress, waiting)
        return Path(file)

    # --- training ----------------------------------------------------------------------------------------------------

    def start(
        self,
        model: str,
        *,
        federation: str | None = None,
        strategy: str = "fedavg",
        rounds: int = 10,
        group: str | None = None,
        min_devices: int = 1,
        round_seconds: int | None = None,
        config: Mapping[str, Any] | None = None,
        plan: Mapping[str, Any] | None = None,
        dry_run: bool = False,
    ) -> Json:
        """Start a run; with `dry_run` only say whom its first round would ask, and what stands in the way.

        `plan` says whom a round asks and when it closes: mode ("cross_silo" or "cross_device"), sample, quota, cap,
        over_selection, stragglers ("wait", "cut" or "grace"), grace_seconds; and for rounds that do not wait for slow
        devices schedule ("asynchronous"), buffer, most_staleness, staleness_exponent.
        """
        said: Json = {"model_id": model, "strategy": strategy, "rounds": rounds, "group": group}
        said["min_devices"] = min_devices
        if federation:
            said["federation_id"] = federation
        if round_seconds:
            said["round_seconds"] = round_seconds
        path = routes.SESSION_PREVIEW if dry_run else routes.SESSIONS
        return self._post(path, **said, **dict(plan or {}), config=dict(config or {}))

    def runs(self, model: str | None = None) -> list[Json]:
        """The runs one sees, newest first; of one model, or of all."""
        return list(self._rows(routes.SESSIONS, "sessions", **({"model_id": model} if model else {})))

    def run_of(self, model: str) -> str:
        """The id of the model's newest run that goes on, or of its last; a run's id is its own.

        Raises `not_found`, `no_run`.
        """
        if model.startswith("run_"):
            return model
        newest = self._get(f"{routes.SESSIONS}?{urlencode({'model_id': model, 'limit': PAGE})}")["sessions"]
        if not newest:
            raise FedportalError("no_run", model=model)
        going_on = (run for run in newest if not is_final("run", run["state"]))
        return str(next(going_on, newest[0])["id"])

    def status(self, run: str) -> Json:
        """The whole snapshot of a run, given by its id or by its model."""
        return self._get(_path(routes.SESSION, run=self.run_of(run)) + "/snapshot")

    def watch(self, run: str, seconds: float = 1.0) -> Iterator[Json]:
        """Snapshot after snapshot until the run ends; the last one is of the ended run."""
        found, last = self.run_of(run), -1
        while True:
            snapshot = self._patience(lambda: self.status(found))
            if snapshot["sequence"] != last:
                last = snapshot["sequence"]
                yield snapshot
            if is_final("run", snapshot["run"]["state"]):
                return
            time.sleep(seconds)

    def pause(self, run: str) -> Json:
        """Let no further round open."""
        return self._post(_path(routes.SESSION, run=self.run_of(run)) + "/pause")

    def resume(self, run: str) -> Json:
        """Go on."""
        return self._post(_path(routes.SESSION, run=self.run_of(run)) + "/resume")

    def schedule(self, run: str, schedule: str, **ahead: float | None) -> Json:
        """Go on with "synchronous" or "asynchronous" rounds; `ahead`: buffer, most_staleness, staleness_exponent."""
        said = {name: value for name, value in ahead.items() if value is not None}
        return self._post(_path(routes.SESSION, run=self.run_of(run)) + "/schedule", schedule=schedule, **said)

    def stop(self, run: str) -> Json:
        """End the run for good."""
        return self._post(_path(routes.SESSION, run=self.run_of(run)) + "/stop")

    def keep(self, run: str) -> Json:
        """Make the last good model of a run that failed or was stopped a version."""
        return self._post(_path(routes.SESSION, run=self.run_of(run)) + "/keep")

    def publish_best(self, run: str) -> Json:
        """Make the model of the best round a version; {"round", "version", …}."""
        return self._post(_path(routes.SESSION, run=self.run_of(run)) + "/publish-best")

    # --- devices and people ------------------------------------------------------------------------------------------

    def devices(self) -> list[Json]:
        """The organization's devices."""
        return list(self._rows(routes.DEVICES, "devices"))

    def act_on_device(self, device: str, act: str) -> Json:
        """revoke, retire, reset, renew, quarantine or restore a device."""
        return self._post(_path(routes.DEVICE, device=device) + f"/{act}")

    def set_groups(self, device: str, groups: list[str]) -> Json:
        """Put the device into exactly these groups."""
        return dict(self._call("PUT", _path(routes.DEVICE, device=device) + "/groups", {"groups": groups}))

    def team(self) -> Json:
        """The people of one's organization, and who is invited."""
        path = _path(routes.ORG_MEMBERS, org=self.own_organization())
        return {**self._get(path), "members": list(self._rows(path, "members"))}

    def add_colleague(self, email: str, role: str) -> Json:
        """Invite a colleague by a letter."""
        return self._post(_path(routes.ORG_MEMBERS, org=self.own_organization()), email=email, role=role)

    def set_role(self, colleague: str, role: str) -> Json:
        """Give a colleague, by address or id, another role."""
        return dict(self._call("PATCH", self._colleague(colleague), {"role": role}))

    def remove_colleague(self, colleague: str) -> None:
        """Let a colleague go, by address or id; their keys end."""
        self._call("DELETE", self._colleague(colleague))

    def policy(self) -> Json:
        """The policy of one's organization."""
        return dict(self._get(_path(routes.ORG_POLICY, org=self.own_organization())))

    def set_policy(self, **limits: Any) -> Json:
        """Set these limits of the policy, by the API's names; None takes a budget or a lifetime away."""
        return dict(self._call("PATCH", _path(routes.ORG_POLICY, org=self.own_organization()), limits))

    def budget(self) -> Json:
        """The privacy budget of one's organization, with the newest runs that spent of it."""
        return dict(self._get(_path(routes.ORG_BUDGET, org=self.own_organization())))

    def keys(self) -> list[Json]:
        """One's keys; with the right to manage keys those of the whole organization."""
        return list(self._rows(routes.API_KEYS, "keys"))

    def make_key(
        self, name: str, scopes: list[str], expires_at: str | None = None, device_limit: int | None = None
    ) -> Json:
        """A key for oneself. Its text, `key`, is in this answer and nowhere else."""
        return self._post(routes.API_KEYS, name=name, scopes=scopes, expires_at=expires_at, device_limit=device_limit)

    def revoke_key(self, key: str) -> Json:
        """End a key at once; by its id."""
        return self._post(_path(routes.API_KEY_REVOKE, key=key))

    def webhooks(self) -> list[Json]:
        """The webhooks of one's organization."""
        return list(self._rows(routes.WEBHOOKS, "webhooks"))

    def add_webhook(self, url: str, kinds: list[str] | None = None) -> Json:
        """A webhook for these kinds of news, or for all. Its `secret` is in this answer and nowhere else."""
        return self._post(routes.WEBHOOKS, url=url, kinds=kinds or [])

    def remove_webhook(self, webhook: str) -> None:
        """Remove it; by its id."""
        self._call("DELETE", _path(routes.WEBHOOK, webhook=webhook))

    def test_webhook(self, webhook: str) -> Json:
        """Send it a test delivery; `deliveries` says how it went."""
        return self._post(_path(routes.WEBHOOK, webhook=webhook) + "/test")

    def deliveries(self, webhook: str) -> list[Json]:
        """The newest deliveries of a webhook, at most 200."""
        return list(self._get(_path(routes.WEBHOOK, webhook=webhook) + f"/deliveries?limit={PAGE}")["deliveries"])

    def own_organization(self) -> str:
        """The id of the organization this key acts for."""
        return str(self.whoami()["organization"]["id"])

    # --- inside ------------------------------------------------------------------------------------------------------

    def _get(self, path: str) -> Any:
        return self._patience(lambda: self._http.json("GET", path))

    def _post(self, path: str, **body: Any) -> Any:
        return self._call("POST", path, {name: value for name, value in body.items() if value is not None})

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        return self._http.json(method, path, body)

    def _rows(self, path: str, name: str = "", **filters: str) -> Iterator[Json]:
        """All rows of a list that comes in pages: the list itself, or under `name` in an object."""
        offset = 0
        while True:
            page = self._get(f"{path}?{urlencode({**filters, 'limit': PAGE, 'offset': offset})}")
            rows = page[name] if name else page
            yield from rows
            offset += len(rows)
            if len(rows) < PAGE:
                return

    def _colleague(self, reference: str) -> str:
        """The address of a colleague, given by id or email address. Raises `not_found`."""
        org, person = self.own_organization(), reference
        if "@" in reference:
            rows = self._rows(_path(routes.ORG_MEMBERS, org=org), "members")
            person = next((row["id"] for row in rows if row["email"].casefold() == reference.casefold()), "")
            if not person:
                raise FedportalError("not_found", what="person in your organization")
        return _path(routes.ORG_MEMBER, org=org, person=person)
