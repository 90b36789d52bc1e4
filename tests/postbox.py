"""A real SMTP server for tests, which keeps the letters: `with Postbox() as post: Portal(EMAIL_URL=post.url)`."""

from __future__ import annotations

import email
import re
import threading
import time
from dataclasses import dataclass
from email import policy
from types import TracebackType
from typing import Any, Self

from aiosmtpd.controller import Controller

from tests.running import free_port

_LINK = re.compile(r"https?://[^\s<>\"]+")
_CODE = re.compile(r"^ {4}([A-Z0-9][A-Z0-9 -]{3,20})$", re.MULTILINE)


@dataclass(frozen=True)
class Posted:
    """A letter as it arrived."""

    to: str
    subject: str
    text: str
    html: str
    headers: dict[str, str]

    @property
    def link(self) -> str:
        """The first address in the plain text."""
        return _LINK.findall(self.text)[0]

    @property
    def code(self) -> str:
        """The code that stands indented in a line of its own in the plain text."""
        return _CODE.findall(self.text)[0]


class Postbox:
    """The server and what it got so far, oldest first."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"smtp://127.0.0.1:{self.port}"
        self._letters: list[Posted] = []
        self._arrived = threading.Condition()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._controller.stop()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        message = email.message_from_bytes(envelope.content, policy=policy.default)
        bodies = {kind: message.get_body(preferencelist=(kind,)) for kind in ("plain", "html")}
        text, html = (body.get_content().replace("\r\n", "\n") if body is not None else "" for body in bodies.values())
        headers = {name: str(value) for name, value in message.items()}
        with self._arrived:
            for address in envelope.rcpt_tos:
                self._letters.append(Posted(address, str(message["subject"]), text, html, headers))
            self._arrived.notify_all()
        return "250 taken"

    def letters_to(self, address: str) -> list[Posted]:
        """Everything that came for this address so far."""
        with self._arrived:
            return [letter for letter in self._letters if letter.to == address]

    def next_to(self, address: str, about: str = "", seconds: float = 90) -> Posted:
        """The first letter to this address whose subject or text holds `about`; it is taken out of the box.

        Waits for it. Raises TimeoutError.
        """
        give_up = time.monotonic() + seconds
        with self._arrived:
            while True:
                for letter in self._letters:
                    if letter.to == address and about in letter.subject + letter.text:
                        self._letters.remove(letter)
                        return letter
                left = give_up - time.monotonic()
                if left <= 0 or not self._arrived.wait(left):
                    subjects = [letter.subject for letter in self._letters if letter.to == address]
                    raise TimeoutError(f"no letter to {address} about {about!r}; there are {subjects}")
