"""Two acts on one federation, the second begun while the first stands right before a grant it decided on.

Part of `tests.federations.racing`, which runs them against a real database. Each returns who holds what afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from unittest import mock

from django.db import connection
from django.db.models import Model as Row

from federations import permissions
from federations.models import Federation, Organization
from federations.services import federations
from registry.models import Model
from registry.services import models, versions
from tests.cast import Cast
from training.models import Run
from training.services import runs

# How long the first act stands still; a second one that has to wait for it goes on afterwards.
PAUSE = 1.0
LOGISTIC = {"kind": "logistic", "inputs": 3, "classes": 2}


def overtake(
    first: Callable[[], object], second: Callable[[], object], *, grant: tuple[type[Row], Organization]
) -> list[str]:
    """Run `second` while `first` is about to write such a grant: on what, and of whom. The errors of both."""
    reached = threading.Event()
    errors: list[str] = []
    settle = permissions.settle

    def halting(obj: Row, organization: Organization, relation: str | None) -> None:
        this = isinstance(obj, grant[0]) and organization == grant[1]
        if this and threading.current_thread().name == "first" and not reached.is_set():
            reached.set()
            overtaker.join(PAUSE)
        settle(obj, organization, relation)

    def run(act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}"[:200])
        finally:
            connection.close()

    def run_second() -> None:
        reached.wait(30)
        run(second)

    overtaken = threading.Thread(target=run, args=(first,), name="first")
    overtaker = threading.Thread(target=run_second, name="second")
    with mock.patch.object(permissions, "settle", halting):
        overtaker.start()
        overtaken.start()
        overtaken.join()
        reached.set()
        overtaker.join()
    return errors


def holds(obj: Row, organization: Organization) -> bool:
    """Whether any group of the organization holds a grant on `obj`."""
    return any(name.startswith(f"{organization.public_id}:") for name in permissions.grants(obj))


def removed_during_share(cast: Cast) -> list[object]:
    """Metro is removed while a model is shared with it."""
    model = models.create(cast.actor("olga"), name="shared while metro goes")
    federation = _with_metro(cast, "removed during share")
    errors = overtake(
        lambda: models.share(cast.actor("olga"), model, federation),
        lambda: federations.remove(cast.actor("olga"), _again(federation), cast.metro),
        grant=(Model, cast.metro),
    )
    return [errors, holds(model, cast.metro)]


def joined_during_share(cast: Cast) -> list[object]:
    """Valley joins while a model is shared with metro."""
    model = models.create(cast.actor("olga"), name="shared while valley comes")
    federation = _with_metro(cast, "joined during share")
    federations.invite(cast.actor("olga"), federation, org_ids=[cast.valley.public_id])
    errors = overtake(
        lambda: models.share(cast.actor("olga"), model, federation),
        lambda: federations.join(cast.actor("vera"), _again(federation)),
        grant=(Model, cast.valley),
    )
    return [errors, holds(model, cast.valley)]


def left_during_start(cast: Cast) -> list[object]:
    """Metro leaves while a run starts."""
    model = models.create(cast.actor("olga"), name="trained while metro goes", architecture=LOGISTIC)
    versions.initial(cast.actor("olga"), model)
    federation = _with_metro(cast, "left during start")
    models.share(cast.actor("olga"), model, federation)
    errors = overtake(
        lambda: runs.start(cast.actor("olga"), model, federation=federation, rounds=1, config={"standardise": False}),
        lambda: federations.leave(cast.actor("mia"), _again(federation)),
        grant=(Run, cast.metro),
    )
    return [errors, holds(Run.objects.get(federation=federation), cast.metro)]


def left_during_change(cast: Cast) -> list[object]:
    """Metro leaves while members are allowed to start runs."""
    federation = _with_metro(cast, "left during change")
    errors = overtake(
        lambda: federations.change(cast.actor("olga"), federation, members_may_start_runs=True),
        lambda: federations.leave(cast.actor("mia"), _again(federation)),
        grant=(Federation, cast.metro),
    )
    return [errors, holds(federation, cast.metro)]


def removed_from_two(cast: Cast) -> list[object]:
    """Metro is removed from both federations through which it sees a model."""
    model = models.create(cast.actor("olga"), name="shared twice")
    one, two = _with_metro(cast, "first of two"), _with_metro(cast, "second of two")
    for federation in (one, two):
        models.share(cast.actor("olga"), model, federation)
    errors = overtake(
        lambda: federations.remove(cast.actor("olga"), one, cast.metro),
        lambda: federations.remove(cast.actor("olga"), two, cast.metro),
        grant=(Model, cast.metro),
    )
    return [errors, holds(model, cast.metro)]


def refused_after_leaving(cast: Cast) -> list[object]:
    """Metro shares a model of its own while the owner, who began first, removes it."""
    model = models.create(cast.actor("mia"), name="a model of metro")
    federation = _with_metro(cast, "refused after leaving")
    errors = overtake(
        lambda: federations.remove(cast.actor("olga"), federation, cast.metro),
        lambda: models.share(cast.actor("mia"), model, _again(federation)),
        grant=(Federation, cast.metro),
    )
    return [[error.partition(":")[0] for error in errors], holds(model, cast.acme)]


def _with_metro(cast: Cast, name: str) -> Federation:
    """A further federation of acme in which metro is active."""
    federation = federations.found(cast.actor("olga"), name=name)
    federations.invite(cast.actor("olga"), federation, org_ids=[cast.metro.public_id])
    federations.join(cast.actor("mia"), federation)
    return _again(federation)


def _again(federation: Federation) -> Federation:
    """The federation as another request reads it."""
    return Federation.objects.get(pk=federation.pk)


OVERTAKINGS = (
    removed_during_share,
    joined_during_share,
    left_during_start,
    left_during_change,
    removed_from_two,
    refused_after_leaving,
)
