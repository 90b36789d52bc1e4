"""A large round is combined in parts, by whichever workers have time: rows with leases, results in files they share.

The worker that claimed the round cuts it into shards, rings for each of them, takes part itself, and joins what came of
it. A bell is worth one shard, so that helpers look after other jobs in between. A shard whose worker was killed is free
again when its lease is over, and taken by the claimant or by a worker for whom the sweeper rings; a claimant that was
killed is followed by another, which finds the shards that are done. What comes of a shard depends on nothing but the
round, so of two workers that make the same one the first to finish counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.db.models import Count, Q, QuerySet

from fedportal.common import blobs, clock, faults
from fedportal.common.transactions import after_commit, unit
from fedwire.states import RoundState
from training import progress, wording
from training.aggregation import sharding
from training.aggregation.assembly import Digests, Recipe
from training.aggregation.layout import Range
from training.aggregation.sharding import Part
from training.models import Round, Shard
from training.models.shards import ShardState
from training.services import lease

# How many parts a round has: so many, or more where each would have to read more than so many numbers.
LEAST_PARTS, MOST_PARTS = 16, 256
NUMBERS_PER_PART = 250_000_000
# So often is told how far it has come.
MOST_TOLD = 16
# Seconds between two looks for a shard when others make the last ones.
PAUSE = 0.05

Bell = Callable[[int], None]
_bells: list[Bell] = []


def listen(bell: Bell) -> None:
    """Have `bell` called with the primary key of a round when a worker may make a part of it."""
    if bell not in _bells:
        _bells.append(bell)


def suits(recipe: Recipe) -> bool:
    """Whether so much is to be read that a model is made in parts."""
    least = settings.FEDPORTAL_SHARD_FROM
    return 0 < least <= _work(recipe) and len(_ranges(recipe)) > 1


def combined(closing: Round, recipe: Recipe, out: Path, alive: Callable[[], None]) -> Digests:
    """`assembly.write_model` for a claimed round, together with others; `alive` may raise to end the work.

    Raises what it raises.
    """
    recipe.check()
    looked = _made(closing, recipe, True, alive) if recipe.looks else []
    written = _made(closing, recipe, False, alive, looked)
    return sharding.join(recipe, written, out, settings.FEDPORTAL_AGGREGATION_THREADS, alive)


def make_one(round_pk: int, recipe_of: Callable[[Round], Recipe]) -> None:
    """Make one part of the round, if one is free. Raises what `assembly.write_model` raises."""
    mine = _take(Shard.objects.filter(round_id=round_pk, round__state=RoundState.AGGREGATING))
    if mine is not None:
        closing = Round.objects.select_related("run", "run__base_version").get(pk=round_pk)
        recipe = recipe_of(closing)
        looked = _parts(_of(closing, True)) if recipe.looks and not mine.first else []
        _make(closing, recipe, mine, looked, lambda: None)


def free() -> list[int]:
    """The rounds of which a part waits for a worker, or was taken by one that has gone silent."""
    found = Shard.objects.filter(_is_free(), round__state=RoundState.AGGREGATING)
    return list(found.order_by("round_id").values_list("round_id", flat=True).distinct())


def void_claims() -> None:
    """Where one process is the whole portal, claims from before its start are nobody's."""
    Shard.objects.filter(state=ShardState.TAKEN).update(state=ShardState.WAITING)


def tidy() -> None:
    """Forget the parts of rounds that are over, with their files."""
    _forget(Shard.objects.exclude(round__state=RoundState.AGGREGATING))


def forget(closing: Round) -> None:
    """Forget all parts of the round: it is made of other updates now. Call it inside a unit."""
    _forget(Shard.objects.filter(round=closing))


def _forget(rows: QuerySet[Shard]) -> None:
    for pk, part in list(rows.values_list("pk", "part")):
        if part:
            blobs.scratch(part).unlink(missing_ok=True)
        Shard.objects.filter(pk=pk).delete()


def word_of(round_pk: int) -> str:
    """How far a round that is aggregating has come, in words; "" when it is not made in parts."""
    done, parts = _counted(round_pk)
    return wording.parts(done, parts) if parts else ""


def _made(
    closing: Round, recipe: Recipe, first: bool, alive: Callable[[], None], looked: list[Part] | None = None
) -> list[Part]:
    """All parts of a pass, made by whoever was there."""
    _cut(closing, recipe, first)
    rows = _of(closing, first)
    while rows.exclude(state=ShardState.DONE).exists():
        alive()
        mine = _take(rows)
        if mine is not None:
            _make(closing, recipe, mine, looked or [], alive)
        else:
            time.sleep(PAUSE)
    return _parts(rows)


def _cut(closing: Round, recipe: Recipe, first: bool) -> None:
    """Write down the shards of a pass, unless that was done before, and ring for those that are not done."""
    rows = _of(closing, first)
    with unit():
        wanted = [
            Shard(organization_id=closing.organization_id, round=closing, first=first, start=one.start, stop=one.stop)
            for one in _ranges(recipe)
        ]
        Shard.objects.bulk_create(wanted, ignore_conflicts=True)
        # A machine that fell may have lost a file that was not yet known to its folder.
        gone = [pk for pk, part in rows.filter(state=ShardState.DONE).values_list("pk", "part") if not _there(part)]
        Shard.objects.filter(pk__in=gone).update(state=ShardState.WAITING, part="")
        bells = rows.exclude(state=ShardState.DONE).count() - 1
        after_commit(lambda: _ring(closing.pk, bells))


def _ring(round_pk: int, times: int) -> None:
    for bell in _bells:
        for _ in range(times):
            bell(round_pk)


def _take(rows: QuerySet[Shard]) -> Shard | None:
    """The first free one of these, which is ours for a while; None when there is none."""
    while True:
        found = rows.filter(_is_free()).order_by("-first", "start").first()
        if found is None:
            return None
        row = Shard.objects.filter(pk=found.pk, claim=found.claim, state=found.state)
        with unit():
            ours = row.update(state=ShardState.TAKEN, claim=found.claim + 1, lease_until=lease.until())
        if ours:
            found.claim += 1
            return found


def _make(closing: Round, recipe: Recipe, mine: Shard, looked: list[Part], alive: Callable[[], None]) -> None:
    """Make the part and write it down, if nobody did before. If it cannot be made the shard is free again."""
    out, within, threads = blobs.scratch(), Range(mine.start, mine.stop), settings.FEDPORTAL_AGGREGATION_THREADS
    held = Shard.objects.filter(pk=mine.pk, claim=mine.claim, state=ShardState.TAKEN)

    def on_block() -> None:
        alive()
        faults.point("mid_shard")

    try:
        with lease.Claim(held, f"shard-{mine.pk}").held():
            if mine.first:
                sharding.write_products(recipe, within, out, threads, on_block)
            else:
                sharding.write_part(recipe, looked, within, out, threads, on_block)
        kept = _finish(closing, mine, out.name)
    except BaseException:
        out.unlink(missing_ok=True)
        with unit():
            held.update(state=ShardState.WAITING)
        raise
    if not kept:
        out.unlink(missing_ok=True)


def _finish(closing: Round, mine: Shard, part: str) -> bool:
    """Whether this result is the one that counts."""
    with unit():
        row = Shard.objects.filter(pk=mine.pk).exclude(state=ShardState.DONE)
        if not row.update(state=ShardState.DONE, part=part, lease_until=None):
            return False
        faults.point("before_shard")
        # One after the other: of two that finish at once neither would see the other's part, nor anybody the last.
        list(Round.objects.select_for_update(no_key=True).filter(pk=closing.pk).values_list("pk"))
        done, parts = _counted(closing.pk)
        if done * MOST_TOLD // parts > (done - 1) * MOST_TOLD // parts:
            round_of = {"number": closing.number, "attempt": closing.attempt, "kind": str(closing.kind)}
            news = {**round_of, "done": done, "parts": parts, "word": wording.parts(done, parts)}
            progress.tell(closing.run, "round.part", news)
    return True


def _counted(round_pk: int) -> tuple[int, int]:
    """How many parts are done, and how many there are, with those of a second pass that has not begun."""
    ready, first = Q(state=ShardState.DONE), Q(first=True)
    found = Shard.objects.filter(round_id=round_pk).aggregate(
        done=Count("pk", filter=ready), first=Count("pk", filter=first), rows=Count("pk")
    )
    return found["done"], max(found["rows"], 2 * found["first"])


def _of(closing: Round, first: bool) -> QuerySet[Shard]:
    return Shard.objects.filter(round=closing, first=first).order_by("start")


def _is_free() -> Q:
    return Q(state=ShardState.WAITING) | Q(state=ShardState.TAKEN, lease_until__lt=clock.now())


def _parts(rows: QuerySet[Shard]) -> list[Part]:
    return [
        (Range(start, stop), blobs.scratch(part)) for start, stop, part in rows.values_list("start", "stop", "part")
    ]


def _there(part: str) -> bool:
    return bool(part) and blobs.scratch(part).is_file()


def _work(recipe: Recipe) -> int:
    """How many numbers are read in one pass."""
    return len(recipe.updates) * recipe.layout.parameters


def _ranges(recipe: Recipe) -> list[Range]:
    count = min(MOST_PARTS, max(LEAST_PARTS, _work(recipe) // NUMBERS_PER_PART))
    return sharding.parts(recipe.layout.parameters, count)
