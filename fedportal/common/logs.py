"""Lines of the log, without what nobody who reads logs may have."""

from __future__ import annotations

import logging
import re

_LINKS = re.compile(r"/(invitations|password-reset|unsubscribe)/[^\s\"'<>]+")
_KEYS = re.compile(r"(edg_[A-Za-z0-9]{8})_[A-Za-z0-9_]+")


def masked(text: str) -> str:
    """`text` without the secret part of links in letters and of keys."""
    return _KEYS.sub(r"\1_…", _LINKS.sub(r"/\1/…", text))


class Line(logging.Formatter):
    """A formatter that masks the whole line, with its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))
