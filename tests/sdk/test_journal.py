"""What a device writes down before it says it: nothing that happens to the process, the file or a copy undoes it."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fedportal_sdk._journal import DAY, KEPT, FileJournal
from fedwire.errors import FedportalError
from tests.masking.conductor import Conductor, reason_of

A, B = frozenset({"dev_1", "dev_2"}), frozenset({"dev_2", "dev_3"})


@pytest.fixture
def journal(tmp_path: Path) -> FileJournal:
    return FileJournal(tmp_path / "device")


def again(journal: FileJournal) -> FileJournal:
    """The same file, as another process sees it."""
    return FileJournal(journal.path.parent)


def test_one_thing_is_said_once_in_a_session(journal: FileJournal) -> None:
    assert journal.settle("s1", "roster", "aa")
    assert journal.settle("s1", "roster", "aa")
    assert not journal.settle("s1", "roster", "bb")
    assert journal.settle("s1", "survivors", "bb")
    assert journal.settle("s2", "roster", "bb")
    assert not again(journal).settle("s1", "roster", "bb")


def test_first_key_of_a_device_stays(journal: FileJournal) -> None:
    journal.meet({"dev_1": "aa", "dev_2": "bb"})
    journal.meet({"dev_1": "cc", "dev_3": "dd"})
    assert again(journal).identities() == {"dev_1": "aa", "dev_2": "bb", "dev_3": "dd"}


def test_key_that_was_certified_later_takes_the_place_of_one_from_before(journal: FileJournal) -> None:
    journal.meet({"dev_1": "aa"})
    journal.renew({"dev_1": ("bb", 100), "dev_2": ("cc", 100)})
    assert again(journal).identities() == {"dev_1": "bb", "dev_2": "cc"}
    journal.renew({"dev_1": ("dd", 100), "dev_2": ("ee", 99)})  # a fork, and one from before
    journal.meet({"dev_1": "ff"})
    assert journal.identities() == {"dev_1": "bb", "dev_2": "cc"}


def test_file_of_the_first_version_is_gone_on_with(journal: FileJournal) -> None:
    journal.meet({"dev_1": "aa"})
    with sqlite3.connect(journal.path) as file:
        file.execute("ALTER TABLE met DROP COLUMN since")
        file.execute("PRAGMA user_version=1")
    journal.renew({"dev_1": ("bb", 100)})
    assert again(journal).identities() == {"dev_1": "bb"}


def test_of_two_processes_that_are_one_device_one_helps_with_almost_the_same_sum(journal: FileJournal) -> None:
    """Twenty models, and for each four sums of almost the same devices that are to be unmasked at the same time."""
    helped: dict[str, list[bool]] = {f"m{number}": [] for number in range(20)}
    barrier = threading.Barrier(4)

    def help_with(further: str) -> None:
        for model, said in helped.items():
            barrier.wait()
            said.append(again(journal).join(model, A | {further}, 10))

    threads = [threading.Thread(target=help_with, args=(f"dev_{number}",)) for number in range(3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(said.count(True) == 1 for said in helped.values())


def test_sums_belong_to_their_model(journal: FileJournal) -> None:
    assert journal.join("m1", A, 2)
    assert journal.join("m1", B, 2)
    assert journal.join("m1", A, 2)
    assert not journal.join("m1", frozenset({"dev_1"}), 2)
    assert set(again(journal).cohorts("m1")) == {A, B}
    assert list(journal.cohorts("m2")) == []


def test_what_is_pinned_stays(journal: FileJournal) -> None:
    assert journal.pinned("portal") == ""
    assert journal.pin("portal", "aa")
    assert journal.pin("portal", "aa")
    assert not journal.pin("portal", "bb")
    assert again(journal).pinned("portal") == "aa"
    assert not journal.repin("portal", "bb", "cc")
    assert journal.repin("portal", "aa", "cc")
    assert again(journal).pinned("portal") == "cc"


def test_rounds_are_counted_by_model_and_for_a_day(tmp_path: Path) -> None:
    now = [1e9]
    journal = FileJournal(tmp_path, clock=lambda: now[0])
    assert [journal.spend(f"s{number}", "m1", 2) for number in range(3)] == [True, True, False]
    assert journal.spend("s1", "m1", 2)  # the same session again is none more
    assert journal.spend("s3", "m2", 1)
    assert (journal.rounds("m1"), journal.rounds("m2"), journal.rounds("m3")) == (2, 1, 0)
    now[0] += DAY + 1
    assert journal.rounds("m1") == 0
    assert journal.spend("s4", "m1", 1)


def test_it_does_not_grow_without_end(journal: FileJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedportal_sdk._journal.KEPT", dict.fromkeys(KEPT, 5))
    for number in range(12):
        journal.settle(f"s{number}", "roster", "aa")
        journal.join(f"m{number}", A, 2)
        journal.spend(f"s{number}", "m", 1000)
    assert not journal.settle("s11", "roster", "bb")
    assert journal.settle("s0", "roster", "bb")  # long over; its keys were in a memory that is gone
    assert [len(journal.cohorts(f"m{number}")) for number in (6, 7, 11)] == [0, 1, 1]
    assert journal.rounds("m") == 5


def test_only_its_owner_may_read_it(journal: FileJournal) -> None:
    journal.settle("s1", "roster", "aa")
    assert journal.path.stat().st_mode & 0o077 == 0
    assert journal.path.parent.stat().st_mode & 0o077 == 0


SAYS_AND_DIES = """
import os, signal, sys
from pathlib import Path
from fedportal_sdk._journal import FileJournal
journal = FileJournal(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    assert journal.settle(f"s{number}", "survivors", "aa")
    journal.join(f"m{number}", frozenset({"dev_1"}), 2)
    print(number, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def started(journal: FileJournal, count: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", SAYS_AND_DIES, str(journal.path.parent), str(count)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def test_what_was_written_is_there_when_the_process_is_killed_before_it_answers(journal: FileJournal) -> None:
    with started(journal, 1) as process:
        assert process.stdout is not None
        assert process.stdout.read() == "0\n"
    assert process.returncode == -signal.SIGKILL
    assert not journal.settle("s0", "survivors", "bb")
    assert list(journal.cohorts("m0")) == [frozenset({"dev_1"})]


@pytest.mark.parametrize("after", [1, 4, 9])
def test_process_that_is_killed_while_it_writes_leaves_a_whole_file(after: int, journal: FileJournal) -> None:
    with started(journal, 10_000) as process:
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(after)]
        process.kill()
    for number in said:
        assert not journal.settle(f"s{number}", "survivors", "bb")
        assert list(journal.cohorts(f"m{number}")) == [frozenset({"dev_1"})]
    assert journal.settle("new", "survivors", "bb")


def test_of_two_processes_that_are_one_device_one_says_it(journal: FileJournal) -> None:
    """Twenty sessions, and in each four who want to say different things at the same time."""
    said: dict[str, list[bool]] = {f"s{number}": [] for number in range(20)}
    barrier = threading.Barrier(4)

    def say(what: str) -> None:
        mine = again(journal)
        for session, found in said.items():
            barrier.wait()
            found.append(mine.settle(session, "survivors", what))

    threads = [threading.Thread(target=say, args=(what,)) for what in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sum(found) for found in said.values()] == [1] * 20


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to look like one" * 40, b"SQLite format 3\0"]
)
def test_damaged_journal_is_no_empty_one(content: bytes, journal: FileJournal) -> None:
    journal.settle("s1", "roster", "aa")
    journal.path.write_bytes(content)
    with pytest.raises(FedportalError) as caught:
        journal.settle("s1", "roster", "bb")
    assert "cannot read or write its journal" in reason_of(caught.value)


def test_journal_that_cannot_be_written_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FedportalError) as caught:
        FileJournal(tmp_path / "file").identities()
    assert "cannot read or write its journal" in reason_of(caught.value)


def test_restored_copy_cannot_go_on_with_a_session(journal: FileJournal) -> None:
    """Keys of a session are in no file: whoever restores one, older or not, begins with other keys."""
    conductor = Conductor()
    conductor.journals["device-000"] = journal  # type: ignore[assignment]
    session = conductor.session("device-000")
    copy = journal.path.parent.with_name("copy")
    journal.identities()
    shutil.copytree(journal.path.parent, copy)
    roster = conductor.gather()
    conductor.sessions["device-000"].share(roster.adverts, roster.signed(conductor.key))
    conductor.journals["device-000"] = FileJournal(copy)  # type: ignore[assignment]
    restored = conductor.session("device-000")
    assert restored.advert.mask_key != session.advert.mask_key
    with pytest.raises(FedportalError) as caught:
        restored.share(roster.adverts, roster.signed(conductor.key))
    assert reason_of(caught.value) == "this device is not in the roster with the keys that it sent."


def test_device_that_was_started_again_does_not_accept_another_roster_of_the_session(journal: FileJournal) -> None:
    conductor = Conductor()
    conductor.journals["device-000"] = journal  # type: ignore[assignment]
    roster = conductor.gather()
    conductor.sessions["device-000"].share(roster.adverts, roster.signed(conductor.key))
    other = conductor.gather()  # the same terms, new keys
    with pytest.raises(FedportalError) as caught:
        conductor.sessions["device-000"].share(other.adverts, other.signed(conductor.key))
    assert reason_of(caught.value) == "this device took part in this session before; it needs a new one."


def test_folder_of_others_is_left_as_it_is(journal: FileJournal) -> None:
    journal.settle("s1", "roster", "aa")
    assert os.listdir(journal.path.parent) == [journal.path.name]
