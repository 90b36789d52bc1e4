"""A device task from its offer to its end, on the database the tests run on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from federations.models import Device, DeviceTask
from federations.services import answers, desk, device_tasks, task_rows
from federations.services.device_tasks import NewTask
from fedportal.common import clock, live
from fedportal.common.transactions import unit
from fedportal.door.hooks import Caller
from fedwire.errors import FedportalError
from fedwire.messages import INLINE_BYTES
from fedwire.states import DeviceState, TaskState
from fedwire.tensors import Manifest, TensorSpec
from tests.cast import Cast

KIND = "probe"  # no floor of this portal handles it yet
SHAPE = Manifest.of([TensorSpec("w", "F32", (5,))])

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    """What the floor above is told about tasks of KIND."""
    said: list[Any] = []
    device_tasks.handle(
        KIND,
        on_taken=lambda tasks: said.append(("taken", [task.pk for task in tasks])),
        on_answer=lambda task, answer, sha, norm: said.append(("answer", task.pk, answer, sha, norm)),
        on_decline=lambda task, reason: said.append(("decline", task.pk, reason)),
        on_late=lambda task: said.append(("late", task.pk)),
    )
    yield said
    device_tasks.handle(KIND)


def offer(*devices: Device, **values: Any) -> list[DeviceTask]:
    deadline = values.pop("deadline", clock.now() + timedelta(minutes=10))
    with unit():
        return device_tasks.offer([NewTask(device, KIND, "subject-1", deadline, **values) for device in devices])


def answer(task: DeviceTask, **said: Any) -> tuple[dict[str, Any], bool]:
    return device_tasks.answer(task.device_id, task.public_id, json.dumps({"samples": 1, **said}).encode())


def code(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(FedportalError) as error:
        call(*args, **kwargs)
    return error.value.code


def state(task: DeviceTask) -> str:
    return DeviceTask.objects.get(pk=task.pk).state


def test_tasks_are_offered_inside_a_unit_only(cast: Cast) -> None:
    with pytest.raises(RuntimeError):
        device_tasks.offer([NewTask(cast.device, KIND, "s", clock.now())])


def test_devices_are_rung_after_the_commit(cast: Cast, settings: Any) -> None:
    settings.FEDPORTAL_REDIS_URL = ""  # devices that wait in this process
    rung: list[Sequence[int]] = []
    live.on_bell(rung.append)
    with unit():
        device_tasks.offer([NewTask(cast.device, KIND, "s", clock.now())])
        assert not rung
    assert rung == [[cast.device.pk]]


def test_an_offer_that_is_rolled_back_rings_nobody(cast: Cast) -> None:
    rung: list[Sequence[int]] = []
    live.on_bell(rung.append)
    with contextlib.suppress(LookupError), unit():
        device_tasks.offer([NewTask(cast.device, KIND, "s", clock.now())])
        raise LookupError
    assert not rung
    assert not DeviceTask.objects.exists()


def test_what_travels_is_joined_from_row_and_content(cast: Cast) -> None:
    content = {"run": "run_1", "id": "forged", "kind": "forged", "manifest": SHAPE.to_json(), "text": 'ü"\\ {}'}
    (task,) = offer(cast.device, content=content, base_blob="a" * 64, update_bytes=7, update_header=b"\0\xff")
    travelling = json.loads(desk.next_tasks([cast.device.pk])[cast.device.pk].body)
    assert travelling.pop("seconds_left") == pytest.approx(600, abs=5)
    assert travelling == {
        "id": task.public_id,
        "kind": KIND,
        "deadline": task.deadline.isoformat(),
        "base_digest": "a" * 64,
        "run": "run_1",
        "manifest": SHAPE.to_json(),
        "text": 'ü"\\ {}',
        "answer": {"max_samples": 10_000_000, "metrics": False, "inline_bytes": INLINE_BYTES, "update_bytes": 7},
    }
    files = task_rows.files(cast.device.pk, task.public_id)
    assert files is not None
    assert (files.update_header, files.update_bytes) == (b"\0\xff", 7)


def test_the_row_read_in_sql_is_the_row(cast: Cast) -> None:
    (task,) = offer(cast.device, content={"run": "run_1", "nested": {"a": [1, None]}})
    found = task_rows.find(cast.device.pk, task.public_id)
    whole = DeviceTask.objects.get(pk=task.pk)
    assert found is not None
    for column in DeviceTask._meta.concrete_fields:
        assert getattr(found, column.attname) == getattr(whole, column.attname), column.attname


def test_the_oldest_unfinished_task_comes_first_and_overdue_ones_not_at_all(cast: Cast) -> None:
    offer(cast.device, deadline=clock.now() - timedelta(seconds=1))
    first, second = *offer(cast.device), *offer(cast.device)
    assert desk.next_tasks([cast.device.pk])[cast.device.pk].task_pk == first.pk
    answer(first)
    assert desk.next_tasks([cast.device.pk])[cast.device.pk].task_pk == second.pk
    answer(second)
    assert desk.next_tasks([cast.device.pk]) == {}
    assert desk.next_tasks([]) == {}
    assert desk.with_work() == []


def test_taking_moves_open_tasks_only(cast: Cast, heard: list[Any]) -> None:
    open_task, answered = *offer(cast.device), *offer(cast.device)
    answer(answered)
    heard.clear()
    for _ in range(2):
        device_tasks.note_taken([open_task.pk, answered.pk])
    assert heard == [("taken", [open_task.pk])]
    assert (state(open_task), state(answered)) == (TaskState.TAKEN, TaskState.ANSWERED)
    assert DeviceTask.objects.get(pk=open_task.pk).taken_at is not None


def test_an_answer_is_recorded_once_with_what_the_floor_above_made_of_it(cast: Cast, heard: list[Any]) -> None:
    (task,) = offer(cast.device)
    receipt, first = answer(task, metrics={"loss": 0.5})
    assert first
    assert answer(task, metrics={"loss": 0.5}) == (receipt, False)
    assert code(answer, task, metrics={"loss": 0.6}) == "answer_differs"
    assert heard == [("answer", task.pk, {"samples": 1, "metrics": {"loss": 0.5}}, "", None)]
    row = DeviceTask.objects.get(pk=task.pk)
    assert (row.state, row.receipt) == (TaskState.ANSWERED, receipt)
    assert row.closed_at is not None
    assert row.closed_at.isoformat() == receipt["received_at"]


def test_an_answer_the_floor_above_refuses_leaves_nothing(cast: Cast) -> None:
    def refuse(task: DeviceTask, *_: Any) -> None:
        raise FedportalError("forbidden", action="take part", who="nobody")

    device_tasks.handle(KIND, on_answer=refuse)
    try:
        (task,) = offer(cast.device)
        assert code(answer, task) == "forbidden"
        assert state(task) == TaskState.OPEN
    finally:
        device_tasks.handle(KIND)
    assert answer(task)[1]


def test_an_answer_whose_upload_is_replaced_meanwhile_is_told_of_the_upload(
    cast: Cast, heard: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is still open: were it called closed, the device would train again for nothing."""
    (task,) = offer(cast.device, update_bytes=SHAPE.update_bytes, update_header=SHAPE.update_header())
    device_tasks.note_upload(task.pk, "a" * 64, 1.0)
    check = answers.check

    def replaced_meanwhile(*args: Any, **kwargs: Any) -> dict[str, Any]:
        device_tasks.note_upload(task.pk, "b" * 64, 1.0)
        return check(*args, **kwargs)

    monkeypatch.setattr(answers, "check", replaced_meanwhile)
    assert code(answer, task, sha256="a" * 64) == "digest_mismatch"
    assert (state(task), heard) == (TaskState.OPEN, [])
    assert answer(task, sha256="b" * 64)[1]


def test_an_upload_belongs_to_its_answer(cast: Cast, heard: list[Any]) -> None:
    (task,) = offer(cast.device, update_bytes=10)
    assert code(answer, task, sha256="a" * 64) == "upload_incomplete"
    device_tasks.note_upload(task.pk, "a" * 64, 2.5)
    assert code(answer, task) == "digest_mismatch"
    assert code(answer, task, sha256="b" * 64) == "digest_mismatch"
    assert answer(task, sha256="a" * 64)[0]["sha256"] == "a" * 64
    assert heard[-1][3:] == ("a" * 64, 2.5)
    assert code(device_tasks.note_upload, task.pk, "c" * 64, None) == "task_closed"


def test_an_upload_replaced_between_look_and_move_is_not_answered_for(cast: Cast) -> None:
    (task,) = offer(cast.device, update_bytes=10)
    device_tasks.note_upload(task.pk, "a" * 64, None)
    seen = task_rows.find(cast.device.pk, task.public_id)
    assert seen is not None
    device_tasks.note_upload(task.pk, "b" * 64, None)
    with unit():
        assert not task_rows.close_answered(seen, clock.now(), "digest", {})
    assert state(task) == TaskState.OPEN


@pytest.mark.parametrize(("close", "closed"), [(device_tasks.cancel, "cancelled"), (device_tasks.expire, "expired")])
def test_a_late_answer_is_told_to_the_floor_above_and_refused(
    cast: Cast, heard: list[Any], close: Any, closed: str
) -> None:
    (task,) = offer(cast.device)
    with unit():
        assert close([task.pk]) == 1
        assert close([task.pk]) == 0
    with pytest.raises(FedportalError) as error:
        answer(task)
    assert (error.value.code, error.value.context["state"]) == ("task_closed", closed)
    assert heard == [("late", task.pk)]
    assert code(device_tasks.decline, cast.device.pk, task.public_id, b"") == "task_closed"


def test_declining_twice_is_declining_once(cast: Cast, heard: list[Any]) -> None:
    (task,) = offer(cast.device)
    for _ in range(2):
        device_tasks.decline(cast.device.pk, task.public_id, b'{"reason": "busy"}')
    assert heard == [("decline", task.pk, "busy")]
    assert code(answer, task) == "task_closed"


def test_a_foreign_task_does_not_exist(cast: Cast) -> None:
    (task,) = offer(cast.device)
    for who, which in ((cast.device.pk + 1, task.public_id), (cast.device.pk, "tsk_missing")):
        assert code(device_tasks.answer, who, which, b'{"samples": 1}') == "not_found"
        assert code(device_tasks.decline, who, which, b"{}") == "not_found"


def test_deadlines_of_unfinished_tasks_are_extended_by_the_downtime(cast: Cast) -> None:
    open_task, done = *offer(cast.device), *offer(cast.device)
    answer(done)
    before = {task.pk: task.deadline for task in DeviceTask.objects.all()}
    assert device_tasks.extend_deadlines(timedelta(seconds=90)) == 1
    after = {task.pk: task.deadline for task in DeviceTask.objects.all()}
    assert after[open_task.pk] - before[open_task.pk] == timedelta(seconds=90)
    assert after[done.pk] == before[done.pk]


def test_who_is_gone_is_whom_identifying_would_refuse(cast: Cast) -> None:
    caller = desk.identify(cast.device_key)
    stranger = Caller(1, "dev_x", 1, 10**9)
    assert desk.gone([caller, stranger]) == [stranger]
    Device.objects.filter(pk=cast.device.pk).update(state=DeviceState.QUARANTINED)
    assert desk.gone([caller]) == []
    assert desk.identify(cast.device_key) == caller
    Device.objects.filter(pk=cast.device.pk).update(state=DeviceState.RETIRED)
    assert desk.gone([caller]) == [caller]
    assert code(desk.identify, cast.device_key) == "device_inactive"


def test_seen_devices_are_noted_with_the_moment_and_never_earlier_than_before(cast: Cast) -> None:
    Device.objects.update(last_seen_at=None)
    now = clock.now()
    for at in (now, now - timedelta(seconds=1)):
        desk.note_seen([cast.device.pk], at)
        assert Device.objects.get(pk=cast.device.pk).last_seen_at == now
