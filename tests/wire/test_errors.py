"""One catalogue of errors for portal, device and command line."""

from __future__ import annotations

import json
import traceback
from string import Formatter

import pytest

from fedwire.errors import CATALOGUE, FedportalError, outline


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_error_says_what_happened_and_what_to_do(code: str) -> None:
    kind = CATALOGUE[code]
    assert 200 <= kind.status < 600
    assert kind.sentence
    assert kind.next_step
    list(Formatter().parse(kind.sentence + kind.next_step))  # well-formed


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_error_makes_the_journey(code: str) -> None:
    names = [name for _, name, _, _ in Formatter().parse(CATALOGUE[code].sentence + CATALOGUE[code].next_step) if name]
    sent = FedportalError(code, **{name: f"<{name}>" for name in names})
    received = FedportalError.from_body(json.loads(json.dumps(sent.body())), sent.status)
    assert (received.code, received.status) == (code, sent.status)
    assert (received.message, received.next_step) == (sent.message, sent.next_step)
    assert "?" not in sent.message.replace("{who}", "")


def test_body_has_the_fields_that_common_clients_read() -> None:
    body = FedportalError("tensor_shape", name="w", got=[1], expected=[2]).body()
    assert body["error"] == "tensor_shape"
    assert body["status_code"] == 400
    assert body["message"] == body["detail"] == "The tensor 'w' has shape [1], the model says [2]."
    assert body["context"] == {"name": "w", "got": [1], "expected": [2]}


def test_a_missing_value_never_breaks_the_sentence() -> None:
    assert FedportalError("name_taken").message == "Another ? is called '?' already."


def test_a_value_with_braces_is_not_a_template() -> None:
    error = FedportalError("bad_request", reason="{0.__class__} {settings}.")
    assert error.message == "{0.__class__} {settings}."


@pytest.mark.parametrize("reason", ["its header is not JSON", "its header is not JSON.", "what is this?"])
def test_a_sentence_ends_once_whatever_the_reason(reason: str) -> None:
    assert FedportalError("bad_request", reason=reason).message == reason.rstrip(".") + ("" if "?" in reason else ".")


def test_an_error_of_a_newer_portal_keeps_its_words() -> None:
    error = FedportalError.from_body(
        {"error": "quota_used_up", "message": "No {more} today.", "next_step": "Wait."}, 429
    )
    assert (error.code, error.status, error.message, error.next_step) == (
        "quota_used_up",
        429,
        "No {more} today.",
        "Wait.",
    )
    assert str(error) == "No {more} today."
    assert traceback.format_exception(error)[-1] == "Next: Wait.\n"


def test_a_traceback_ends_with_what_to_do_next() -> None:
    shown = "".join(traceback.format_exception(FedportalError("key_invalid")))
    sentence, next_step = CATALOGUE["key_invalid"].sentence, CATALOGUE["key_invalid"].next_step
    assert shown.endswith(f"{sentence}\nNext: {next_step}\n")


@pytest.mark.parametrize("body", [{}, {"error": None}, {"context": "x"}, {"error": 3, "message": ["a"]}])
def test_a_strange_body_still_is_an_error(body: dict[str, object]) -> None:
    assert str(FedportalError.from_body(body, 502))


@pytest.mark.parametrize(
    ("seconds", "wait"),
    [(0, "1 second"), (1, "1 second"), (40.2, "41 seconds"), (90, "90 seconds"), (91, "2 minutes"), (886, "15 minutes"),
     (5400, "90 minutes"), (5401, "2 hours"), ("soon", "a moment")],
)  # fmt: skip
def test_a_time_to_wait_is_told_as_people_tell_it(seconds: object, wait: str) -> None:
    assert FedportalError("too_many_tries", seconds=seconds).next_step == f"Wait {wait} and try again."


def test_what_a_name_may_hold_is_told_by_who_refuses_it() -> None:
    assert "digits, spaces, dots" in FedportalError("invalid_name", name="/").next_step
    usable = "letters, digits, dots and dashes"
    assert f"1 to 100 {usable}, starting" in FedportalError("invalid_name", name="/", usable=usable).next_step


def test_a_code_alone_is_told_with_its_next_step() -> None:
    outlined = outline("data_shape")
    assert outlined == f"The model takes … columns and the data has …. {CATALOGUE['data_shape'].next_step}"
    assert outline("data_no_target").startswith("The file … has no column …; it has ….")
    assert not any("{" in outline(code) or "  " in outline(code) for code in CATALOGUE)
