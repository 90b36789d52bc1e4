"""Names are refused before they can confuse anybody."""

from __future__ import annotations

import pytest

from federations.services import names
from fedwire.errors import FedportalError
from fedwire.routes import ID_PREFIXES, RESERVED_NAMES


@pytest.mark.parametrize("name", ["healthcare-consortium", "Röntgen 2", "γ_1", "9.1", "a" * 100, "数据"])
def test_letters_and_digits_of_any_script_are_names(name: str) -> None:
    assert names.checked(name) == name


def test_a_name_is_trimmed_and_composed() -> None:
    assert names.checked("  Ro\u0308ntgen ") == "R\u00f6ntgen"


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "-a",
        ".a",
        "_a",
        "a/b",
        "a\nb",
        "a\u200bb",
        "a\u202eb",
        "a\x00b",
        "a" * 101,
        "a?b",
        "a\tb",
        "a%2fb",
        "<b>",
    ],
)
def test_anything_else_is_refused(name: str) -> None:
    with pytest.raises(FedportalError) as caught:
        names.checked(name)
    assert caught.value.code == "invalid_name"


@pytest.mark.parametrize("word", sorted(RESERVED_NAMES) + [prefix + "x" for prefix in ID_PREFIXES])
def test_reserved_words_and_prefixes_are_refused_in_any_case(word: str) -> None:
    for spelling in (word, word.upper(), word.title(), f" {word} "):
        with pytest.raises(FedportalError) as caught:
            names.checked(spelling)
        assert caught.value.code == "reserved_name"


@pytest.mark.parametrize("identifier", ["hospital-001", "a", "A.b_c-9", "x" * 100])
def test_identifiers_are_plain(identifier: str) -> None:
    assert names.checked_identifier(identifier) == identifier


@pytest.mark.parametrize("identifier", ["", "a b", "-a", "ä", "a/b", "x" * 101, "a\n"])
def test_other_identifiers_are_refused(identifier: str) -> None:
    with pytest.raises(FedportalError):
        names.checked_identifier(identifier)
