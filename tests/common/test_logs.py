"""What the log shows of secrets."""

from __future__ import annotations

import logging

import pytest

from fedportal.common.logs import Line, masked

KEY = "edg_abcd1234_" + "x" * 43 + "_123456"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Forbidden: /invitations/abc-DEF_123", "Forbidden: /invitations/…"),
        ('"POST /password-reset/dXNy/c1-token HTTP/1.1" 400', '"POST /password-reset/… HTTP/1.1" 400'),
        (f"Authorization: Bearer {KEY}", "Authorization: Bearer edg_abcd1234_…"),
        ("/federations/fed_1/members", "/federations/fed_1/members"),
    ],
)
def test_secrets_are_masked_and_the_rest_is_not(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_arguments_and_tracebacks_are_masked_too() -> None:
    try:
        raise ValueError(f"/invitations/secret with {KEY}")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "at %s", ("/invitations/secret",), None)
        record.exc_info = (ValueError, error, error.__traceback__)
    line = Line("{message}", style="{").format(record)
    assert "ValueError" in line
    assert "secret" not in line
    assert KEY not in line
