"""The states of everything that moves, and every move that is allowed.

A state is stored and sent as its short string. `MOVES[kind][state]` is the set of states that may follow; a state with
no followers is final. The portal changes a state only along this table, and the SDK, the pages and the command line
take their words from `WORDS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class RunState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"


class RoundState(StrEnum):
    OPEN = "open"
    MASKING = "masking"
    AGGREGATING = "aggregating"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class SumState(StrEnum):
    """A session of secure aggregation: which step its devices are asked for, or what the portal does meanwhile."""

    REVEAL = "reveal"
    ADVERTISE = "advertise"
    SHARE = "share"
    MASK = "mask"
    FOLD = "fold"
    AGREE = "agree"
    UNMASK = "unmask"
    DONE = "done"
    FAILED = "failed"


class RoundKind(StrEnum):
    """What a round asks of its devices: whether they could train, pooled statistics, training, or evaluation only."""

    CHECK = "check"
    STATISTICS = "statistics"
    TRAIN = "train"
    EVALUATE = "evaluate"


class AssignmentState(StrEnum):
    OFFERED = "offered"
    TRAINING = "training"
    SUBMITTED = "submitted"
    DECLINED = "declined"
    LATE = "late"
    EXPIRED = "expired"


class MemberState(StrEnum):
    INVITED = "invited"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    LEFT = "left"
    REMOVED = "removed"
    DECLINED = "declined"


class InvitationState(StrEnum):
    PENDING = "pending"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    REVOKED = "revoked"
    EXPIRED = "expired"


class DeviceState(StrEnum):
    ACTIVE = "active"
    QUARANTINED = "quarantined"
    REVOKED = "revoked"
    RETIRED = "retired"


class RolloutState(StrEnum):
    """A version on its way to an organization's devices; a rollback sends every device back to what it had before."""

    PENDING = "pending"
    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"
    ROLLED_BACK = "rolled_back"


class ExperimentState(StrEnum):
    """Two versions side by side on an organization's devices; stopped, every device returns to what it had before."""

    DRAFT = "draft"
    RUNNING = "running"
    STOPPED = "stopped"
    PROMOTED = "promoted"


class InstallationState(StrEnum):
    """What a device holds of a model against what it is to hold: a version, or nothing at all (removed)."""

    PENDING = "pending"
    INSTALLING = "installing"
    INSTALLED = "installed"
    REMOVED = "removed"
    FAILED = "failed"


class InferenceState(StrEnum):
    """A plan of federated inference."""

    PLANNED = "planned"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class AskedState(StrEnum):
    """A device's part in a plan of inference; withdrawn: its organization took its consent back, or the plan ended."""

    OFFERED = "offered"
    WORKING = "working"
    ANSWERED = "answered"
    DECLINED = "declined"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


class TaskState(StrEnum):
    """A DeviceTask: open until a device takes it, then answered, declined, expired or cancelled."""

    OPEN = "open"
    TAKEN = "taken"
    ANSWERED = "answered"
    DECLINED = "declined"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class TaskKind(StrEnum):
    CHECK = "check"
    STATISTICS = "statistics"
    TRAIN = "train"
    EVALUATE = "evaluate"
    INFER = "infer"
    INSTALL = "install"
    SECAGG = "secagg"


MOVES: Mapping[str, Mapping[str, frozenset[str]]] = {
    "run": {
        RunState.PENDING: frozenset({RunState.RUNNING, RunState.STOPPED, RunState.FAILED}),
        RunState.RUNNING: frozenset({RunState.PAUSED, RunState.COMPLETED, RunState.FAILED, RunState.STOPPED}),
        RunState.PAUSED: frozenset({RunState.RUNNING, RunState.STOPPED, RunState.FAILED}),
        RunState.COMPLETED: frozenset(),
        RunState.FAILED: frozenset(),
        RunState.STOPPED: frozenset(),
    },
    "round": {
        RoundState.OPEN: frozenset(
            {RoundState.MASKING, RoundState.AGGREGATING, RoundState.FAILED, RoundState.CANCELLED}
        ),
        # Of secure aggregation: all have trained, and add up their updates under masks.
        RoundState.MASKING: frozenset({RoundState.AGGREGATING, RoundState.FAILED, RoundState.CANCELLED}),
        RoundState.AGGREGATING: frozenset({RoundState.DONE, RoundState.FAILED, RoundState.CANCELLED}),
        RoundState.DONE: frozenset(),
        RoundState.FAILED: frozenset(),
        RoundState.CANCELLED: frozenset(),
    },
    "sum": {
        SumState.REVEAL: frozenset({SumState.ADVERTISE, SumState.FAILED}),
        SumState.ADVERTISE: frozenset({SumState.SHARE, SumState.FAILED}),
        SumState.SHARE: frozenset({SumState.MASK, SumState.FAILED}),
        SumState.MASK: frozenset({SumState.FOLD, SumState.FAILED}),
        SumState.FOLD: frozenset({SumState.AGREE, SumState.FAILED}),
        SumState.AGREE: frozenset({SumState.UNMASK, SumState.FAILED}),
        SumState.UNMASK: frozenset({SumState.DONE, SumState.FAILED}),
        SumState.DONE: frozenset(),
        SumState.FAILED: frozenset(),
    },
    "assignment": {
        AssignmentState.OFFERED: frozenset(
            {
                AssignmentState.TRAINING,
                AssignmentState.SUBMITTED,
                AssignmentState.DECLINED,
                AssignmentState.LATE,
                AssignmentState.EXPIRED,
            }
        ),
        AssignmentState.TRAINING: frozenset(
            {AssignmentState.SUBMITTED, AssignmentState.DECLINED, AssignmentState.LATE, AssignmentState.EXPIRED}
        ),
        AssignmentState.SUBMITTED: frozenset({AssignmentState.EXPIRED}),  # when the file of its update is damaged
        AssignmentState.DECLINED: frozenset(),
        # A check that was not answered is asked for again, in the same part.
        AssignmentState.EXPIRED: frozenset({AssignmentState.LATE, AssignmentState.OFFERED}),
        AssignmentState.LATE: frozenset({AssignmentState.OFFERED}),
    },
    "member": {
        MemberState.INVITED: frozenset({MemberState.ACTIVE, MemberState.DECLINED, MemberState.REMOVED}),
        MemberState.ACTIVE: frozenset({MemberState.SUSPENDED, MemberState.LEFT, MemberState.REMOVED}),
        MemberState.SUSPENDED: frozenset({MemberState.ACTIVE, MemberState.LEFT, MemberState.REMOVED}),
        # An organization that went, or was sent away, comes back by a new invitation only.
        MemberState.LEFT: frozenset({MemberState.INVITED}),
        MemberState.REMOVED: frozenset({MemberState.INVITED}),
        MemberState.DECLINED: frozenset({MemberState.INVITED}),
    },
    "invitation": {
        InvitationState.PENDING: frozenset(
            {InvitationState.ACCEPTED, InvitationState.DECLINED, InvitationState.REVOKED, InvitationState.EXPIRED}
        ),
        InvitationState.EXPIRED: frozenset({InvitationState.PENDING}),
        InvitationState.ACCEPTED: frozenset(),
        InvitationState.DECLINED: frozenset(),
        InvitationState.REVOKED: frozenset(),
    },
    "device": {
        DeviceState.ACTIVE: frozenset({DeviceState.QUARANTINED, DeviceState.REVOKED, DeviceState.RETIRED}),
        DeviceState.QUARANTINED: frozenset({DeviceState.ACTIVE, DeviceState.REVOKED, DeviceState.RETIRED}),
        DeviceState.REVOKED: frozenset(),
        DeviceState.RETIRED: frozenset(),
    },
    "rollout": {
        RolloutState.PENDING: frozenset({RolloutState.ACTIVE, RolloutState.ROLLED_BACK}),
        RolloutState.ACTIVE: frozenset({RolloutState.PAUSED, RolloutState.COMPLETED, RolloutState.ROLLED_BACK}),
        RolloutState.PAUSED: frozenset({RolloutState.ACTIVE, RolloutState.COMPLETED, RolloutState.ROLLED_BACK}),
        RolloutState.COMPLETED: frozenset({RolloutState.ROLLED_BACK}),
        RolloutState.ROLLED_BACK: frozenset(),
    },
    "experiment": {
        ExperimentState.DRAFT: frozenset({ExperimentState.RUNNING, ExperimentState.STOPPED}),
        ExperimentState.RUNNING: frozenset({ExperimentState.STOPPED, ExperimentState.PROMOTED}),
        ExperimentState.STOPPED: frozenset(),
        ExperimentState.PROMOTED: frozenset(),
    },
    "installation": {
        InstallationState.PENDING: frozenset(
            {
                InstallationState.INSTALLING,
                InstallationState.INSTALLED,
                InstallationState.REMOVED,
                InstallationState.FAILED,
            }
        ),
        # Another version may be wanted at any time, also while the device is at the one before.
        InstallationState.INSTALLING: frozenset(
            {
                InstallationState.PENDING,
                InstallationState.INSTALLED,
                InstallationState.REMOVED,
                InstallationState.FAILED,
            }
        ),
        InstallationState.INSTALLED: frozenset({InstallationState.PENDING}),
        InstallationState.REMOVED: frozenset({InstallationState.PENDING}),
        InstallationState.FAILED: frozenset(
            {InstallationState.PENDING, InstallationState.INSTALLED, InstallationState.REMOVED}
        ),
    },
    "inference": {
        InferenceState.PLANNED: frozenset({InferenceState.RUNNING, InferenceState.CANCELLED}),
        InferenceState.RUNNING: frozenset({InferenceState.DONE, InferenceState.FAILED, InferenceState.CANCELLED}),
        InferenceState.DONE: frozenset(),
        InferenceState.FAILED: frozenset(),
        InferenceState.CANCELLED: frozenset(),
    },
    "asked": {
        AskedState.OFFERED: frozenset(
            {
                AskedState.WORKING,
                AskedState.ANSWERED,
                AskedState.DECLINED,
                AskedState.EXPIRED,
                AskedState.WITHDRAWN,
            }
        ),
        AskedState.WORKING: frozenset(
            {AskedState.ANSWERED, AskedState.DECLINED, AskedState.EXPIRED, AskedState.WITHDRAWN}
        ),
        AskedState.ANSWERED: frozenset({AskedState.WITHDRAWN}),  # while the plan runs
        AskedState.DECLINED: frozenset(),
        AskedState.EXPIRED: frozenset(),
        AskedState.WITHDRAWN: frozenset(),
    },
    "task": {
        TaskState.OPEN: frozenset(
            {TaskState.TAKEN, TaskState.ANSWERED, TaskState.DECLINED, TaskState.EXPIRED, TaskState.CANCELLED}
        ),
        TaskState.TAKEN: frozenset({TaskState.ANSWERED, TaskState.DECLINED, TaskState.EXPIRED, TaskState.CANCELLED}),
        TaskState.ANSWERED: frozenset(),
        TaskState.DECLINED: frozenset(),
        TaskState.EXPIRED: frozenset(),
        TaskState.CANCELLED: frozenset(),
    },
}

# The words of cards, pages and the command line. A state without a word here is shown as itself.
WORDS: Mapping[str, Mapping[str, str]] = {
    "run": {RunState.PENDING: "waiting to start", RunState.PAUSED: "paused"},
    "round": {
        RoundState.OPEN: "collecting updates",
        RoundState.MASKING: "adding up under masks",
        RoundState.AGGREGATING: "aggregating",
    },
    "sum": {
        SumState.REVEAL: "groups are drawn",
        SumState.ADVERTISE: "keys are made",
        SumState.SHARE: "keys are shared",
        SumState.MASK: "masked updates are sent",
        SumState.FOLD: "masked updates are added up",
        SumState.AGREE: "devices agree on who is in the sum",
        SumState.UNMASK: "masks are taken off the sum",
    },
    "assignment": {
        AssignmentState.OFFERED: "waiting",
        AssignmentState.TRAINING: "training",
        AssignmentState.SUBMITTED: "sent",
        AssignmentState.DECLINED: "declined",
        AssignmentState.LATE: "late",
        AssignmentState.EXPIRED: "dropped",
    },
    "rollout": {RolloutState.PENDING: "waiting to start", RolloutState.ROLLED_BACK: "rolled back"},
    "experiment": {ExperimentState.DRAFT: "not started"},
    "installation": {InstallationState.PENDING: "waiting"},
    "inference": {InferenceState.PLANNED: "waiting to start", InferenceState.RUNNING: "collecting answers"},
    "asked": {AskedState.OFFERED: "waiting", AskedState.EXPIRED: "did not answer in time"},
}

# The words of sessions, the vocabulary in which other clients know runs and their devices' parts.
SESSION_WORDS: Mapping[str, Mapping[str, str]] = {
    "run": {
        RunState.PENDING: "pending",
        RunState.RUNNING: "running",
        RunState.PAUSED: "paused",
        RunState.COMPLETED: "completed",
        RunState.FAILED: "failed",
        RunState.STOPPED: "cancelled",
    },
    "assignment": {
        AssignmentState.OFFERED: "selected",
        AssignmentState.TRAINING: "training",
        AssignmentState.SUBMITTED: "gradient_sent",
        AssignmentState.DECLINED: "declined",
        AssignmentState.LATE: "late",
        AssignmentState.EXPIRED: "dropped",
    },
}


def may_move(kind: str, old: str, new: str) -> bool:
    """Whether `kind` ("run", "round", …) may go from state `old` to state `new`."""
    return new in MOVES[kind].get(old, frozenset())


def is_final(kind: str, state: str) -> bool:
    """Whether nothing follows `state`."""
    return not MOVES[kind][state]


def word(kind: str, state: str) -> str:
    """The word a person reads for `state`."""
    return WORDS.get(kind, {}).get(state, str(state))


def session_word(kind: str, state: str) -> str:
    """The word for the `state` of a run or an assignment in the vocabulary of sessions."""
    return SESSION_WORDS[kind][state]
