"""`fedportal device run`: a machine that is a device already needs its enrolment key no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fedportal_sdk.cli.main import main
from fedwire import routes
from tests.sdk.server import Reply, Seen, found, refusal, serving
from tests.sdk.test_client import KEY, ROWS, Portal, task

Run = Callable[..., Result]


class Listening(Portal):
    """Hears signs of life, and refuses the device's key while `ended` holds a code."""

    def __init__(self) -> None:
        super().__init__()
        self.beats: list[str] = []
        self.ended = ""

    def __call__(self, number: int, seen: Seen) -> Reply:
        if seen.path.endswith("/heartbeat"):
            if self.ended:
                return refusal(self.ended, expired_at="today")
            self.beats.append(seen.body.decode())
            return found({"id": "dev_1", "status": "active"})
        if seen.path == routes.DEVICE_REGISTER:
            self.ended = ""
        return super().__call__(number, seen)


@pytest.fixture
def portal() -> Listening:
    return Listening()


@pytest.fixture
def run(portal: Listening, tmp_path: Path) -> Iterator[Run]:
    """Run the command once, for one round."""
    csv_file = tmp_path / "patients.csv"
    csv_file.write_text(ROWS)
    with ExitStack() as servers:
        url = servers.enter_context(serving(portal)).url

        def begin(key: str | None) -> Result:
            portal.tasks = [task()]
            environment = {"FEDPORTAL_URL": url, "FEDPORTAL_API_KEY": key, "FEDPORTAL_HOME": str(tmp_path / "home")}
            words = ["device", "run", "--data", str(csv_file), "--target", "diagnosis", "--identifier", "hospital-001"]
            return CliRunner().invoke(main, [*words, "--rounds", "1"], env=environment)

        yield begin


def test_the_first_start_registers_and_the_next_needs_no_enrolment_key(run: Run, portal: Listening) -> None:
    first = run(KEY)
    assert first.exit_code == 0
    assert [line.partition(" as ")[0] for line in first.stderr.splitlines()[:2]] == [
        "registered",
        "waiting for a round …",
    ]
    assert (len(portal.registrations), portal.beats) == (1, [])
    for key in (None, KEY):  # without it, and with one that may have ended meanwhile
        assert run(key).exit_code == 0
    assert len(portal.registrations) == 1
    assert len(portal.beats) == 2
    assert '"sdk_version"' in portal.beats[0]
    assert len(portal.answers) == 3


@pytest.mark.parametrize("code", ["key_expired", "key_revoked", "key_invalid"])
def test_a_device_whose_key_has_ended_registers_again(code: str, run: Run, portal: Listening) -> None:
    run(KEY)
    portal.ended = code
    assert run(KEY).exit_code == 0
    assert len(portal.registrations) == 2


def test_a_device_that_was_revoked_does_not_come_back_as_another(run: Run, portal: Listening) -> None:
    run(KEY)
    portal.ended = "device_inactive"
    said = run(KEY)
    assert said.exit_code == 1
    assert len(portal.registrations) == 1
