"""Everything that runs during the demonstration: the portal, a mail server for its letters, the hospitals' devices."""

from __future__ import annotations

import email
import json
import os
import queue
import re
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Self

import psutil
from aiosmtpd.controller import Controller

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60
STOP_SECONDS = 15


class Letters:
    """An SMTP server that keeps what it gets, and writes each letter into `folder`, if any, for whoever plays along."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._count = 0
        self._arrived: queue.Queue[Any] = queue.Queue()
        self.port = _free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        letter = email.message_from_bytes(envelope.content, policy=policy.default)
        self._count += 1
        if self.folder is not None:
            name = re.sub(r"[^\w.@-]+", "_", envelope.rcpt_tos[0])
            text = read(letter)
            (self.folder / f"{self._count:03d}-{name}.txt").write_text(f"{letter['subject']}\n\n{text}")
        self._arrived.put((envelope.rcpt_tos, letter))
        return "250 taken"

    def link_for(self, address: str, seconds: float = 30) -> str:
        """The link in the next letter to this address. Raises queue.Empty when none comes."""
        give_up = time.monotonic() + seconds
        while True:
            to, letter = self._arrived.get(timeout=max(0.1, give_up - time.monotonic()))
            if address in to:
                text = read(letter)
                return re.findall(r"https?://\S+/invitations/\S+", text)[0]

    def close(self) -> None:
        self._controller.stop()


def read(letter: EmailMessage) -> str:
    """The plain text of a letter; "" without one."""
    body = letter.get_body(preferencelist=("plain",))
    return str(body.get_content()) if body is not None else ""


class Stage:
    """A context: the portal runs inside, and at the end no process is left."""

    def __init__(self, folder: Path, port: int, **env: object) -> None:
        self.folder = folder
        self.data = folder / "portal"
        self.port = port
        self.url = ""
        self._env = {f"FEDPORTAL_{name}": str(value) for name, value in env.items()}
        self._ends = ExitStack()
        self._devices: list[subprocess.Popen[bytes]] = []
        self._portal: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.letters = Letters(self.folder / "letters")
        self._ends.callback(self.letters.close)
        self._start_portal()
        return self

    def __exit__(self, *_: object) -> None:
        for device in self._devices:
            device.terminate()
        for device in self._devices:
            _end(device)
        if self._portal is not None:
            self._portal.terminate()
            _end(self._portal)
        self._ends.close()

    @property
    def environment(self) -> dict[str, str]:
        """Of the portal and of management commands beside it."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FEDPORTAL_")}
        return (
            clean
            | self._env
            | {
                "FEDPORTAL_DATA_DIR": str(self.data),
                "FEDPORTAL_PUBLIC_URL": self.url or f"http://127.0.0.1:{self.port}",
                "FEDPORTAL_EMAIL_URL": f"smtp://127.0.0.1:{self.letters.port}",
            }
        )

    def found(self, name: str, address: str, password: str) -> dict[str, Any]:
        """What an operator does for the first organizations of a fresh portal."""
        command = ["manage.py", "found_organization", "--name", name, "--email", address, "--password", password]
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=True
        )
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))

    def device(
        self, key: str, identifier: str, csv_file: Path, module: str = "deploy.demo.hospital", *arguments: str
    ) -> None:
        """Start a hospital's device in a process of its own."""
        told = {"URL": self.url, "API_KEY": key, "DEVICE": identifier, "HOME": str(self.folder / f"home-{identifier}")}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FEDPORTAL_")}
        log = self._ends.enter_context((self.folder / f"{identifier}.log").open("wb"))
        self._devices.append(
            subprocess.Popen(
                [sys.executable, "-m", module, *arguments, str(csv_file)],
                cwd=ROOT,
                env=environment | {f"FEDPORTAL_{name}": value for name, value in told.items()},
                stdout=log,
                stderr=log,
            )
        )

    def peak_rss_mb(self) -> float:
        """The most resident memory the portal had so far, in MB (10⁶ bytes)."""
        assert self._portal is not None
        status = Path(f"/proc/{self._portal.pid}/status")
        if status.exists() and (match := re.search(r"VmHWM:\s+(\d+)", status.read_text())):
            return int(match[1]) * 1024 / 1e6
        return float(psutil.Process(self._portal.pid).memory_info().rss / 1e6)

    def wait(self) -> None:
        """Stay until the portal ends or Ctrl-C."""
        assert self._portal is not None
        self._portal.wait()

    def _start_portal(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        for wheel in (ROOT / ".venv" / "sdk").glob("*.whl"):
            (self.data / "sdk").mkdir(exist_ok=True)
            (self.data / "sdk" / wheel.name).write_bytes(wheel.read_bytes())
        log = self._ends.enter_context((self.folder / "portal.log").open("w"))
        self.port = self.port or _free_port()
        self._portal = subprocess.Popen(
            [sys.executable, "-m", "fedportal.embedded", "--port", str(self.port)],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        assert self._portal.stdout is not None
        for line in self._portal.stdout:
            if match := re.search(r"https?://\S+", line):
                self.url = match[0]
                return
        last = (self.folder / "portal.log").read_text().strip().splitlines()[-1:] or ["no word"]
        raise SystemExit(f"The portal did not start: {last[0]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(process: subprocess.Popen[Any]) -> None:
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
