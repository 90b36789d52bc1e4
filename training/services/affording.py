"""Whether a run can go on without the organizations whose privacy budget is not enough for another round."""

from __future__ import annotations

from federations.models import Organization
from training.models import Run
from training.services import budgets, cohorts, trust
from training.wording import listed


def why_over(run: Run) -> str:
    """The sentence that says why the run ends after a round that failed; "" while others could be enough.

    Counted is every device that may take part, whether it is there or not: those may come, a budget comes back only
    when its organization raises it, for which the round that failed was the time.
    """
    exhausted = budgets.exhausted(run)
    if not exhausted:
        return ""
    names = Organization.objects.filter(pk__in=list(exhausted)).order_by("name").values_list("name", flat=True)
    of = f"The privacy budget of {listed(list(names))} is not enough for another round"
    if trust.organization_of(run) in exhausted:
        return f"{of}, and the run needs that organization's answers."
    others = (
        cohorts.of_members(run).exclude(organization__in=list(exhausted)).order_by().values("pk").distinct().count()
    )
    if others >= run.min_participants:
        return ""
    have = f"{others or 'no'} device{'' if others == 1 else 's'}"
    return f"{of}, and the others have {have} where a round needs {run.min_participants}."
