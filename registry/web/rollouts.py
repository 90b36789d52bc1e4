"""Rollouts: the list, one with its progress as it happens, and what one may do with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations import permissions
from federations.permissions import Actor
from federations.web.page import confirm, may, one_page, own_organization, page
from fedportal.common import clock
from fedwire.errors import FedportalError
from fedwire.states import RolloutState, word
from registry import deliveries, selectors
from registry.delivery.placement import wanted
from registry.models import Rollout
from registry.models.rollouts import ALIVE
from registry.services import gatekeeping, rollouts, underway
from registry.services.underway import ACTION
from registry.web import outlook
from registry.web.health_charts import health_charts
from registry.web.outlook import percent
from registry.web.rolloutform import share_in
from registry.wording import counted

FILTERS = ("text", "state")
# A few devices on a page: it comes anew every few seconds.
MOST_DEVICES = 15


@dataclass(frozen=True)
class Act:
    """Something one does with a rollout: the service, what will happen, and what is said afterwards.

    The service gets the share that was asked for and the reason that was given, for those that want one.
    """

    service: Callable[[Actor, Rollout, int, str], Rollout]
    title: str
    button: str
    consequence: str
    done: str


ACTS = {
    "advance": Act(
        lambda actor, one, share, reason: rollouts.advance(actor, one),
        "{widen} to {share}?",
        "{widen}",
        "{devices} of {fleet} then get version {version}. The share only grows; a rollback takes the version back.",
        "Version {version} goes to {share} of the devices.",
    ),
    "set": Act(
        lambda actor, one, share, reason: rollouts.set_share(actor, one, share),
        "Widen to {share}?",
        "Widen",
        "{devices} of {fleet} then get version {version}. The share only grows; a rollback takes the version back.",
        "Version {version} goes to {share} of the devices.",
    ),
    "pause": Act(
        lambda actor, one, share, reason: rollouts.pause(actor, one),
        "Pause the rollout of {version}?",
        "Pause",
        "No further device gets it, and what devices have not fetched yet is taken back. Devices that have it keep it, "
        "and it still goes back by itself when it is unwell, if it is to.",
        "The rollout is paused.",
    ),
    "resume": Act(
        lambda actor, one, share, reason: rollouts.resume(actor, one),
        "Resume the rollout of {version}?",
        "Resume",
        "It goes on at {now}. The time of its present step begins anew.",
        "The rollout goes on.",
    ),
    "complete": Act(
        lambda actor, one, share, reason: rollouts.complete(actor, one),
        "Complete the rollout of {version} at {now}?",
        "Complete",
        "It grows no more: the devices that have the version keep it, the others keep what they have. Then the next "
        "version may go out.",
        "The rollout is complete.",
    ),
    "rollback": Act(
        lambda actor, one, share, reason: rollouts.roll_back(actor, one, reason),
        "Roll back {version}?",
        "Roll back",
        "Every device of this rollout returns to what it had before{before}, also those that have not fetched it yet. "
        "It cannot be taken up again; a new rollout can be begun.",
        "The devices return to what they had before.",
    ),
}


@page()
def index(request: Any) -> HttpResponse:
    """The rollouts to the devices of one's organization, filtered."""
    organization = own_organization(request)
    asked = {name: request.GET.get(name, "").strip() for name in FILTERS}
    rows = one_page(request, deliveries.listed(request.actor, **asked))
    rows.object_list = deliveries.with_reach(rows.object_list)
    for row in rows:
        row.percent, row.word = percent(row.share), word("rollout", row.state)
    kept = {name: value for name, value in asked.items() if value}
    context = {
        "rows": rows,
        "asked": asked,
        "filtered": bool(kept),
        "query": urlencode(kept) + "&" if kept else "",
        "states": [(state, word("rollout", state)) for state in RolloutState],
        "may_deploy": may(request, ACTION, organization),
    }
    return render(request, "registry/rollouts.html", context)


@page()
def one(request: Any, rollout: str) -> HttpResponse:
    """A rollout: how far it is, how the version fares, what happens next, and what one may do."""
    found = selectors.find_rollout(request.actor, rollout)
    return render(request, "registry/rollout.html", _shown(request, found))


@page()
def progress(request: Any, rollout: str) -> HttpResponse:
    """What changes on a rollout's page, for `static/js/rollout.js`."""
    found = selectors.find_rollout(request.actor, rollout)
    return render(request, "registry/parts/rollout.html", _shown(request, found))


@page("GET", "POST")
def act(request: Any, rollout: str, act: str) -> HttpResponse:
    """Advance, set, pause, resume, complete or roll back; GET asks whether one means it."""
    found = selectors.find_rollout(request.actor, rollout)
    if act not in ACTS:
        raise FedportalError("not_found", what="page")
    permissions.require(request.actor, ACTION, found.organization)
    back = f"/rollouts/{found.public_id}"
    share = share_in(request.GET.get("percentage", ""), "percentage") if act == "set" else rollouts.next_share(found)
    if act == "advance" and found.state == RolloutState.PENDING:
        share = found.share
    words = _words(found, share)
    if request.method == "GET":
        if act not in deliveries.acts(found, deliveries.is_newest(found), deliveries.barred(found)):
            messages.info(request, f"The rollout is {words['state']}: this cannot be done with it now.")
            return redirect(back)
        said = {name: getattr(ACTS[act], name).format(**words) for name in ("title", "consequence", "button")}
        if act == "rollback":
            return render(request, "registry/rollback.html", {**said, "back": back})
        return confirm(request, **said, back=back)
    ACTS[act].service(request.actor, found, share, request.POST.get("reason", "").strip())
    messages.success(request, ACTS[act].done.format(**words))
    return redirect(back)


@page("GET", "POST")
def send_back(request: Any, model: str, version: str) -> HttpResponse:
    """Send all devices to this version, as a rollback."""
    found = selectors.find_model(request.actor, model)
    target = selectors.find_version(found, version)
    organization = own_organization(request)
    permissions.require(request.actor, ACTION, organization)
    if request.method == "GET":
        return confirm(
            request,
            title=f"Send all devices to {found.name} {target.version}?",
            consequence=f"Every device of {organization.name} gets this version at once, whatever it has now. What is "
            "on its way ends as rolled back.",
            button="Send them",
            back=f"/models/{found.public_id}/versions/{target.version}",
        )
    made = rollouts.roll_back_to(request.actor, target)
    messages.success(request, f"All devices go to version {target.version}. This page shows it as it happens.")
    return redirect(f"/rollouts/{made.public_id}")


def _shown(request: Any, found: Rollout) -> dict[str, Any]:
    """What the page of a rollout and its live part show."""
    newest, barred = deliveries.is_newest(found), deliveries.barred(found)
    seen, reach, happened = deliveries.verdict(found), deliveries.reach(found), deliveries.events(found)
    kind = request.GET.get("devices", "")
    kind = kind if kind in deliveries.DEVICES else ""
    rows = one_page(request, deliveries.members(found, kind), MOST_DEVICES)
    for row in rows:
        row.word = _word_of(found, row.state)
    may_deploy = may(request, ACTION, found.organization)
    further = rollouts.next_share(found)
    return {
        "rollout": found,
        "word": word("rollout", found.state),
        "gate": gatekeeping.standing(found.version).reason if found.state in ALIVE else "",
        "percent": percent(found.share),
        "reach": reach,
        "parts": _bar(reach, found.share),
        "next": outlook.next_of(found, seen, reach, newest, barred),
        "acts": deliveries.acts(found, newest, barred) if may_deploy else set(),
        "may_deploy": may_deploy,
        "further": percent(further),
        "least_share": f"{(found.share + 1) / 100:g}",
        "schedule": outlook.schedule(found, deliveries.reached(found, happened)),
        "charts": health_charts(found, deliveries.course(found), clock.now()),
        "health": outlook.health_words(seen),
        "limits": outlook.limits(found),
        "window": outlook.lasting(found.window_seconds),
        "rows": rows,
        "kind": kind,
        "query": f"devices={kind}&" if kind else "",
        "events": [outlook.told(event) for event in happened],
        "decided_in": outlook.took(found.crossed_at, found.rolled_back_at),
        "restored_in": outlook.took(found.rolled_back_at, found.restored_at),
        "over": found.state == RolloutState.ROLLED_BACK and found.restored_at is not None,
        "going_back": found.state == RolloutState.ROLLED_BACK,
    }


def _words(found: Rollout, share: int) -> dict[str, str]:
    """What the questions and answers about an act name."""
    fleet = underway.fleet(found).count()
    return {
        "version": found.version.version,
        "share": percent(share),
        "now": percent(found.share),
        "devices": f"{wanted(fleet, share):,}",
        "fleet": counted(fleet, "device"),
        "before": f" ({found.previous_version.version}, where it had it)" if found.previous_version else "",
        "widen": "Begin with" if found.state == RolloutState.PENDING else "Widen",
        "state": word("rollout", found.state),
    }


def _word_of(found: Rollout, state: str) -> str:
    """What became of a device, as people read it."""
    if found.state == RolloutState.ROLLED_BACK and state == "installed":
        return "back"
    return word("installation", state)


def _bar(reach: deliveries.Reach, share: int) -> dict[str, float]:
    """The bar of the devices, in hundredths of its length: how far it is meant to go, and what there is."""
    fleet = max(reach.fleet, reach.joined, 1)
    done, waiting, failed = (round(100 * part / fleet, 2) for part in (reach.done, reach.waiting, reach.failed))
    return {
        "meant": round(share / 100, 2),
        "done": done,
        "waiting": waiting,
        "waiting_at": done,
        "failed": failed,
        "failed_at": round(done + waiting, 2),
    }
