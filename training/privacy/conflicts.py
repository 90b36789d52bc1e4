"""What of a run's settings does not go together with how it protects its updates, and why. Pure.

One table, which every door asks: the API, the command line and the form refuse the same. A strategy is judged by what
it declares, never by its name, so a new one is judged like the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fedwire.masking import groups
from fedwire.masking.groups import MOST_LOTS
from training.aggregation.strategy import Strategy
from training.privacy.protection import (
    ADAPTIVE,
    CENTRAL,
    DISTRIBUTED,
    GROUPED,
    LOCAL,
    RECORDS,
    SECURE,
    Protection,
)

PLAIN_CODEC = "none"
# Who asks for sums of groups means to have several.
LEAST_GROUPS = 2
# Gradients of less noise are not told apart from those without, and no accountant is made for it.
LEAST_RECORD_NOISE = 0.3


@dataclass(frozen=True)
class Setup:
    """The settings of a run as far as they matter here. `standardise`: whether statistics are to be pooled;
    `min_participants`: the fewest updates of a round, None where nobody said a usable number."""

    protection: Protection
    strategy: Strategy
    codec: str = PLAIN_CODEC
    standardise: bool = False
    asynchronous: bool = False
    min_participants: int | None = None
    asked: int | None = None  # how many devices a round asks, where a number was said
    least_updates: int = 1  # of fewer the strategy makes no model


@dataclass(frozen=True)
class Conflict:
    """`field`: of the run's settings, where it is said. `what` does not go together, in a few words; `why`: a clause
    that follows the field, in which {strategy} is the strategy's title."""

    name: str
    field: str
    what: str
    why: str
    holds: Callable[[Setup], bool]

    def reason(self, setup: Setup) -> str:
        """Why this setup is refused, as a sentence without its beginning."""
        least = setup.protection.least_devices
        return self.why.format(strategy=setup.strategy.title, least=least, mechanism=setup.protection.mechanism)


def of(setup: Setup) -> list[Conflict]:
    """All conflicts of a setup, in the order of the table."""
    return [conflict for conflict in CONFLICTS if conflict.holds(setup)]


def suits(strategy: Strategy, protection: Protection) -> bool:
    """Whether the strategy goes with this protection, everything else being as simple as it can be."""
    return not of(Setup(protection, strategy, asynchronous=not strategy.synchronous))


def _is(*mechanisms: str) -> Callable[[Setup], bool]:
    return lambda setup: setup.protection.mechanism in mechanisms


def _unmet(setup: Setup) -> bool:
    need = setup.min_participants
    return setup.protection.hides and need is not None and need < setup.protection.least_devices


def _sees_each(setup: Setup) -> bool:
    """Whether the strategy needs every update where there is only the sum of all. Sums of groups are updates to it."""
    return setup.protection.sums == SECURE and setup.strategy.needs_individual_updates and not setup.strategy.trusts


def _compares_few(setup: Setup) -> bool:
    need, protection = setup.min_participants, setup.protection
    if protection.sums != GROUPED or need is None:
        return False
    devices = groups.most(need, protection.group, protection.least_devices)
    return -(-devices // protection.group) < max(setup.least_updates, LEAST_GROUPS)


# Of the protection by itself.
ALONE = (
    Conflict(
        "noise_missing",
        "privacy.noise",
        "a mechanism without noise",
        "the mechanism {mechanism} needs some, as a multiple of the clip.",
        lambda setup: setup.protection.spends and not setup.protection.noise,
    ),
    Conflict(
        "noise_unused",
        "privacy.noise",
        "noise without a mechanism",
        "nobody would add it; choose a mechanism.",
        lambda setup: not setup.protection.spends and setup.protection.noise > 0,
    ),
    Conflict(
        "weights_under_noise",
        "privacy.most_weight",
        "noise, and devices that count more than once",
        "under noise every device counts once, for a weight would multiply what one device changes; so it must be 1.",
        lambda setup: setup.protection.spends and setup.protection.most_weight != 1,
    ),
    Conflict(
        "distributed_in_the_open",
        "privacy.sums",
        "shares of the noise from each device, and a portal that sees each update",
        "a device's share of the noise protects no one by itself, only in a sum; choose secure sums, or another "
        "mechanism.",
        lambda setup: setup.protection.mechanism == DISTRIBUTED and not setup.protection.hides,
    ),
    Conflict(
        "noise_beside_sums",
        "privacy.mechanism",
        "noise by the portal, or whole noise by each device, and sums only",
        "the portal cannot clip what it does not see, and noise that is enough for one update does not fit in a masked "
        "one; with sums only, choose distributed.",
        lambda setup: setup.protection.mechanism in (CENTRAL, LOCAL) and setup.protection.hides,
    ),
    Conflict(
        "clip_without_portal",
        "privacy.clipping",
        "an adaptive clip, and anything but noise by the portal",
        "the clip follows from the norms of all updates, which only a portal knows that clips them itself; choose the "
        "mechanism central, or a fixed clip.",
        lambda setup: setup.protection.clipping == ADAPTIVE and setup.protection.mechanism != CENTRAL,
    ),
    Conflict(
        "groups_too_small",
        "privacy.group",
        "sums only, and groups of fewer devices than a sum needs",
        "no group could have the {least} devices that a sum needs; let groups be larger.",
        lambda setup: setup.protection.hides and setup.protection.group < setup.protection.least_devices,
    ),
    Conflict(
        "rate_missing",
        "privacy.rate",
        "noise in gradients, and no rate",
        "it says with what probability a row comes in a step, without which there is no ε about rows; 0.05 is usual.",
        lambda setup: setup.protection.mechanism == RECORDS and not setup.protection.rate,
    ),
    Conflict(
        "rate_unused",
        "privacy.rate",
        "a rate, and anything but noise in gradients",
        "only rows toss a coin, for noise in gradients; the portal chooses devices itself, which gains nothing.",
        lambda setup: setup.protection.mechanism != RECORDS and setup.protection.rate > 0,
    ),
    Conflict(
        "records_of_little_noise",
        "privacy.noise",
        "noise in gradients that is too little",
        f"noise of less than {LEAST_RECORD_NOISE:g} in every step promises nothing about a row.",
        lambda setup: setup.protection.mechanism == RECORDS and 0 < setup.protection.noise < LEAST_RECORD_NOISE,
    ),
    Conflict(
        "records_beside_sums",
        "privacy.sums",
        "noise in gradients, and sums only",
        "the clip is that of a row's gradient, and masked updates need one of their own; choose one of the two.",
        lambda setup: setup.protection.mechanism == RECORDS and setup.protection.hides,
    ),
)
# Of the protection and the rest of the run.
TOGETHER = (
    Conflict(
        "sums_of_individuals",
        "privacy.sums",
        "sums only, and a strategy that compares updates or weighs each by itself",
        "{strategy} needs to see every update, and the portal would see only the sum of all.",
        _sees_each,
    ),
    Conflict(
        "sums_and_trust",
        "privacy.sums",
        "sums only, and a strategy that compares with a trusted organization",
        "{strategy} compares the updates of one organization with the others', and none of them would be seen.",
        lambda setup: setup.protection.hides and setup.strategy.trusts,
    ),
    Conflict(
        "sums_and_reports",
        "privacy.sums",
        "sums only, and a strategy that weighs updates by what devices report",
        "{strategy} weighs each update by what its device reports, and a sum cannot be taken apart.",
        lambda setup: setup.protection.hides and bool(setup.strategy.reports),
    ),
    Conflict(
        "sums_and_device_state",
        "privacy.sums",
        "sums only, and a strategy whose devices keep something from round to round",
        "{strategy} moves a mean of what each device keeps by that device's update, which would not be seen.",
        lambda setup: setup.protection.hides and setup.strategy.needs_device_state,
    ),
    Conflict(
        "sums_and_codec",
        "codec",
        "sums only, and a codec",
        "masked updates are whole numbers of a ring and take none; the ring's bits say how long they are.",
        lambda setup: setup.protection.hides and setup.codec != PLAIN_CODEC,
    ),
    Conflict(
        "sums_and_time",
        "schedule",
        "sums only, and asynchronous rounds",
        "a sum needs devices that are there at the same time, so its rounds are synchronous.",
        lambda setup: setup.protection.hides and setup.asynchronous,
    ),
    Conflict(
        "sums_of_few",
        "privacy.least_devices",
        "sums only, and rounds of fewer devices than a sum needs",
        "a round may have fewer devices than the {least} that a sum needs; ask for at least {least} in every round.",
        _unmet,
    ),
    Conflict(
        "sums_of_many",
        "privacy.sums",
        "sums only, and rounds of more devices than can draw groups",
        f"at most {MOST_LOTS:,} devices are added up in a round; ask for fewer, with a sample or a lower minimum.",
        lambda setup: setup.protection.hides and max(setup.min_participants or 0, setup.asked or 0) > MOST_LOTS,
    ),
    Conflict(
        "groups_of_few",
        "privacy.group",
        "sums of groups, and rounds of fewer groups than the strategy compares",
        "{strategy} needs more groups than the fewest devices of a round make; ask for more, or for smaller groups.",
        _compares_few,
    ),
    Conflict(
        "noise_and_individuals",
        "privacy.mechanism",
        "noise in the sum, and a strategy whose result is no sum of updates",
        "{strategy} is no sum of updates of the weight 1, so the clip does not bound what one of them changes.",
        lambda setup: _is(CENTRAL)(setup) and setup.strategy.needs_individual_updates,
    ),
    Conflict(
        "noise_and_reports",
        "privacy.mechanism",
        "noise, and a strategy whose devices report on their training",
        "{strategy} stretches updates by what devices report of their rows, which no clip bounds and no noise covers.",
        lambda setup: setup.protection.spends and bool(setup.strategy.reports),
    ),
    Conflict(
        "noise_and_device_state",
        "privacy.mechanism",
        "noise, and a strategy whose devices keep something from round to round",
        "{strategy} moves what its devices keep by their updates as they were before noise and clip, and its formula "
        "adds that to the model.",
        lambda setup: setup.protection.spends and setup.strategy.needs_device_state,
    ),
    Conflict(
        "records_and_own_models",
        "privacy.mechanism",
        "noise in gradients, and a strategy that gives each device a model of its own",
        "{strategy} trains a part of the model beside the common one, in steps that have no noise.",
        lambda setup: setup.protection.mechanism == RECORDS and setup.strategy.personal,
    ),
    Conflict(
        "noise_and_time",
        "schedule",
        "noise, and asynchronous rounds",
        "a device may answer more often than the others there, and ε counts it once for each model.",
        lambda setup: setup.protection.spends and setup.asynchronous,
    ),
    Conflict(
        "statistics_in_the_open",
        "standardise",
        "sums only or noise, and pooled statistics of columns",
        "statistics of columns leave each device as they are, neither summed first nor with noise; standardise in a "
        "run without privacy, or on the devices.",
        lambda setup: (setup.protection.hides or setup.protection.spends) and setup.standardise,
    ),
)
CONFLICTS: tuple[Conflict, ...] = (*ALONE, *TOGETHER)
