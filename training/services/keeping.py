"""The last good model of a run that ended without a version: it is kept with the run, and can be made one."""

from __future__ import annotations

from federations import permissions
from federations.permissions import Actor
from federations.services import audit
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from fedwire.states import RoundKind, RoundState, RunState
from registry.models import ModelVersion
from training import progress
from training.models import Round, Run
from training.services import finishing

# Ended, and not with a version.
UNFINISHED_ENDS = (RunState.FAILED, RunState.STOPPED)


def may_keep(run: Run) -> bool:
    """Whether the run ended without a version and has a model that could be one."""
    return run.state in UNFINISHED_ENDS and run.result_version_id is None and run.current_round > 0


def keep(actor: Actor, run: Run) -> ModelVersion:
    """Make the model of the last round that was closed a version of the model, with its lineage.

    Any number of calls do it once. Raises `forbidden`, and `wrong_state` for a run that goes on or never closed a
    training round.
    """
    permissions.require(actor, "run.control", run)
    rows = Run.objects.select_related("model", "federation", "base_version", "started_by", "organization")
    with unit():
        found = rows.select_for_update(of=("self",), no_key=True).get(pk=run.pk)
        if found.result_version is not None:
            return found.result_version
        trained = Round.objects.filter(run=found, kind=RoundKind.TRAIN, state=RoundState.DONE)
        if found.state not in UNFINISHED_ENDS or not trained.exists():
            hint = "Only a run that failed or was stopped, after a round was closed, has a model to keep."
            raise FedportalError("wrong_state", what="The run", state=str(found.state), hint=hint)
        version = finishing.publish_last(found)
        Run.objects.filter(pk=found.pk).update(result_version=version)
        audit.record(found.organization, actor, "run.kept", found.public_id, version=version.public_id)
        progress.tell(found, "run.kept", {"version": version.version, "version_id": version.public_id})
    return version
