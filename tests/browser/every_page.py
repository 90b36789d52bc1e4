"""Every page of the portal with an address at which somebody sees it, and what must hold for each of them.

Pages are found in Django's addresses; objects and people are those of the permission matrix, so a page that has its row
there is looked at here without being named again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.permissions import addresses, table
from tests.running import Portal

# Not made of our templates.
FOREIGN = ("api/", "sdk/", "admin/")
NOBODY, HOMELESS = "", "nia@nowhere.example"
PEOPLE = {name: f"{name}@{place}.example" for name, place in (("olga", "acme"), ("mia", "metro"), ("vera", "valley"))}
# Addresses that are no page: they lead on, or are a file.
LEAD_ON = {
    "favicon.ico": "leads to the icon",
    "sign-in/sso": "leads to the identity provider",
    "sign-in/sso/callback": "comes back from it",
    "sign-in/second-factor": "leads to sign in unless a password was just given; tests/browser/test_accounts.py",
    "sign-up/code": "as above",
    "account/code": "as above",
    "runs/new/fragment": "is a part of runs/new, which is looked at with it",
    "experiments/<str:experiment>/join": "needs another organization's offer; tests/web/test_experiments.py",
    "rollouts/<str:rollout>/progress": "is a part of the page of a rollout",
}
# What nobody in the matrix sees the way a reader does, or what is one page in another state.
MORE = {
    "sign-in": ("/sign-in", NOBODY),
    "sign-up": ("/sign-up", NOBODY),
    "password-reset": ("/password-reset", NOBODY),
    "password-reset/<str:uid>/<str:token>": ("{reset}", NOBODY),
    "invitations/<str:token>": ("/invitations/{token}", NOBODY),
    "unsubscribe/<str:token>": ("{unsubscribe}", NOBODY),
    "no such page": ("/no-such-page", "olga"),
    "no such page, not signed in": ("/no-such-page", NOBODY),
    "no such invitation": ("/invitations/nobody-wrote-this", NOBODY),
    "refused": ("/federations/{federation}/members/{member}/suspend", "mia"),
    "home of a member": ("/", "mia"),
    "home of one who is invited": ("/", "vera"),
    "home without an organization": ("/", HOMELESS),
    "a federation one is invited to": ("/federations/{federation}", "vera"),
    "devices/groups/remove": ("/devices/groups/remove?group=ward", "olga"),
    "a gate that is closed": ("/models/{kept}/versions/latest/gate", "olga"),
    "a version whose gate is closed": ("/models/{kept}/versions/latest", "olga"),
    "a run that nobody has audited": ("/runs/{plain_run}/leakage", "olga"),
    "an experiment with a model that is chosen": ("/experiments/new?model={kept}", "olga"),
    "a rollout of a model that is chosen": ("/rollouts/new?model={model}", "olga"),
    "rollouts, none found": ("/rollouts?state=paused", "olga"),
    "runs, none found": ("/runs?state=failed", "olga"),
}

POPULATE = """
import json
from django.contrib.auth.tokens import default_token_generator
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from federations.models import Device, Person
from federations.services import devices, notifications, people
from registry import tasks
from registry.models import Model
from registry.services import gates, versions
from tests.cast import PASSWORD
from tests.permissions.stage import build
from tests.training.test_audits import OWN, REPORT
from training.models import Run
from training.services import audits, runs
stage = build()
run = Run.objects.get(public_id=stage.own["run"])
for report in (REPORT, OWN):
    audits.report(stage.cast.actor("olga"), run, report)
kept = versions.initial(stage.cast.actor("olga"), Model.objects.get(public_id=stage.own["kept"]))
gates.set_policy(stage.cast.actor("olga"), kept.model, quality=0.8, drift=0.5, size=1, latency=60_000.0)
for _ in range(2):
    tasks.check_gate(stage.cast.actor("olga"), kept)
    gates.override(stage.cast.actor("olga"), kept, "A long word: Universitätsklinikumsverwaltungsgebäude")
    gates.withdraw(stage.cast.actor("olga"), kept)
devices.set_groups(stage.cast.actor("olga"), Device.objects.get(public_id=stage.own["device"]), ["ward"])
people.sign_up("nia@nowhere.example", PASSWORD, "Nia")
otto = Person.objects.get(pk=stage.cast.otto.pk)
uid = urlsafe_base64_encode(force_bytes(otto.pk))
plain = runs.start(stage.cast.actor("olga"), run.model, rounds=1).public_id
world = dict(stage.own, plain_run=plain, reset=f"/password-reset/{uid}/{default_token_generator.make_token(otto)}")
kind = next(kind for kind in notifications.KINDS.values())
link = notifications.unsubscribe_link(otto, stage.cast.acme, kind)
world["unsubscribe"] = "/unsubscribe/" + link.partition("/unsubscribe/")[2]
print("WORLD", json.dumps(world))
"""


@dataclass(frozen=True)
class Sight:
    """A page, and who looks at it: a first name, or "" for somebody who is not signed in."""

    name: str
    who: str
    route: str
    places: tuple[tuple[str, str], ...] = ()

    def address(self, world: dict[str, str]) -> str:
        """Where it is, with the world's objects."""
        if self.route.startswith(("/", "{")):
            return self.route.format(**world)
        return addresses.filled(self.route, world, dict(self.places))


def sights() -> tuple[list[Sight], list[str]]:
    """All pages, and the routes of those for which nobody is known who sees them."""
    rows = {row.route: row for row in table.ROWS if row.method == "GET" and row.page}
    found = [Sight(name, who, address) for name, (address, who) in MORE.items()]
    lost = []
    for method, route in addresses.django_addresses():
        if method != "GET" or route.startswith(FOREIGN) or route in LEAD_ON or route in MORE:
            continue
        row = rows.get(route)
        who = next((name for name in PEOPLE if row and getattr(row, name) == 200), None)
        if row and route.startswith(("account/", "team/<str:person>/transfer")):
            # the matrix has not just typed a password, a reader here has
            who = "olga"
        if row is None or who is None:
            lost.append(route)
        else:
            query = f"?{row.query.lstrip('?')}" if row.query else ""
            found.append(Sight(route or "home", who, route + query, tuple(row.places.items())))
    return found, lost


def populate(portal: Portal) -> dict[str, str]:
    """Make the people and objects of the permission matrix on a running portal; the ids of acme's world."""
    printed = portal.manage("shell", source=POPULATE)
    world: dict[str, str] = json.loads(printed.partition("WORLD ")[2].splitlines()[0])
    return world


def email_of(who: str) -> str:
    """The address with which somebody signs in."""
    return PEOPLE.get(who, who)


# --- what must hold --------------------------------------------------------------------------------------------------


def frame(page: Page) -> list[str]:
    """One heading of the first level, a title, the landmarks, and nothing wider than the window."""
    return list(
        page.evaluate(
            """() => {
              const wrong = [];
              const count = (selector) => document.querySelectorAll(selector).length;
              for (const one of ["h1", "main", "header"]) if (count(one) !== 1) wrong.push(`${count(one)} × ${one}`);
              if (!document.title.includes("fedportal") || document.title.startsWith("·")) wrong.push("title");
              const root = document.documentElement, over = root.scrollWidth - root.clientWidth;
              if (over > 0) {
                const wide = [...document.querySelectorAll("main *, header *")].filter((one) => one.checkVisibility()
                  && one.getBoundingClientRect().right > root.clientWidth + 1 && !one.closest(".table, pre"));
                wrong.push(`${over} px too wide: ${wide.slice(0, 3).map((one) => one.outerHTML.slice(0, 120))}`);
              }
              return wrong;
            }"""
        )
    )


AXE = Axe().axe_script
JUDGED = """
async (options) => (await axe.run(options)).violations
  .filter((one) => one.impact === "serious" || one.impact === "critical")
  .flatMap((one) => one.nodes.slice(0, 3).map((node) =>
    `${one.id}: ${node.html.slice(0, 160)} ${node.failureSummary.split("\\n").at(-1).trim()}`))
"""


def violations(page: Page, *, only: str = "") -> list[str]:
    """What axe-core finds serious or critical; with `only` by that one rule."""
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if only:
        options["runOnly"] = {"type": "rule", "values": [only]}
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    return list(page.evaluate(JUDGED, options))


MORE_STOPS = 40
LISTED = """
() => {
  window.wanted = [...document.querySelectorAll("a[href], button, input, select, textarea, summary")].filter((one) =>
    one.checkVisibility({ visibilityProperty: true }) && !one.disabled && one.tabIndex >= 0 && one.type !== "hidden"
    && !(one.type === "radio" && !one.checked
         && document.querySelector(`input[type=radio][name="${CSS.escape(one.name)}"]:checked`)));
  window.reached = new Set();
  window.unseen = [];
  document.addEventListener("focusin", ({ target: one }) => {
    if (one === start || window.reached.has(one)) return;  // a date has several stops of its own
    window.reached.add(one);
    const style = getComputedStyle(one);
    const drawn = one instanceof SVGElement && parseFloat(getComputedStyle(one.querySelector("rect")).strokeWidth) >= 3;
    const ringed = drawn || (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2);
    const box = one.getBoundingClientRect();
    if (!ringed || box.width < 1 || box.height < 1) window.unseen.push(one.outerHTML.slice(0, 160));
  });
  const start = document.createElement("span");  // Tab goes on from here, wherever the page put the focus
  start.tabIndex = -1;
  document.body.prepend(start);
  start.focus();
  return window.wanted.length;
}
"""
LEFT = """
() => [...window.wanted.filter((one) => !window.reached.has(one))
         .map((one) => `Tab never comes to ${one.outerHTML.slice(0, 160)}`),
       ...window.unseen.map((one) => `focus is not seen on ${one}`)]
"""


def keyboard(page: Page) -> list[str]:
    """By Tab alone: whatever one can press is reached, and the focus is seen on it."""
    for _ in range(int(page.evaluate(LISTED))):
        page.keyboard.press("Tab")
    for _ in range(MORE_STOPS):  # some have several
        if page.evaluate("window.wanted.every((one) => window.reached.has(one))"):
            break
        page.keyboard.press("Tab")
    return list(page.evaluate(LEFT))
