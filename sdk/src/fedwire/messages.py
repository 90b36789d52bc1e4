"""The JSON that devices and the portal exchange, as typed shapes.

Every shape is plain JSON. `docs/protocol.md` explains them in the order in which a device meets them.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from fedwire.checks import Asked, Report

# A file up to this length may stand in the JSON beside it, in base64. That adds a third to it, which is less than the
# headers of a request of its own are long, and such a request takes both ends far more time.
INLINE_BYTES = 2 << 10


class Registration(TypedDict):
    """POST /devices/register. `signature`: of `registration_message(...)` by the device's Ed25519 key, hexadecimal."""

    device_identifier: str
    public_key: str  # 32 bytes, hexadecimal
    nonce: str  # 16 random bytes, hexadecimal
    signature: str  # 64 bytes, hexadecimal
    platform: NotRequired[str]
    sdk_version: NotRequired[str]
    os_version: NotRequired[str]
    capabilities: NotRequired[dict[str, Any]]
    groups: NotRequired[list[str]]


class Registered(TypedDict):
    """The answer: the device's id and its key, which is shown this once."""

    id: str
    device_identifier: str
    org_id: str
    device_key: str
    server_time: str
    key_expires_at: NotRequired[str | None]  # by the server's clock; None or absent: it does not expire


class CodecPlan(TypedDict):
    """How a task wants its update written (`fedwire.codecs`); inside `training`, absent for plain float32.

    `requires` then names it too, so that a device that does not know the codec declines.
    """

    name: str  # float16 | int8 | topk | sketch
    kept: NotRequired[int]  # topk, sketch: how many numbers count
    rows: NotRequired[int]  # sketch
    columns: NotRequired[int]
    seed: NotRequired[int]  # of the sketch's hashes, the same for all devices
    feedback: NotRequired[bool]  # what was left out is added to the next update


class AnswerShape(TypedDict):
    """What the answer of a task must look like; inside `Task`."""

    update_bytes: int  # 0: no upload belongs to this answer
    # An update of up to so many bytes may come in the answer itself (`Answer.content`); absent: none may.
    inline_bytes: NotRequired[int]
    max_samples: int
    metrics: bool  # whether an evaluation report is expected
    # On which scale its histograms are to be counted: "logit"; absent: 200 equal bins on [0, 1].
    scale: NotRequired[str]
    # Which of `steps`, `normaliser` and `base_loss` the run's strategy needs of the answer; absent: none.
    reports: NotRequired[list[str]]
    # The fewest rows an answer may stand for, by the policy of the device's organization; absent: any number.
    least_records: NotRequired[int]
    # The strategy looks at every device's update by itself: an edge, which has only their mean to give, declines.
    individual: NotRequired[bool]


class Install(TypedDict):
    """Which version of the task's model the device is to use; inside `Task`."""

    rollout: str
    version: str  # "": none any more
    size: int  # bytes of the file whose SHA-256 is `base_digest`


class Inference(TypedDict):
    """What a plan of inference asks for; inside `Task`."""

    plan: str
    federation: str
    asked: dict[str, Any]  # `fedwire.inference.Asked`
    least_devices: int  # fewer answers are not added up
    least_organizations: int


class Task(TypedDict):
    """A DeviceTask as the device gets it from GET /device/tasks/next."""

    id: str
    kind: str  # check | statistics | train | evaluate | infer | install | secagg
    run: str
    model: str  # the model's public id
    model_name: NotRequired[str]
    round: int
    attempt: int
    deadline: str  # ISO 8601, the server's clock
    seconds_left: float
    base_digest: str  # sha256 of the model file to download, "" when none is needed
    base_content: NotRequired[str]  # that file in base64, when it is short; the same is there to download
    # sha256 of the vector to download from …/state; "": a vector of zeros; absent: the strategy sends none
    state_digest: NotRequired[str]
    # The last training round of this run in which an answer of this device counted; 0: none. Absent: it keeps nothing.
    counted_round: NotRequired[int]
    manifest: list[dict[str, Any]]  # Manifest.to_json()
    architecture: dict[str, Any] | None
    # epochs, learning_rate, batch_size, seed, … (the strategy's device half); `local`: the tensors that stay on the
    # device, which its update does not hold (`fedwire.personal`)
    training: dict[str, Any]
    answer: AnswerShape
    check: NotRequired[Asked]  # of a check task
    masking: NotRequired[dict[str, Any]]  # of secure aggregation, see docs/protocol.md
    install: NotRequired[Install]  # of an install task
    inference: NotRequired[Inference]  # of an infer task


class Histograms(TypedDict):
    """Rows by score: `positives[i]` of them are of the class and `negatives[i]` are not, in bin i of the `scale`.

    `scale` is "logit" (`fedwire.histograms`); absent, the bins are 200 equal ones on [0, 1].
    """

    positives: list[int]
    negatives: list[int]
    scale: NotRequired[str]
    other_scale: NotRequired[Histograms]  # only where reports were merged: the rows counted on the older scale


class Evaluation(TypedDict):
    """Mergeable metrics on held-out rows. Sums and counts only; ratios are formed after merging.

    `positives`, `negatives`, `scale` and `other_scale` are the histograms of the class's own scores (`Histograms`).
    """

    samples: int
    loss_sum: float
    correct: int
    positives: NotRequired[list[int]]
    negatives: NotRequired[list[int]]
    scale: NotRequired[str]
    other_scale: NotRequired[Histograms]
    # Two classes: [true negatives, false positives, false negatives, true positives]; the histograms say the same.
    confusion: NotRequired[list[int]]
    sums: NotRequired[dict[str, float]]  # further metrics by name: sum over samples
    over: NotRequired[dict[str, int]]  # over how many of the samples such a sum goes; absent: all
    histograms: NotRequired[dict[str, Histograms]]  # further scores by name, each of which has an AUC
    # The same over part of the rows: {"sex": {"F": report, "M": report}}; these have no slices or histograms by name.
    slices: NotRequired[dict[str, dict[str, Evaluation]]]


class Statistics(TypedDict):
    """Answer of a `statistics` task: per input column the mean and the sum of squared deviations (M2)."""

    samples: int
    mean: list[float]
    m2: list[float]


class Answer(TypedDict):
    """POST /device/tasks/{task}/answer."""

    sha256: NotRequired[str]  # of the uploaded update, when one belongs to the answer
    content: NotRequired[str]  # the update itself in base64, instead of the upload, where the task allows it
    samples: int
    devices: NotRequired[int]  # for how many devices an edge answers; absent: for the one that it is
    evaluation: NotRequired[Evaluation]  # of the model that was downloaded, on held-out rows
    personal: NotRequired[Evaluation]  # of the device's own model, on the same rows; only where it has one
    statistics: NotRequired[Statistics]
    metrics: NotRequired[dict[str, float]]  # the trainer's own, shown and not used
    seconds: NotRequired[float]  # time spent training
    steps: NotRequired[int]  # τ: local steps taken
    normaliser: NotRequired[float]  # a: how often the gradients of these steps count in the update; τ without momentum
    work_share: NotRequired[float]  # of the steps that were asked for, where the device did not take all; absent: all
    check: NotRequired[Report]  # of a check task, which stands for no rows: `samples` is 0
    base_loss: NotRequired[float]  # mean loss of the downloaded model over the rows trained on
    ready: NotRequired[bool]  # of a round of secure aggregation: it has trained, and its update waits here
    masking: NotRequired[dict[str, Any]]  # what a step of secure aggregation asks for
    inference: NotRequired[list[int]]  # of an infer task, whose `samples` are 0: the cells of its summary


class Receipt(TypedDict):
    """The acknowledgement of an answer; the same for every repetition of the same answer."""

    task: str
    state: str  # "answered"
    sha256: str
    samples: int
    received_at: str


def registration_message(*, key_id: str, device_identifier: str, public_key: str, nonce: str) -> bytes:
    """The bytes a device signs when it registers.

    `key_id` is the public part of the enrolment key (`edg_` and the eight characters after it), so that a captured
    registration is worth nothing under another key.
    """
    return "\n".join(("fedportal-register-1", key_id, device_identifier, public_key, nonce)).encode()
