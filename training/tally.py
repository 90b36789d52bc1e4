"""How the parts of a round stand, counted by the database: a round may have ten thousand devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db.models import Case, CharField, Count, F, IntegerField, Q, QuerySet, Value, When

from fedwire.states import AssignmentState, word
from training import wording
from training.models import Assignment
from training.services.plan import Standing

MOST_GROUPS = 50
# The words of cards, those first that somebody should look at.
WORDS = ("refused", "late", "dropped", "declined", "training", "waiting", "called off", "not needed", "sent")
WORKING = ("training", "waiting")
TROUBLE = ("refused", "late", "dropped", "declined")


class Row(NamedTuple):
    """So many parts of an organization have this state and are called so."""

    organization_pk: int
    organization: str
    state: str
    word: str
    parts: int


@dataclass(frozen=True)
class Tally:
    """The parts of a round, counted."""

    rows: Sequence[Row]

    @property
    def total(self) -> int:
        return sum(row.parts for row in self.rows)

    @property
    def standing(self) -> Standing:
        """The same as the rounds' services know it."""
        parts: dict[int, Counter[str]] = {}
        for row in self.rows:
            parts.setdefault(row.organization_pk, Counter())[row.state] += row.parts
        return Standing(parts)

    def words(self) -> dict[str, int]:
        """Word → how many parts are called so, in the order of WORDS."""
        counts: Counter[str] = Counter()
        for row in self.rows:
            counts[row.word] += row.parts
        return {name: counts[name] for name in WORDS if counts[name]}

    def groups(self) -> list[dict[str, Any]]:
        """How the devices of each organization stand: those with trouble first, at most MOST_GROUPS."""
        found: dict[str, dict[str, Any]] = {}
        for row in self.rows:
            empty = {"name": row.organization, "devices": 0, "sent": 0, "working": 0, "trouble": 0}
            group = found.setdefault(row.organization, empty)
            group["devices"] += row.parts
            group["sent"] += row.parts * (row.word == "sent")
            group["working"] += row.parts * (row.word in WORKING)
            group["trouble"] += row.parts * (row.word in TROUBLE)
        return sorted(found.values(), key=lambda group: (-group["trouble"], group["name"]))[:MOST_GROUPS]

    def as_json(self) -> dict[str, Any]:
        """The tally as pages get it."""
        return {"total": self.total, "words": self.words(), "groups": self.groups()}


def of(shown: QuerySet[Assignment] | None, *, called_off: bool = False) -> Tally:
    """The tally of these parts of a round (None: there is none); `called_off`: the round was. One query."""
    if shown is None:
        return Tally(())
    parts = worded(shown, called_off=called_off).order_by()
    columns = ("organization_id", "organization__name", "state", "word")
    return Tally([Row(*row) for row in parts.values_list(*columns).annotate(count=Count("pk"))])


def worded(parts: QuerySet[Assignment], *, called_off: bool) -> QuerySet[Assignment, Any]:
    """The parts with the `word` that their cards show, the same as `wording.word_of`."""
    expired = Q(state=AssignmentState.EXPIRED)
    excused = expired if called_off else expired & Q(reason=wording.NOT_NEEDED)
    name = Case(
        When(excused, then=Value(wording.CALLED_OFF if called_off else wording.UNNEEDED)),
        When(refusal__isnull=False, state__in=wording.UNSETTLED, then=Value(wording.REFUSED)),
        *[When(state=state, then=Value(word("assignment", state))) for state in AssignmentState],
        output_field=CharField(),
    )
    return parts.annotate(word=name)


def chosen(shown: QuerySet[Assignment], show: str, find: str = "", *, called_off: bool) -> QuerySet[Assignment, Any]:
    """Those of a round's parts that are called `show`, and whose device or organization has `find` in its name, in
    whatever case; "" for all. Trouble comes first."""
    parts = worded(shown, called_off=called_off)
    if show:
        parts = parts.filter(word=show)
    if find:
        parts = parts.filter(Q(device__identifier__icontains=find) | Q(organization__name__icontains=find))
    place = Case(*[When(word=name, then=Value(at)) for at, name in enumerate(WORDS)], output_field=IntegerField())
    return parts.order_by(place, F("organization__name"), F("device__identifier"))
