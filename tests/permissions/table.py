"""Who gets what at every address: the reviewed table. An address that is missing here fails `test_matrix`.

A row says what acme's people, its member metro (mia), the invited valley (vera) and portal staff get for acme's object;
rex is a stranger to it. For rival's object rex gets what olga gets for acme's, and everybody else what they get for a
missing one. Ids in addresses are found by the name of their place; `places` renames one, "member" for `org` say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from federations.models import Organization
from fedwire import routes
from tests.cast import registration
from tests.permissions.stage import Stage, World

Body = Callable[[Stage, World], dict[str, Any]]


def nothing(stage: Stage, world: World) -> dict[str, Any]:
    """An empty body."""
    return {}


@dataclass(frozen=True)
class Row:
    """One address with one method. A status of None: as for a missing object (404), or as for olga without one."""

    method: str
    route: str
    olga: int
    otto: int
    mia: int
    vera: int
    staff: int
    body: Body = nothing
    query: str = ""
    places: Mapping[str, str] = field(default_factory=dict)
    rex: int | None = None  # at an address without an object; None: as olga
    # Whether a foreign id in a later place is as good as missing; a version "1.0.0" is not an id.
    mixed: bool = True
    page: bool = False  # for people in a browser; the body is a form, and who is not signed in is sent to sign in
    # Only people with a key: a browser's session gets this instead.
    session: int | None = None

    @property
    def name(self) -> str:
        """How the row is called in a report."""
        return f"{self.method} {self.route}"


def fresh_registration(stage: Stage, world: World) -> dict[str, Any]:
    token = stage.memory.get("token", stage.tokens["olga"])
    return registration(token, "fresh-001")


def _fresh_organization(stage: Stage, world: World) -> dict[str, Any]:
    return {"org_ids": [Organization.objects.get(name="rival" if world is stage.own else "acme").public_id]}


API = "api/v1/"
_FED = API + "federations/<str:federation>"
_ORG = API + "orgs/<str:org>"
_DEV = API + "devices/<str:device>"
_WHK = API + "webhooks/<str:webhook>"
_MOD = API + "models/<str:model>"
_ROL = API + "rollouts/<str:rollout>"
_EXP = API + "experiments/<str:experiment>"
_INF = API + "inference/<str:plan>"
_VER = _MOD + "/versions/<str:version>"
_RUN = API + "training/sessions/<str:run>"


def _new_agreement(stage: Stage, world: World) -> dict[str, Any]:
    return {"title": "Study agreement", "text": "Data stay where they are."}


def _new_run(stage: Stage, world: World) -> dict[str, Any]:
    return {"model_id": world["model"], "federation_id": world["federation"], "rounds": 1}


def _new_federated(stage: Stage, world: World) -> dict[str, Any]:
    return {"name": "nightly", "base_workload_id": world["model"], "total_rounds": 1, "config": {}}


def _new_experiment(stage: Stage, world: World) -> dict[str, Any]:
    return {"model_id": world["kept"], "control_version": "1.0.0", "treatment_version": world["treated"]}


def _new_audit(stage: Stage, world: World) -> dict[str, Any]:
    guard = {"sums": "plain", "mechanism": "none", "clip": 10.0, "noise": 0.0, "devices": 1, "codec": "none"}
    figures = {"attacks": {"ratios": 120.0}, "floor": 14.0, "closest": 120.0, "share": 1.0, "told": None}
    inverted = {"case": "open", "guard": guard, "rows": 9, **figures}
    rows = {"source": "made", "count": 9}
    return {"rows": rows, "round": 1, "sdk": "0.1.0", "inversion": [inverted], "membership": []}


def _new_plan(stage: Stage, world: World) -> dict[str, Any]:
    return {"model": world["model"], "summary": "counts", "start_immediately": False}


def _new_webhook(stage: Stage, world: World) -> dict[str, Any]:
    return {"url": "https://hooks.example/fedportal", "which": "all"}


def _new_rollout(stage: Stage, world: World) -> dict[str, Any]:
    return {"model": world["model"], "version": "1.0.0", "share": "50", "wait": "", "unit": "hours"}


def _new_trial(stage: Stage, world: World) -> dict[str, Any]:
    return {"model": world["kept"], "control": "1.0.0", "treatment": world["treated"], "start": "later"}


def _reason(stage: Stage, world: World) -> dict[str, Any]:
    return {"reason": "It is urgent."}


def _page(method: str, route: str, *statuses: int, staff: int, **more: Any) -> Row:
    return Row(method, route, *statuses, staff=staff, page=True, **more)


_FEDP = "federations/<str:federation>"
_INV = "invitations/<str:invitation>"
_MEM = {"org": "member", "act": "member_act"}
_ACT = {"act": "device_act"}
_LINE = {"identifier": "ward-3", "data": "rows.csv", "target": "sick", "days": "7", "device_limit": "1"}
_WHKP = "webhooks/<str:webhook>"
_MODP = "models/<str:model>"
_GATEP = _MODP + "/versions/<str:version>/gate"
_RUNP = "runs/<str:run>"
_EXPP = "experiments/<str:experiment>"
_ROLP = "rollouts/<str:rollout>"
STEPS = (
    ("GET", "sign-in/second-factor"),
    ("POST", "sign-in/second-factor"),
    ("GET", "sign-in/sso"),
    ("GET", "sign-in/sso/callback"),
    ("GET", "sign-up/code"),
    ("POST", "sign-up/code"),
    ("GET", "account/code"),
    ("POST", "account/code"),
)
ACCOUNT = ("account", "account/confirm", "account/password", "account/second-factor", "account/sessions")
CONFIRMED = (
    "account/address",
    "account/unlink",
    "account/second-factor/on",
    "account/second-factor/off",
    "account/second-factor/codes",
)
# Forms end with a redirect, also where a service refuses in its own words; what may not be seen or done is a page.
PAGES: list[Row] = [
    # Steps of a sign-in that has not begun lead to its beginning, and home who is signed in.
    *[_page(method, route, 302, 302, 302, 302, staff=302) for method, route in STEPS],
    *[_page("GET", route, 200, 200, 200, 200, staff=200) for route in ACCOUNT],
    # Asked again who one is, first; a wrong password is told in the form.
    _page("POST", "account/confirm", 401, 401, 401, 401, staff=401),
    _page("POST", "account", 302, 302, 302, 302, staff=302, body=lambda s, w: {"name": "New"}),
    _page("POST", "account/password", 401, 401, 401, 401, staff=401),
    *[_page(method, route, 302, 302, 302, 302, staff=302) for route in CONFIRMED for method in ("GET", "POST")],
    _page("GET", "account/sessions/end-others", 200, 200, 200, 200, staff=200),
    _page("POST", "account/sessions/end-others", 302, 302, 302, 302, staff=302),
    # otto is in acme and does not see olga's sessions: for him they are not there.
    _page("POST", "account/sessions/<int:session>/end", 302, 404, 404, 404, staff=404),
    _page("GET", "organizations/new", 200, 200, 200, 200, staff=200),
    _page("POST", "organizations/new", 302, 302, 302, 302, staff=302, body=lambda s, w: {"name": "harbour-clinic"}),
    _page("POST", "sign-out", 302, 302, 302, 302, staff=302),
    _page("POST", "organization", 302, 302, 404, 404, staff=404, rex=404, body=lambda s, w: {"organization": w["org"]}),
    _page("POST", _INV + "/resend", 302, 403, 404, 404, staff=404),
    _page("GET", _INV + "/revoke", 200, 403, 404, 404, staff=404),
    _page("POST", _INV + "/revoke", 302, 403, 404, 404, staff=404),
    _page("GET", "federations", 200, 200, 200, 200, staff=200),
    _page("GET", "federations/new", 200, 403, 200, 200, staff=403),
    _page("POST", "federations/new", 302, 403, 302, 302, staff=403, body=lambda s, w: {"name": "second-circle"}),
    _page("GET", _FEDP, 200, 200, 200, 200, staff=404),
    _page("GET", _FEDP + "/activity", 200, 200, 200, 403, staff=404),
    _page("GET", _FEDP + "/settings", 200, 403, 403, 403, staff=404),
    _page("POST", _FEDP + "/settings", 302, 403, 403, 403, staff=404, body=lambda s, w: {"name": "renamed"}),
    _page("GET", _FEDP + "/dissolve", 200, 403, 403, 403, staff=404),
    # Without the federation's name the form comes back.
    _page("POST", _FEDP + "/dissolve", 400, 403, 403, 403, staff=404),
    # What is wrong with a plan is told in the form.
    _page("GET", _FEDP + "/inference", 200, 200, 200, 403, staff=404),
    _page("POST", _FEDP + "/inference", 409, 403, 403, 403, staff=404, body=_new_plan),
    _page("POST", _FEDP + "/inference/consent", 302, 403, 302, 302, staff=404, body=lambda s, w: {"summaries": "mean"}),
    _page("GET", _FEDP + "/inference/withdraw", 200, 403, 200, 200, staff=404),
    _page("POST", _FEDP + "/inference/withdraw", 302, 403, 302, 302, staff=404),
    _page("GET", "inference/<str:plan>", 200, 200, 200, 404, staff=404),
    _page("POST", "inference/<str:plan>/start", 302, 403, 403, 404, staff=404),
    _page("GET", "inference/<str:plan>/cancel", 200, 403, 403, 404, staff=404),
    _page("POST", "inference/<str:plan>/cancel", 302, 403, 403, 404, staff=404),
    _page("GET", _FEDP + "/agreements", 200, 200, 200, 200, staff=404),
    _page("GET", _FEDP + "/agreements/new", 200, 403, 403, 403, staff=404),
    _page("POST", _FEDP + "/agreements/new", 302, 403, 403, 403, staff=404, body=_new_agreement),
    _page("GET", _FEDP + "/agreements/<str:agreement>", 200, 200, 200, 200, staff=404),
    _page(
        "POST",
        _FEDP + "/agreements/<str:agreement>/accept",
        *(302, 403, 302, 302),
        staff=404,
        body=lambda s, w: {"accept_agreement": w["agreement"]},
    ),
    _page("POST", _FEDP + "/invite", 302, 403, 403, 403, staff=404, body=lambda s, w: {"whom": "new@x.example"}),
    _page("POST", _FEDP + "/join", 302, 403, 302, 302, staff=404),
    _page("POST", _FEDP + "/decline", 302, 403, 302, 302, staff=404),
    _page("GET", _FEDP + "/leave", 200, 200, 200, 200, staff=404),
    _page("POST", _FEDP + "/leave", 302, 403, 302, 302, staff=404),
    _page("GET", _FEDP + "/members/<str:org>/<str:act>", 200, 403, 403, 403, staff=404, places=_MEM),
    _page("POST", _FEDP + "/members/<str:org>/<str:act>", 302, 403, 403, 403, staff=404, places=_MEM),
    _page("GET", "devices", 200, 200, 200, 200, staff=403),
    _page("GET", "devices/new", 200, 403, 200, 200, staff=403),
    _page("POST", "devices/new", 200, 403, 200, 200, staff=403, body=lambda s, w: _LINE),
    _page("GET", "devices/new/<str:key>", 200, 404, 404, 404, staff=404),
    # Others have no such device: the form's own error.
    _page("POST", "devices/groups", 302, 403, 302, 302, staff=403, body=lambda s, w: {"device": w["device"]}),
    _page("GET", "devices/groups/names", 200, 403, 200, 200, staff=403),
    # The body names a group that nobody has.
    _page("POST", "devices/groups/names", 404, 403, 404, 404, staff=403, body=lambda s, w: {"group": "none"}),
    _page("GET", "devices/groups/remove", 404, 403, 404, 404, staff=403, query="?group=none"),
    _page("POST", "devices/groups/remove", 404, 403, 404, 404, staff=403, query="?group=none"),
    _page("GET", "devices/<str:device>", 200, 200, 404, 404, staff=404),
    _page("POST", "devices/<str:device>/groups", 302, 403, 404, 404, staff=404, body=lambda s, w: {"groups": "a, b"}),
    _page("GET", "devices/<str:device>/<str:act>", 200, 403, 404, 404, staff=404, places=_ACT, mixed=False),
    _page("POST", "devices/<str:device>/<str:act>", 302, 403, 404, 404, staff=404, places=_ACT, mixed=False),
    _page("GET", "team", 200, 200, 200, 200, staff=403),
    _page("POST", "team", 302, 403, 302, 302, staff=403, body=lambda s, w: {"email": "n@x.example", "role": "viewer"}),
    _page("POST", "team/<str:person>/role", 302, 403, 404, 404, staff=403, body=lambda s, w: {"role": "auditor"}),
    _page("GET", "team/roles", 200, 200, 200, 200, staff=403),
    _page("GET", "team/name", 200, 403, 200, 200, staff=403),
    _page("POST", "team/name", 302, 403, 302, 302, staff=403, body=lambda s, w: {"name": "newer name"}),
    _page("GET", "team/<str:person>/transfer", 302, 403, 404, 404, staff=403),
    _page("POST", "team/<str:person>/transfer", 302, 403, 404, 404, staff=403),
    _page("GET", "team/<str:person>/remove", 200, 403, 404, 404, staff=403),
    _page("POST", "team/<str:person>/remove", 302, 403, 404, 404, staff=403),
    _page("GET", "policy", 200, 200, 200, 200, staff=403),
    _page("POST", "policy", 302, 403, 302, 302, staff=403, body=lambda s, w: {"rollback_error_rate": "0.05"}),
    _page("GET", "budget", 200, 200, 200, 200, staff=403),
    _page("GET", "keys", 200, 200, 200, 200, staff=403),
    _page("POST", "keys", 200, 200, 200, 200, staff=403, body=lambda s, w: {"name": "laptop", "scopes": "*"}),
    _page("GET", "keys/<str:key>/revoke", 200, 404, 404, 404, staff=404),
    _page("POST", "keys/<str:key>/revoke", 302, 404, 404, 404, staff=404),
    _page("GET", "webhooks", 200, 403, 200, 200, staff=403),
    _page("POST", "webhooks", 302, 403, 302, 302, staff=403, body=_new_webhook),
    _page("GET", _WHKP, 200, 403, 404, 404, staff=404),
    _page("GET", _WHKP + "/<str:act>", 200, 403, 404, 404, staff=404, places={"act": "hook_act"}, mixed=False),
    _page("POST", _WHKP + "/<str:act>", 302, 403, 404, 404, staff=404, places={"act": "hook_act"}, mixed=False),
    _page("POST", _WHKP + "/deliveries/<str:delivery>", 302, 403, 404, 404, staff=404),
    _page("GET", "account/notifications", 200, 200, 200, 200, staff=200),
    _page("POST", "account/notifications", 302, 302, 302, 302, staff=302),
    _page("POST", "account/notifications/test", 302, 302, 302, 302, staff=302),
    _page("GET", "audit", 200, 403, 200, 200, staff=403),
    _page("POST", "audit", 200, 403, 200, 200, staff=403),
    _page("POST", "audit/export", 200, 403, 200, 200, staff=403, body=lambda s, w: {"form": "csv"}),
    _page("GET", "", 200, 200, 200, 200, staff=200),
    _page("POST", "first-steps/hide", 302, 302, 302, 302, staff=403, body=lambda s, w: {"list": "owner"}),
    _page("GET", "models", 200, 200, 200, 200, staff=200),
    _page("GET", "models/new", 200, 403, 200, 200, staff=403),
    _page("POST", "models/new", 302, 403, 302, 302, staff=403, body=lambda s, w: {"name": "fresh"}),
    _page("GET", _MODP, 200, 200, 200, 404, staff=404),
    _page("GET", _MODP + "/versions/<str:version>", 200, 200, 200, 404, staff=404, mixed=False),
    _page("GET", _MODP + "/gate", 200, 200, 200, 404, staff=404),
    _page("POST", _MODP + "/gate", 302, 403, 403, 404, staff=404, body=lambda s, w: {"metric": "auc", "size": "99"}),
    # The model has no limits: olga's form ends with that as a message; nothing was let through.
    _page("GET", _GATEP, 200, 200, 200, 404, staff=404, mixed=False),
    _page("POST", _GATEP, 302, 403, 403, 404, staff=404, mixed=False),
    _page("POST", _GATEP + "/override", 302, 403, 403, 404, staff=404, mixed=False, body=_reason),
    _page("GET", _GATEP + "/withdraw", 200, 403, 403, 404, staff=404, mixed=False),
    _page("POST", _GATEP + "/withdraw", 404, 403, 403, 404, staff=404, mixed=False),
    _page("POST", _MODP + "/share", 302, 403, 403, 404, staff=404, body=lambda s, w: {"federation": w["federation"]}),
    _page("GET", _MODP + "/unshare/<str:federation>", 200, 403, 403, 404, staff=404),
    _page("POST", _MODP + "/unshare/<str:federation>", 302, 403, 403, 404, staff=404),
    _page("GET", _MODP + "/compare", 200, 200, 200, 404, staff=404),
    _page("POST", _MODP + "/describe", 302, 403, 403, 404, staff=404, body=lambda s, w: {"description": "New."}),
    _page("POST", _MODP + "/versions/<str:version>/forms/<str:form>", 302, 403, 302, 404, staff=404, mixed=False),
    _page("POST", _MODP + "/initial", 302, 403, 403, 404, staff=404),
    _page("GET", _MODP + "/versions/<str:version>/send-back", 200, 403, 200, 404, staff=404, mixed=False),
    _page("POST", _MODP + "/versions/<str:version>/send-back", 302, 403, 302, 404, staff=404, mixed=False),
    _page("GET", "experiments", 200, 200, 200, 200, staff=403),
    _page("GET", "experiments/new", 200, 403, 200, 200, staff=403),
    _page("POST", "experiments/new", 302, 403, 404, 404, staff=403, body=_new_trial, rex=404),
    _page("GET", _EXPP, 200, 200, 404, 404, staff=404),
    _page("GET", _EXPP + "/join", 404, 404, 404, 404, staff=403),
    _page("POST", _EXPP + "/join", 404, 404, 404, 404, staff=403),
    _page("GET", _EXPP + "/<str:act>", 200, 403, 404, 404, staff=404, places={"act": "experiment_act"}, mixed=False),
    _page("POST", _EXPP + "/<str:act>", 302, 403, 404, 404, staff=404, places={"act": "experiment_act"}, mixed=False),
    _page("GET", "rollouts", 200, 200, 200, 200, staff=403),
    _page("GET", "rollouts/new", 200, 403, 200, 200, staff=403),
    _page("POST", "rollouts/new", 302, 403, 302, 404, staff=403, body=_new_rollout, rex=404),
    _page("GET", _ROLP, 200, 200, 404, 404, staff=404),
    _page("GET", _ROLP + "/progress", 200, 200, 404, 404, staff=404),
    _page("GET", _ROLP + "/<str:act>", 200, 403, 404, 404, staff=404, places={"act": "rollout_act"}, mixed=False),
    _page("POST", _ROLP + "/<str:act>", 302, 403, 404, 404, staff=404, places={"act": "rollout_act"}, mixed=False),
    _page("GET", "runs", 200, 200, 200, 200, staff=200),
    _page("GET", "runs/new", 200, 200, 200, 200, staff=200),
    _page("GET", "runs/new/fragment", 200, 200, 200, 200, staff=200),
    # The form comes back with the error, and its status is the error's.
    _page("POST", "runs/new", 400, 400, 400, 400, staff=400),
    _page("GET", _RUNP, 200, 200, 200, 404, staff=404),
    _page("GET", _RUNP + "/leakage", 200, 200, 200, 404, staff=404),
    _page("GET", _RUNP + "/<str:verb>", 200, 403, 403, 404, staff=404, mixed=False),
    _page("POST", _RUNP + "/<str:verb>", 302, 403, 403, 404, staff=404, mixed=False),
]

ROWS: list[Row] = [
    # People and keys
    Row("GET", API + "whoami", 200, 200, 200, 200, staff=200),
    Row("GET", _ORG + "/members", 200, 200, 404, 404, staff=404),
    Row("POST", _ORG + "/members", 201, 403, 404, 404, staff=404, body=lambda s, w: {"email": "new@x.example"}),
    Row("PATCH", _ORG + "/members/<str:person>", 200, 403, 404, 404, staff=404, body=lambda s, w: {"role": "auditor"}),
    Row("DELETE", _ORG + "/members/<str:person>", 204, 403, 404, 404, staff=404),
    Row("GET", _ORG + "/policy", 200, 200, 404, 404, staff=404),
    Row("PATCH", _ORG + "/policy", 200, 403, 404, 404, staff=404, body=lambda s, w: {"least_records": 20}),
    Row("GET", _ORG + "/budget", 200, 200, 404, 404, staff=404),
    Row("GET", _ORG + "/audit", 200, 403, 404, 404, staff=404),
    Row("GET", API + "api-keys", 200, 200, 200, 200, staff=200),
    Row("POST", API + "api-keys", 201, 201, 201, 201, staff=403, body=lambda s, w: {"name": "laptop"}),
    # otto is in acme and does not see olga's keys: for him they are not there.
    Row("POST", API + "api-keys/<str:key>/revoke", 200, 404, 404, 404, staff=404),
    # Webhooks: for whom they are not to manage they are not to see
    Row("GET", API + "webhooks", 200, 403, 200, 200, staff=200),
    Row("POST", API + "webhooks", 201, 403, 201, 201, staff=404, body=_new_webhook),
    Row("GET", _WHK, 200, 403, 404, 404, staff=404),
    Row("DELETE", _WHK, 204, 403, 404, 404, staff=404),
    Row("POST", _WHK + "/test", 202, 403, 404, 404, staff=404),
    Row("POST", _WHK + "/renew", 200, 403, 404, 404, staff=404),
    Row("POST", _WHK + "/enable", 200, 403, 404, 404, staff=404),
    Row("POST", _WHK + "/disable", 200, 403, 404, 404, staff=404),
    Row("GET", _WHK + "/deliveries", 200, 403, 404, 404, staff=404),
    Row("POST", _WHK + "/deliveries/<str:delivery>/redeliver", 202, 403, 404, 404, staff=404),
    # Federations
    Row("GET", API + "federations", 200, 200, 200, 200, staff=200),
    Row("POST", API + "federations", 201, 403, 201, 201, staff=403, body=lambda s, w: {"name": "second-circle"}),
    Row("GET", _FED, 200, 200, 200, 200, staff=404),
    Row("PATCH", _FED, 200, 403, 403, 403, staff=404, body=lambda s, w: {"description": "New."}),
    Row("DELETE", _FED, 204, 403, 403, 403, staff=404),
    Row("POST", _FED + "/invite", 201, 403, 403, 403, staff=404, body=_fresh_organization),
    Row("POST", _FED + "/join", 200, 403, 200, 200, staff=404),
    Row("POST", _FED + "/decline", 409, 403, 409, 200, staff=404),
    Row("POST", _FED + "/leave", 409, 403, 200, 409, staff=404),
    Row("GET", _FED + "/members", 200, 200, 200, 403, staff=404),
    Row("POST", _FED + "/members/<str:org>/suspend", 200, 403, 403, 403, staff=404, places={"org": "member"}),
    Row("POST", _FED + "/members/<str:org>/reinstate", 200, 403, 403, 403, staff=404, places={"org": "suspended"}),
    Row("POST", _FED + "/members/<str:org>/remove", 200, 403, 403, 403, staff=404, places={"org": "member"}),
    Row("GET", _FED + "/roots", 200, 200, 200, 403, staff=404),
    # An entry that nobody signed: who may, is told so.
    Row("POST", _FED + "/roots", 400, 403, 400, 409, staff=404),
    Row("POST", _FED + "/roots/accept", 400, 403, 403, 403, staff=404),
    Row("GET", _FED + "/agreements", 200, 200, 200, 200, staff=404),
    Row("POST", _FED + "/agreements", 201, 403, 403, 403, staff=404, body=_new_agreement),
    # Who is only invited accepts by joining.
    Row("POST", _FED + "/agreements/<str:agreement>/accept", 200, 403, 200, 409, staff=404),
    Row("GET", _FED + "/invitations", 200, 403, 403, 403, staff=404),
    Row("POST", API + "invitations/<str:invitation>/resend", 200, 403, 404, 404, staff=404),
    Row("POST", API + "invitations/<str:invitation>/revoke", 200, 403, 404, 404, staff=404),
    # Devices
    Row("GET", API + "devices", 200, 200, 200, 200, staff=200),
    Row("GET", _DEV, 200, 200, 404, 404, staff=404),
    Row("POST", _DEV + "/revoke", 200, 403, 404, 404, staff=404),
    Row("POST", _DEV + "/retire", 200, 403, 404, 404, staff=404),
    Row("POST", _DEV + "/reset", 200, 403, 404, 404, staff=404),
    Row("POST", _DEV + "/renew", 200, 403, 404, 404, staff=404),
    Row("POST", _DEV + "/quarantine", 200, 403, 404, 404, staff=404),
    Row("POST", _DEV + "/restore", 200, 403, 404, 404, staff=404, places={"device": "quarantined"}),
    Row("PUT", _DEV + "/groups", 200, 403, 404, 404, staff=404, body=lambda s, w: {"groups": ["production"]}),
    Row("PUT", _DEV + "/certificate", 200, 403, 404, 404, staff=404, body=lambda s, w: {"certificate": "PEM"}),
    # Models: metro sees what is shared with it, valley sees nothing before it has joined
    Row("GET", API + "models", 200, 200, 200, 200, staff=200),
    Row("POST", API + "models", 201, 403, 201, 201, staff=403, body=lambda s, w: {"name": "fresh"}),
    Row("GET", _MOD, 200, 200, 200, 404, staff=404),
    Row("PATCH", _MOD, 200, 403, 403, 404, staff=404, body=lambda s, w: {"description": "New."}),
    Row("POST", _MOD + "/uploads", 201, 403, 403, 404, staff=404, body=lambda s, w: {"size": 99, "sha256": "1" * 64}),
    Row("GET", _MOD + "/versions", 200, 200, 200, 404, staff=404),
    Row("POST", _MOD + "/versions", 201, 403, 403, 404, staff=404, body=lambda s, w: {"initial": True}),
    Row("GET", _VER, 200, 200, 200, 404, staff=404, mixed=False),
    # What versions must pass is the business of who owns the model; this one has no limits, so nothing is judged
    Row("GET", _MOD + "/gate", 200, 200, 200, 404, staff=404),
    Row("PUT", _MOD + "/gate", 200, 403, 403, 404, staff=404, body=lambda s, w: {"size": 99}),
    Row("GET", _VER + "/gate", 200, 200, 200, 404, staff=404, mixed=False),
    Row("POST", _VER + "/gate", 409, 403, 403, 404, staff=404, mixed=False),
    Row("POST", _VER + "/gate/override", 409, 403, 403, 404, staff=404, mixed=False, body=lambda s, w: {"reason": "x"}),
    Row("POST", _VER + "/gate/override/withdraw", 404, 403, 403, 404, staff=404, mixed=False),
    Row("GET", _VER + "/formats", 200, 200, 200, 404, staff=404, mixed=False),
    Row("GET", _VER + "/download-url", 200, 403, 200, 404, staff=404, mixed=False),
    # Rollouts go to one's own devices: metro makes its own of the model that it sees, and does not see acme's
    Row("GET", _MOD + "/rollouts", 200, 200, 200, 404, staff=404),
    Row("GET", _MOD + "/rollouts/active", 200, 200, 200, 404, staff=404),
    Row("POST", _MOD + "/rollouts", 201, 403, 201, 404, staff=404, body=lambda s, w: {"rollout_percentage": 50}),
    Row("POST", _MOD + "/rollback", 201, 403, 201, 404, staff=404, body=lambda s, w: {"version": "1.0.0"}),
    Row("GET", API + "rollouts", 200, 200, 200, 200, staff=200),
    Row("GET", _ROL, 200, 200, 404, 404, staff=404),
    *[Row("POST", f"{_ROL}/{act}", 200, 403, 404, 404, staff=404) for act in ("advance", "pause", "complete")],
    Row("POST", _ROL + "/resume", 409, 403, 404, 404, staff=404),
    Row("POST", _ROL + "/set", 200, 403, 404, 404, staff=404, body=lambda s, w: {"rollout_percentage": 50}),
    Row("POST", _ROL + "/rollback", 200, 403, 404, 404, staff=404),
    # Experiments are on one's own devices, too
    Row("GET", API + "experiments", 200, 200, 200, 200, staff=200),
    Row("POST", API + "experiments", 201, 403, 404, 404, staff=404, body=_new_experiment, rex=404),
    Row("GET", API + "experiments/offered", 200, 200, 200, 200, staff=200),
    # acme's own is not offered to acme, and this one to nobody
    Row("POST", _EXP + "/join", 404, 404, 404, 404, staff=404),
    Row("GET", _EXP, 200, 200, 404, 404, staff=404),
    Row("GET", _EXP + "/results", 200, 200, 404, 404, staff=404),
    # Nothing was started that could be promoted.
    Row("POST", _EXP + "/start", 200, 403, 404, 404, staff=404),
    Row("POST", _EXP + "/promote", 409, 403, 404, 404, staff=404, body=lambda s, w: {"arm": "control"}),
    Row("POST", _EXP + "/stop", 200, 403, 404, 404, staff=404),
    # Members see plans; who is only invited does not, and may not consent yet. A plan needs more than one organization.
    Row("GET", _FED + "/inference", 200, 200, 200, 403, staff=404),
    Row("POST", _FED + "/inference", 201, 403, 403, 403, staff=404, body=_new_plan),
    Row("GET", _FED + "/inference/consent", 200, 200, 200, 200, staff=404),
    Row("PUT", _FED + "/inference/consent", 200, 403, 200, 409, staff=404),
    Row("DELETE", _FED + "/inference/consent", 200, 403, 200, 200, staff=404),
    Row("GET", _INF, 200, 200, 200, 404, staff=404),
    Row("POST", _INF + "/start", 409, 403, 403, 404, staff=404),
    Row("POST", _INF + "/cancel", 200, 403, 403, 404, staff=404),
    Row("GET", _FED + "/models", 200, 200, 200, 200, staff=404),
    # The body names a model that is not shared: metro and valley do not see it.
    Row("POST", _FED + "/models", 201, 403, 404, 404, staff=404, body=lambda s, w: {"model_id": w["kept"]}),
    Row("DELETE", _FED + "/models/<str:model>", 204, 403, 403, 404, staff=404),
    # Runs: an active member sees them; rex, who sees no model of acme, cannot start one with it
    Row("GET", API + "training/strategies", 200, 200, 200, 200, staff=200),
    Row("GET", API + "training/sessions", 200, 200, 200, 200, staff=200),
    Row("POST", API + "training/sessions", 201, 403, 403, 404, staff=404, body=_new_run, rex=404),
    Row("POST", API + "training/sessions/preview", 200, 403, 403, 404, staff=404, body=_new_run, rex=404),
    Row("GET", _RUN, 200, 200, 200, 404, staff=404),
    Row("GET", _RUN + "/snapshot", 200, 200, 200, 404, staff=404),
    Row("GET", _RUN + "/label", 200, 200, 200, 404, staff=404),
    Row("GET", _RUN + "/rounds", 200, 200, 200, 404, staff=404),
    Row("GET", _RUN + "/events", 200, 200, 200, 404, staff=404),
    Row("GET", _RUN + "/leakage", 200, 200, 200, 404, staff=404),
    Row("POST", _RUN + "/leakage", 201, 403, 201, 404, staff=404, body=_new_audit),
    Row("GET", _RUN + "/held", 200, 403, 200, 404, staff=404),
    Row("POST", _RUN + "/pause", 200, 403, 403, 404, staff=404),
    Row("POST", _RUN + "/resume", 409, 403, 403, 404, staff=404),
    Row("POST", _RUN + "/schedule", 200, 403, 403, 404, staff=404, body=lambda s, w: {"schedule": "asynchronous"}),
    Row("POST", _RUN + "/stop", 200, 403, 403, 404, staff=404),
    # Nobody has measured a round of this run yet.
    Row("POST", _RUN + "/publish-best", 409, 403, 403, 404, staff=404),
    Row("GET", API + "training/<str:model>/status", 200, 200, 200, 404, staff=404),
    Row("POST", _RUN + "/keep", 409, 403, 403, 404, staff=404),
    Row("POST", API + "training/<str:model>/stop", 200, 403, 403, 404, staff=404),
    # The same runs in the vocabulary of other clients
    Row("GET", API + "federated/sessions", 200, 200, 200, 200, staff=200),
    Row("POST", API + "federated/sessions", 201, 403, 403, 404, staff=404, body=_new_federated, rex=404),
    Row("GET", API + "federated/sessions/<str:run>", 200, 200, 200, 404, staff=404),
    *PAGES,
]

# Registration takes a key and no session, and its signature names that key; see test_registration_needs_a_key.
REGISTER = API + "devices/register"

# The device's own addresses: method, route → what the object's own device gets. All other keys of devices get what they
# would get for a missing object, API keys and sessions 401.
DEVICE_ROWS: dict[tuple[str, str], int] = {
    ("POST", _DEV + "/heartbeat"): 200,
    ("POST", _DEV + "/health"): 400,  # it reports nothing
    ("GET", API + "device/runs/<str:run>"): 200,  # a run it had a part in
}

# Answered in front of Django (`fedportal.door`), asked through what the floors registered there. At a device's
# address: what the object's own device gets; at a person's: what olga, otto, mia and vera get.
DOOR_ROWS: dict[tuple[str, str], int | tuple[int, int, int, int] | None] = {
    ("GET", routes.TASK_NEXT): 200,
    ("POST", routes.TASK_ANSWER): 409,  # its upload has not arrived
    ("POST", routes.TASK_DECLINE): 200,
    ("POST", routes.DEVICE_ROTATE): 200,
    ("PUT", routes.TASK_UPDATE): 200,
    ("GET", routes.TASK_MODEL): 200,
    ("GET", routes.TASK_STATE): 200,
    # An upload is its person's alone.
    ("PUT", routes.UPLOAD): (200, 404, 404, 404),
    ("GET", routes.MODEL_DOWNLOAD): (200, 403, 200, 404),
    ("GET", routes.MODEL_FILE): None,
    ("GET", routes.SESSION_HELD_FILE): (200, 403, 200, 404),
}


@dataclass(frozen=True)
class Socket:
    """A socket: who of acme's, metro's and valley's people hear `first` as the first message about acme's object."""

    who: tuple[str, ...]
    first: str
    places: Mapping[str, str] = field(default_factory=dict)


# A device's key opens none.
SOCKET_ROWS: dict[str, Socket] = {
    "ws/runs/<str:run_id>": Socket(("olga", "otto", "mia"), "snapshot", {"run_id": "run"}),
}

# For everybody, and why.
PUBLIC: dict[str, str] = {
    "api/schema": "the description of the API holds no tenant's data",
    "api/docs": "as the schema",
    "favicon.ico": "an icon; it leads to the static file",
    "sdk/": "the SDK is for everybody",
    "sdk/<str:name>": "as its index",
    "sign-in": "where everybody begins",
    "sign-up": "as sign-in",
    "password-reset": "as sign-in; the answer is the same whoever exists",
    "password-reset/<str:uid>/<str:token>": "the link is the secret; tests/federations/test_people.py",
    "unsubscribe/<str:token>": "the link is the secret; tests/federations/test_notifications.py",
    "invitations/<str:token>": "the link is the secret; tests/federations/test_invitations.py",
}
# Only for portal staff; every address below it sends others to its own sign-in.
STAFF_ONLY = "admin/"
