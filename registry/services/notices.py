"""What people and programs are told of rollouts and experiments, each in the unit of what it tells."""

from __future__ import annotations

from federations.services import notifications
from registry.models import Experiment, Rollout


def went_back(rollout: Rollout) -> None:
    """It was rolled back by the portal itself: told to the organization whose devices these are."""
    before = rollout.previous_version
    returns = f"to {before.version}, where they had it" if before else "to what they had before"
    sentence = f"{_named(rollout)} was rolled back by itself: {rollout.reason}. Your devices return {returns}."
    _tell(rollout, "rollout.rolled_back", sentence)


def unwell(rollout: Rollout, reason: str) -> None:
    """A limit is crossed, and it is not to go back by itself: somebody has to decide."""
    sentence = f"{_named(rollout)} is unwell on your devices: {reason}. It does not go back by itself: roll it back."
    _tell(rollout, "rollout.unwell", sentence, reason)


def stopped(experiment: Experiment) -> None:
    """It was stopped by the portal itself, because an arm was unwell."""
    sentence = f"The experiment {_called(experiment)} was stopped by itself: {experiment.reason}. "
    _tell_of(experiment, "experiment.stopped", sentence + "Your devices return to what they had before.")


def decided(experiment: Experiment, better: str) -> None:
    """One arm's version was found to be better: somebody may promote it."""
    version = experiment.version_of(better).version
    sentence = f"The experiment {_called(experiment)} found version {version} to be better. You can promote it."
    _tell_of(experiment, "experiment.decided", sentence)


def _called(experiment: Experiment) -> str:
    return f"{experiment.name} with {experiment.model.name}"


def _tell_of(experiment: Experiment, kind: str, sentence: str) -> None:
    data = {
        "experiment": experiment.public_id,
        "model": experiment.model.public_id,
        "control": experiment.control.version,
        "treatment": experiment.treatment.version,
        "winner": experiment.winner,
        "reason": experiment.reason,
    }
    address = f"/experiments/{experiment.public_id}"
    notifications.tell(experiment.organization, kind, sentence=sentence, address=address, data=data)


def _named(rollout: Rollout) -> str:
    return f"{rollout.model.name} {rollout.version.version}"


def _tell(rollout: Rollout, kind: str, sentence: str, reason: str = "") -> None:
    data = {
        "rollout": rollout.public_id,
        "model": rollout.model.public_id,
        "version": rollout.version.version,
        "previous_version": rollout.previous_version.version if rollout.previous_version else None,
        "reason": reason or rollout.reason,
    }
    moments = {"crossed_at": rollout.crossed_at, "rolled_back_at": rollout.rolled_back_at}
    data |= {name: moment.isoformat() for name, moment in moments.items() if moment is not None}
    notifications.tell(
        rollout.organization, kind, sentence=sentence, address=f"/rollouts/{rollout.public_id}", data=data
    )
