"""A round behind an edge: who gets a task, whose answer counts, and what a restart leaves of it."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedportal_sdk.edge.enrolment import Enrolment, Member
from fedportal_sdk.edge.rounds import GONE_SECONDS, PRESENT_SECONDS, Rounds
from fedportal_sdk.edge.store import Store
from fedportal_sdk.edge.terms import Terms
from fedportal_sdk.edge.uploads import receive
from fedwire.errors import FedportalError
from fedwire.tensors import encode_update
from tests.edge.conftest import Clock
from tests.edge.test_edge import task
from tests.edge.test_enrolment import signed
from tests.sdk.test_client import ARCHITECTURE, MANIFEST, MODEL

DEADLINE = 100.0


class Scene:
    """An edge's rounds with two devices; `again` is the edge after it was killed."""

    def __init__(self, folder: Path, clock: Clock, terms: Terms | None = None) -> None:
        self.folder, self.clock, self.terms = folder, clock, terms or Terms()
        self.again()
        key = self.enrolment.make_key()
        self.members = []
        for name in ("hospital-001", "hospital-002"):
            given = self.enrolment.register(key, signed(folder / name, key, name))
            self.members.append(self.enrolment.identify(given["device_key"]))

    def again(self) -> None:
        self.store = Store(self.folder / "edge")
        self.enrolment = Enrolment(self.store, now=self.clock)
        self.rounds = Rounds(self.store, self.enrolment, self.terms, self.clock)

    def open(self, asked: dict[str, Any]) -> None:
        self.rounds.open(asked, MODEL, self.clock() + DEADLINE)  # type: ignore[arg-type]

    def asked(self, member: Member) -> Any:
        return self.rounds.next_task(member, 0)

    def send(self, member: Member, number: float, samples: int = 10, **more: Any) -> tuple[str, dict[str, Any]]:
        """Upload and answer; the part's id and the answer."""
        part = self.asked(member)["id"]
        digest = self.upload(member, part, number)
        answer = {"sha256": digest, "samples": samples, **more}
        self.rounds.answer(member, part, json.dumps(answer).encode())
        return part, answer

    def upload(self, member: Member, part: str, number: float) -> str:
        arrays = {name: 0 * array + number for name, array in arrays_of_zero().items()}
        content = encode_update(MANIFEST, arrays)
        digest = receive(self.rounds.part(member, part).staging, MANIFEST, 0, iter([content]), None)
        assert digest == hashlib.sha256(content).hexdigest()
        self.rounds.stored(member, part, digest)
        return digest


def arrays_of_zero() -> dict[str, Any]:
    return {name: array * 0 for name, array in ARCHITECTURE.initial().items()}


@pytest.fixture
def scene(tmp_path: Path, clock: Clock) -> Scene:
    return Scene(tmp_path, clock)


def refused(call: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(FedportalError) as caught:
        call(*arguments)
    return caught.value.code


def test_a_device_gets_a_task_of_its_own_and_the_same_one_again(scene: Scene) -> None:
    one, other = scene.members
    assert scene.asked(one) is None
    asked = task(training={"epochs": 1, "seed": 5, "codec": {"name": "int8"}, "requires": ["codec.int8", "proximal"]})
    scene.open(asked)
    first, second = scene.asked(one), scene.asked(other)
    assert first["id"] != second["id"] != asked["id"]
    assert scene.asked(one) == first
    assert first["training"]["seed"] != second["training"]["seed"]
    assert first["training"]["requires"] == ["proximal"]
    assert "codec" not in first["training"]
    assert first["answer"]["update_bytes"] == MANIFEST.update_bytes
    assert first["seconds_left"] == DEADLINE


def test_a_device_sees_neither_the_task_nor_the_update_of_another(scene: Scene) -> None:
    one, other = scene.members
    scene.open(task())
    part = scene.asked(one)["id"]
    assert refused(scene.rounds.part, other, part) == "not_found"
    assert refused(scene.rounds.answer, other, part, b'{"samples": 1}') == "not_found"
    assert refused(scene.rounds.decline, other, part, b"{}") == "not_found"


def test_an_answer_is_counted_once_and_its_repetition_gets_the_same_receipt(scene: Scene) -> None:
    one, _ = scene.members
    scene.open(task())
    part, answer = scene.send(one, 1.0)
    again, first = scene.rounds.answer(one, part, json.dumps(answer).encode())
    assert (again["samples"], again["sha256"], first) == (10, answer["sha256"], False)
    assert refused(scene.rounds.answer, one, part, json.dumps({**answer, "samples": 11}).encode()) == "answer_differs"
    assert scene.asked(one) is None
    assert [said["samples"] for said in scene.rounds.close()] == [10]


def test_an_answer_without_its_update_or_with_another_one_is_refused(scene: Scene) -> None:
    one, _ = scene.members
    scene.open(task())
    part = scene.asked(one)["id"]
    answer = json.dumps({"sha256": "0" * 64, "samples": 10}).encode()
    assert refused(scene.rounds.answer, one, part, answer) == "upload_incomplete"
    scene.upload(one, part, 1.0)
    assert refused(scene.rounds.answer, one, part, answer) == "digest_mismatch"


def test_another_upload_takes_the_place_of_the_first_until_the_answer(scene: Scene) -> None:
    one, _ = scene.members
    scene.open(task())
    part = scene.asked(one)["id"]
    first, second = scene.upload(one, part, 1.0), scene.upload(one, part, 2.0)
    assert refused(scene.rounds.answer, one, part, json.dumps({"sha256": first, "samples": 1}).encode()) == (
        "digest_mismatch"
    )
    scene.rounds.answer(one, part, json.dumps({"sha256": second, "samples": 1}).encode())
    (piece,) = scene.rounds.pieces(scene.rounds.close())
    assert hashlib.sha256(piece.path.read_bytes()).hexdigest() == second == piece.sha256
    assert list(piece.path.parent.glob("*.update")) == [piece.path]  # or one device could fill the disk


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"samples": 0}, "samples_invalid"),
        ({"samples": 2000}, "samples_invalid"),
        ({"samples": 4}, "records_too_few"),
        ({"evaluation": {"samples": -1}}, "metrics_invalid"),
    ],
)
def test_what_the_portal_would_refuse_is_refused_here(tmp_path: Path, clock: Clock, more: Any, code: str) -> None:
    """Each device is held to the floor of the organization's policy, or to the edge's own if that is higher."""
    scene = Scene(tmp_path, clock, Terms(least_records=5))
    scene.open(task())
    one, _ = scene.members
    assert scene.asked(one)["answer"]["least_records"] == 5
    part = scene.asked(one)["id"]
    digest = scene.upload(one, part, 1.0)
    body = json.dumps({"sha256": digest, "samples": 10, **more}).encode()
    assert refused(scene.rounds.answer, one, part, body) == code


def test_statistics_of_another_width_are_refused(scene: Scene) -> None:
    one, _ = scene.members
    scene.open(task("statistics"))
    part = scene.asked(one)["id"]
    wide = {"samples": 9, "statistics": {"samples": 9, "mean": [1.0] * 3, "m2": [1.0] * 3}}
    assert refused(scene.rounds.answer, one, part, json.dumps(wide).encode()) == "metrics_invalid"


def test_whoever_comes_after_the_end_is_late_and_counts_no_more(scene: Scene) -> None:
    one, other = scene.members
    scene.open(task())
    part = scene.asked(other)["id"]
    scene.send(one, 1.0)
    assert len(scene.rounds.close()) == 1
    assert refused(scene.rounds.answer, other, part, b'{"samples": 3}') == "task_closed"
    assert refused(scene.rounds.part, other, part) == "task_closed"
    row = scene.store.one("SELECT state FROM parts WHERE id = ?", [part])
    assert row is not None
    assert row["state"] == "late"


def test_a_device_that_declines_is_not_asked_again_and_not_waited_for(scene: Scene) -> None:
    one, other = scene.members
    scene.open(task())
    part = scene.asked(one)["id"]
    for _ in range(2):
        assert scene.rounds.decline(one, part, b'{"reason": "no rows"}')["state"] == "declined"
    assert scene.asked(one) is None
    scene.send(other, 1.0)
    standing = scene.rounds.standing()
    assert (standing.answered, standing.unfinished) == (1, 0)


def test_who_was_there_is_waited_for_until_it_has_not_been_heard_of(scene: Scene) -> None:
    one, other = scene.members
    scene.open(task())  # both registered a moment ago
    assert scene.rounds.standing().unfinished == 2
    scene.send(one, 1.0)
    assert scene.rounds.standing().unfinished == 1
    scene.clock.time += GONE_SECONDS + 1
    assert (scene.rounds.standing().unfinished, scene.rounds.present()) == (0, 0)
    scene.enrolment.saw(other.id)
    assert (scene.rounds.standing().unfinished, scene.rounds.present()) == (1, 1)
    scene.enrolment.revoke(other.identifier)
    assert scene.rounds.standing().unfinished == 0


def test_who_was_seen_long_ago_is_not_expected(scene: Scene) -> None:
    scene.clock.time += PRESENT_SECONDS + 1
    scene.open(task())
    assert scene.rounds.standing().unfinished == 0
    scene.asked(scene.members[0])
    assert scene.rounds.standing().unfinished == 1


def test_an_edge_that_was_killed_goes_on_where_it_was(scene: Scene) -> None:
    """Acknowledged answers stay and count once; a device at work finishes its task though the portal is away."""
    one, other = scene.members
    scene.open(task())
    part, answer = scene.send(one, 1.0)
    waiting = scene.asked(other)["id"]
    scene.again()
    assert scene.asked(other)["id"] == waiting
    assert scene.rounds.answer(one, part, json.dumps(answer).encode())[1] is False
    scene.send(other, 2.0, samples=30)
    scene.open(task())  # the portal hands its task out again
    found = scene.rounds.close()
    assert sorted(said["samples"] for said in found) == [10, 30]
    assert all(piece.path.exists() for piece in scene.rounds.pieces(found))


def test_an_edge_that_was_killed_while_it_added_up_takes_no_further_answers(scene: Scene) -> None:
    one, other = scene.members
    scene.open(task())
    scene.send(one, 1.0)
    late = scene.asked(other)["id"]
    before = scene.rounds.close()
    scene.again()
    scene.open(task())
    assert refused(scene.rounds.answer, other, late, b'{"samples": 3}') == "task_closed"
    assert scene.asked(other) is None
    assert scene.rounds.close() == before


def test_another_task_of_the_portal_ends_the_round_before_and_its_files(scene: Scene) -> None:
    one, _ = scene.members
    scene.open(task())
    part, _ = scene.send(one, 1.0)
    folders = list((scene.folder / "edge" / "rounds").iterdir())
    scene.open(task(number=2))
    assert [folder.exists() for folder in folders] == [False]
    assert refused(scene.rounds.part, one, part) == "task_closed"
    assert scene.asked(one)["round"] == 2


def test_the_files_of_an_answered_round_are_gone(scene: Scene) -> None:
    one, _ = scene.members
    scene.open(task())
    scene.send(one, 1.0)
    scene.rounds.close()
    scene.rounds.end("tsk_1")
    assert list((scene.folder / "edge" / "rounds").iterdir()) == []
    assert scene.asked(one) is None
    assert scene.rounds.took_part(one, "run_1")
    assert not scene.rounds.took_part(scene.members[1], "run_1")


def test_a_device_that_waits_twice_is_served_on_the_later_connection(scene: Scene) -> None:
    one, _ = scene.members
    scene.clock.time += PRESENT_SECONDS + 1  # from now on only who waits is there
    codes: list[str] = []
    first = threading.Thread(target=lambda: codes.append(refused(scene.rounds.next_task, one, 20)))
    first.start()
    while not scene.rounds.present():
        time.sleep(0.01)
    assert scene.rounds.next_task(one, 0) is None
    first.join(20)
    assert codes == ["conflict"]
    scene.rounds.stop()
    assert refused(scene.rounds.next_task, one, 20) == "unavailable"
