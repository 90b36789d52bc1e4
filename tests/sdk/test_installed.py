"""Versions that a device's organization gives it: whole or not there, whenever the power goes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from fedportal_sdk._door import DeviceDoor
from fedportal_sdk._http import Http
from fedportal_sdk._installing import Installer
from fedportal_sdk._retry import Patience, Stop
from fedportal_sdk.installed import Installed, health_report
from fedwire import routes
from fedwire.errors import FedportalError
from tests.sdk.server import Reply, Seen, found, refusal, serving

OLD, NEW, NEXT = b"the old version", b"the new version" * 1000, b"the next version"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put(installed: Installed, version: str, content: bytes) -> None:
    installed.put("mdl_1", "radiology-v1", version, sha256(content), content)


def test_a_version_is_found_by_id_and_name_and_lies_under_its_digest(tmp_path: Path) -> None:
    installed = Installed(tmp_path)
    put(installed, "1.0.0", OLD)
    for name in ("mdl_1", "radiology-v1", None):
        model = installed.find(name)
        assert (model.version, model.sha256, model.path.read_bytes()) == ("1.0.0", sha256(OLD), OLD)
    assert os.stat(model.path).st_mode & 0o077 == 0


def test_without_one_the_device_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FedportalError) as none:
        Installed(tmp_path).find("radiology-v1")
    assert none.value.code == "not_installed"


def test_two_models_are_told_apart(tmp_path: Path) -> None:
    installed = Installed(tmp_path)
    put(installed, "1.0.0", OLD)
    installed.put("mdl_2", "cardiology", "3.0.0", sha256(NEW), NEW)
    assert [one.name for one in installed.all()] == ["cardiology", "radiology-v1"]
    with pytest.raises(FedportalError) as many:
        installed.find()
    assert many.value.code == "ambiguous_name"


def test_the_version_before_is_kept_and_no_other(tmp_path: Path) -> None:
    installed = Installed(tmp_path)
    for version, content in (("1.0.0", OLD), ("2.0.0", NEW), ("2.0.0", NEW), ("3.0.0", NEXT)):
        put(installed, version, content)
    kept = {path.read_bytes() for path in tmp_path.glob("*/*.safetensors")}
    assert kept == {NEW, NEXT}
    assert installed.find().version == "3.0.0"


def test_a_removed_version_leaves_nothing(tmp_path: Path) -> None:
    installed = Installed(tmp_path)
    put(installed, "1.0.0", OLD)
    installed.remove("mdl_1")
    installed.remove("mdl_1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", [NEW + b"!", NEW[:-1], b""], ids=["longer", "shorter", "empty"])
@pytest.mark.parametrize("as_file", [False, True], ids=["bytes", "file"])
def test_a_tampered_file_is_refused_and_nothing_changes(tmp_path: Path, given: bytes, as_file: bool) -> None:
    installed, source = Installed(tmp_path / "installed"), tmp_path / "download"
    put(installed, "1.0.0", OLD)
    source.write_bytes(given)
    with pytest.raises(FedportalError) as refused:
        installed.put("mdl_1", "radiology-v1", "2.0.0", sha256(NEW), source if as_file else given)
    assert refused.value.code == "digest_mismatch"
    assert installed.find().path.read_bytes() == OLD
    assert len(list((tmp_path / "installed").glob("*/*"))) == 2


def test_a_file_that_was_damaged_on_the_disk_is_written_anew(tmp_path: Path) -> None:
    installed = Installed(tmp_path)
    put(installed, "1.0.0", OLD)
    installed.find().path.write_bytes(b"rust")
    put(installed, "1.0.0", OLD)
    assert installed.find().path.read_bytes() == OLD


def test_a_version_keeps_how_it_is_computed(tmp_path: Path) -> None:
    installed, described = Installed(tmp_path), {"kind": "logistic", "inputs": 3}
    put(installed, "1.0.0", OLD)
    assert installed.find().architecture is None
    installed.put("mdl_1", "radiology-v1", "2.0.0", sha256(NEW), NEW, described)
    assert installed.find().architecture == described


def test_latencies_are_told_by_class_however_they_were_counted(tmp_path: Path) -> None:
    put(installed := Installed(tmp_path), "1.0.0", OLD)
    taken = health_report(installed.find(), {"count": 3, "latencies_ms": [0.5, 1.5, 1.6]})
    classed = health_report(installed.find(), {"count": 3, "latencies": taken["latencies"]})
    assert taken["latencies"] == [1, 2, *[0] * 13]
    assert classed == {**taken, "batch": classed["batch"]}


class PowerLoss(BaseException):
    """The machine is off: nobody catches this."""


@contextmanager
def power_lost_before(step: int, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lose power before the step-th time that something on the disk is changed or synced."""
    steps = 0

    def counted(plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps >= step:  # also what cleans up on the way out
                raise PowerLoss
            return plain(*args, **kwargs)

        return call

    with patch.context() as patched:
        for name in ("open", "replace", "fsync", "unlink", "mkdir", "rmdir"):
            patched.setattr(os, name, counted(getattr(os, name)))
        yield


# What is installed one after the other, and then what the device is asked for; None: to have nothing.
UPDATES: dict[str, tuple[list[bytes], bytes | None]] = {
    "first": ([], NEW),
    "second": ([OLD], NEW),
    "third": ([OLD, NEW], NEXT),
    "the same again": ([OLD, NEW], NEW),
    "back": ([OLD, NEW], OLD),
    "away": ([OLD, NEW], None),
}


def change(installed: Installed, content: bytes | None) -> None:
    if content is None:
        installed.remove("mdl_1")
    else:
        put(installed, sha256(content)[:8], content)


def in_use(installed: Installed) -> bytes | None:
    """The content of the version in use, which is what its name says."""
    for one in installed.all():
        assert sha256(one.path.read_bytes()) == one.sha256
        return one.path.read_bytes()
    return None


@pytest.mark.parametrize(("before", "asked"), UPDATES.values(), ids=UPDATES)
def test_power_lost_at_any_step_leaves_a_whole_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: list[bytes], asked: bytes | None
) -> None:
    had = before[-1] if before else None
    for step in count(1):
        folder = tmp_path / str(step)
        for content in before:
            put(Installed(folder), sha256(content)[:8], content)
        try:
            with power_lost_before(step, monkeypatch):
                change(Installed(folder), asked)
            break
        except PowerLoss:
            assert in_use(Installed(folder)) in (had, asked)
            change(Installed(folder), asked)
            assert in_use(Installed(folder)) == asked
    # To have again what is there writes nothing; everything else has many steps at which power could be lost.
    assert step > (0 if asked == had else 3), step


@pytest.mark.parametrize("asked", [NEW, OLD], ids=["goes on", "goes back"])
def test_what_an_interrupted_update_left_behind_is_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bytes
) -> None:
    left = set()
    for step in range(1, 12):
        folder = tmp_path / str(step)
        for content in (OLD, NEXT):
            put(Installed(folder), "1.0.0", content)
        with contextlib.suppress(PowerLoss), power_lost_before(step, monkeypatch):
            put(Installed(folder), "2.0.0", NEW)
        left.update(path.suffix for path in folder.glob("*/*"))
        change(Installed(folder), asked)
        assert sorted(path.suffix for path in folder.glob("*/*")) == [".json", ".safetensors", ".safetensors"]
        assert in_use(Installed(folder)) == asked
    assert ".part" in left


def test_what_a_name_leads_to_is_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    plain_sync, plain_replace = os.fsync, os.replace
    named: list[str] = []

    def sync(descriptor: int) -> None:
        plain_sync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def replace(source: Any, target: Any) -> None:
        assert os.stat(source).st_ino in synced, f"{target} would name what is not on the disk"
        plain_replace(source, target)
        named.append(Path(target).name)
        synced.discard(os.stat(Path(target).parent).st_ino)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    installed = Installed(tmp_path)
    for content in (OLD, NEW):
        put(installed, sha256(content)[:8], content)
        assert named[-2:] == [f"{sha256(content)}.safetensors", "current.json"]
        # The folder, too: the names themselves.
        assert os.stat(installed.find().path.parent).st_ino in synced


def task_of(content: bytes, version: str = "2.0.0", size: int | None = None) -> Any:
    install = {"rollout": "rol_1", "version": version, "size": len(content) if size is None else size}
    digest = sha256(content) if version else ""
    named = {"run": "", "round": 0, "attempt": 0, "model": "mdl_1", "model_name": "radiology-v1"}
    return {"id": "tsk_1", "kind": "install", **named, "base_digest": digest, "manifest": [], "install": install}


def taken(
    tmp_path: Path,
    task: Any,
    answer: Callable[[int, Seen], Reply],
    remote: Callable[[Callable[[], Any]], Any] = lambda call: call(),
) -> tuple[Installed, list[Seen], list[str]]:
    """What is installed after the task was taken, what the portal was asked, and what was told."""
    told: list[str] = []
    installed = Installed(tmp_path / "installed")
    with serving(answer) as server:
        door = DeviceDoor(Http(server.url, "edg_key", timeout=5), Patience(Stop()), tmp_path / "models", "tag")
        installer = Installer(door, installed, Stop(), lambda event, **values: told.append(event))
        installer.take(task, remote)
    return installed, server.seen, told


def portal_with(content: bytes) -> Callable[[int, Seen], Reply]:
    return lambda number, seen: Reply(200, content) if seen.method == "GET" else found({"state": "answered"}, 201)


@pytest.mark.parametrize("content", [NEW, b"a large one" * 200_000], ids=["small", "large"])
def test_a_task_is_done_and_answered(tmp_path: Path, content: bytes) -> None:
    installed, asked, told = taken(tmp_path, task_of(content), portal_with(content))
    assert installed.find("radiology-v1").path.read_bytes() == content
    assert (asked[-1].path, json.loads(asked[-1].body)) == (routes.TASK_ANSWER.format(task="tsk_1"), {"samples": 0})
    assert told[-1] == "installed"


def test_a_task_without_a_version_takes_the_model_away(tmp_path: Path) -> None:
    put(Installed(tmp_path / "installed"), "1.0.0", OLD)
    installed, asked, told = taken(tmp_path, task_of(b"", version=""), portal_with(b""))
    assert installed.all() == []
    assert [one.method for one in asked] == ["POST"]
    assert told == ["uninstalled"]


def test_what_is_not_the_announced_file_is_declined_and_the_old_version_stays(tmp_path: Path) -> None:
    put(Installed(tmp_path / "installed"), "1.0.0", OLD)
    installed, asked, told = taken(tmp_path, task_of(NEW), portal_with(NEW[:-1] + b"?"))
    assert installed.find().path.read_bytes() == OLD
    assert asked[-1].path == routes.TASK_DECLINE.format(task="tsk_1")
    assert json.loads(asked[-1].body) == {"reason": "digest_mismatch"}
    assert told == ["declined"]


def test_a_task_that_was_closed_meanwhile_is_passed_over(tmp_path: Path) -> None:
    closed = refusal("task_closed", task="tsk_1", state="cancelled")
    _, asked, told = taken(tmp_path, task_of(NEW), lambda number, seen: closed)
    assert (len(asked), told) == (1, ["closed"])


@pytest.mark.parametrize("content", [NEW, b"a large one" * 200_000], ids=["small", "large"])
def test_power_lost_at_any_step_of_a_task_has_it_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    for step in count(1):
        home = tmp_path / str(step)
        put(Installed(home / "installed"), "1.0.0", OLD)
        try:
            with power_lost_before(step, monkeypatch):
                taken(home, task_of(content), portal_with(content))
            break
        except PowerLoss:
            assert in_use(Installed(home / "installed")) in (OLD, content)
            installed, asked, told = taken(home, task_of(content), portal_with(content))
            assert (in_use(installed), asked[-1].method, told[-1]) == (content, "POST", "installed")
    assert step > 6, step


def test_power_lost_before_the_answer_has_the_same_answered_later(tmp_path: Path) -> None:
    def off() -> None:
        raise PowerLoss

    calls = iter((lambda call: call(), lambda call: off()))
    with pytest.raises(PowerLoss):
        taken(tmp_path, task_of(NEW), portal_with(NEW), lambda call: next(calls)(call))
    assert in_use(Installed(tmp_path / "installed")) == NEW
    installed, asked, told = taken(tmp_path, task_of(NEW), portal_with(NEW))
    assert (in_use(installed), asked[-1].method, told[-1]) == (NEW, "POST", "installed")


def test_a_disk_that_takes_nothing_is_told_and_the_old_version_stays(tmp_path: Path) -> None:
    put(Installed(tmp_path / "installed"), "1.0.0", OLD)
    folder = Installed(tmp_path / "installed").find().path.parent
    (folder / f"{sha256(NEW)}.part").mkdir()  # no file can be written there
    installed, asked, told = taken(tmp_path, task_of(NEW), portal_with(NEW))
    assert in_use(installed) == OLD
    assert (json.loads(asked[-1].body), told[-1]) == ({"reason": "file_unwritable"}, "declined")
