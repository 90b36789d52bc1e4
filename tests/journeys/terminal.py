"""The command line as people and programs use it: processes of `fedportal` with a home of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.demo.browser import Browser
from deploy.demo.stage import Letters
from tests import nursery
from tests.journeys.story import FEDERATION, MODEL, patients
from tests.running import ROOT, Portal

PROGRAM = Path(sys.executable).with_name("fedportal")
SECONDS = 120
DESCRIBED = '{"kind": "logistic", "inputs": 6, "classes": 2, "standardise": true}'
# A place of this machine at which nobody listens; webhooks may go there.
NOBODY = "127.0.0.1:9"
PASSWORD = "a long and quiet password"


@dataclass(frozen=True)
class Said:
    """What a command printed, and how it ended."""

    command: str
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """The error as --json prints it on standard error."""
        return json.loads(self.err)


class Terminal:
    """Somebody at a terminal: what `login` saves stays in `home`."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FEDPORTAL_")}
        self.environment = kept | {"FEDPORTAL_HOME": str(home), "COLUMNS": "80", **environment}

    def try_(self, *words: str, typed: str | None = None) -> Said:
        """Run `fedportal WORDS`, however it ends. It begins warm; what is started and pasted begins cold."""
        typed = typed if typed is not None else ""
        done = nursery.finished(nursery.COMMANDS, [str(PROGRAM), *words], self.environment, typed, SECONDS)
        assert "Traceback" not in done.stderr, done.stderr
        return Said("fedportal " + " ".join(words), done.returncode, done.stdout, done.stderr)

    def run(self, *words: str, typed: str | None = None) -> str:
        """What the command prints for people; it must succeed."""
        said = self.try_(*words, typed=typed)
        assert said.code == 0, f"{said.command}\n{said.out}{said.err}"
        return said.out

    def json(self, *words: str, typed: str | None = None) -> Any:
        """What the command prints for programs: one document on standard output and nothing on standard error."""
        said = self.try_(*words, "--json", typed=typed)
        assert (said.code, said.err) == (0, ""), f"{said.command}\n{said.out}{said.err}"
        return said.json

    def refused(self, *words: str) -> str:
        """What people read on standard error when the command is refused: a sentence and the next step."""
        said = self.try_(*words)
        assert (said.code, said.out) == (1, ""), f"{said.command}: {said.code}\n{said.out}{said.err}"
        assert said.err.startswith("Error: "), said.err
        assert "\nNext:" in said.err, said.err
        return said.err

    def code(self, *words: str) -> str:
        """The code of the error with which the command is refused, as programs get it."""
        said = self.try_(*words, "--json")
        assert (said.code, said.out) == (1, ""), f"{said.command}: {said.code}\n{said.out}{said.err}"
        assert said.error["message"], said.error
        assert said.error["next_step"], said.error
        return str(said.error["error"])

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command that takes long; the caller ends it."""
        return subprocess.Popen(
            [str(PROGRAM), *words],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


class World:
    """A portal with a mail server, and the terminals of acme and metro, which have logged in."""

    def __init__(self, portal: Portal, letters: Letters, folder: Path) -> None:
        self.portal, self.letters, self.folder = portal, letters, folder
        self.ids: dict[str, str] = {}
        self.keys: dict[str, str] = {}
        self.acme = self._organization("acme", "olga")
        self.metro = self._organization("metro", "mia")

    def _organization(self, name: str, person: str) -> Terminal:
        founded = self.portal.found(name, f"{person}@{name}.example")
        self.ids[name], self.keys[name] = founded["org_id"], founded["api_key"]
        terminal = Terminal(self.folder / name)
        terminal.run("login", "--url", self.portal.url, "--api-key", founded["api_key"])
        return terminal

    def federation(self) -> None:
        """acme and metro in a federation."""
        self.acme.run("federation", "create", FEDERATION)
        self.acme.run("federation", "invite", FEDERATION, "--org", self.ids["metro"])
        self.metro.run("federation", "join", FEDERATION)

    def model(self) -> None:
        """A described model, shared."""
        self.acme.run("push", MODEL, "--architecture", DESCRIBED)
        self.acme.run("federation", "share", MODEL, "--federation", FEDERATION)

    def accept(self, address: str, **more: str) -> Browser:
        """Somebody without an account takes the link of their letter; their browser."""
        browser = Browser(self.portal.url)
        said = {"name": "New", "new_password": PASSWORD, "answer": "accept", **more}
        browser.submit(self.letters.link_for(address), "new_password", **said)
        return browser

    def valley(self) -> Terminal:
        """vera of valley takes the letter's link, founds her organization on the way, and logs in."""
        browser = self.accept("vera@valley.example", organization_name="valley")
        key = browser.call("/api/v1/api-keys", {"name": "devices", "scopes": ["devices:enroll"]})["key"]
        terminal = Terminal(self.folder / "valley")
        terminal.run("login", "--url", self.portal.url, typed=f"{key}\n")
        return terminal

    @contextmanager
    def device(self, terminal: Terminal, identifier: str, number: int, *more: str) -> Iterator[subprocess.Popen[str]]:
        """A device at work; afterwards it is stopped if it still runs."""
        csv_file = patients(self.folder / f"{identifier}.csv", number)
        words = ("device", "run", MODEL, "--data", str(csv_file), "--target", "diagnosis", "--identifier", identifier)
        process = terminal.start(*words, *more)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


@contextmanager
def world_in(folder: Path) -> Iterator[World]:
    """A world with nothing in it but acme and metro."""
    letters = Letters()
    try:
        with Portal(EMAIL_URL=f"smtp://127.0.0.1:{letters.port}", WEBHOOK_TEST_HOSTS=NOBODY) as portal:
            yield World(portal, letters, folder)
    finally:
        letters.close()
