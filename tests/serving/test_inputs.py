"""Rows and pictures as programs and people send them."""

from __future__ import annotations

import base64
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from itertools import cycle, islice
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedportal_sdk.serving.inputs import MOST_VALUES, Reader
from fedportal_sdk.serving.pictures import decoded
from fedportal_sdk.serving.prompts import rows_in, tokens
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from tests.serving.made import IMAGES, ROW, TABLE

NAMED = Reader(Architecture.parse(TABLE), most_rows=4)
PLAIN = Reader(Architecture.parse({"kind": "logistic", "inputs": 3}), most_rows=4)
PICTURES = Reader(Architecture.parse(IMAGES), most_rows=4)


def refused(question: Callable[[], Any]) -> FedportalError:
    with pytest.raises(FedportalError) as error:
        question()
    return error.value


@pytest.mark.parametrize(
    "rows",
    [[ROW], [dict(zip(TABLE["columns"], ROW, strict=True))], [{"radius": 2, "age": 63, "mean radius": 17.9, "id": 7}]],
    ids=["in order", "by name", "by name, in another order and with more"],
)
def test_rows_come_in_order_or_by_name(rows: list[Any]) -> None:
    assert NAMED.rows(rows).tolist() == [ROW]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "it is not a list of rows"),
        ({"a": 1}, "it is not a list of rows"),
        ([[1, 2]], "row 1 has 2 values, the model takes 3"),
        ([ROW, [1, 2]], "row 2 has 2 values"),
        ([ROW, 5], "row 2 has no list"),
        ([[1, 2, None]], "row 1 has None for radius"),
        ([[1, "2", 3]], "row 1 has '2' for mean radius"),
        ([ROW, [1, float("nan"), 3]], "row 2 has no finite number for mean radius"),
        ([[1, 2, 10**400]], "row 1 has 1000"),
        ([{"age": 1}], "row 1 lacks mean radius, radius"),
        (["63, 17.9, 2"], "row 1 is text"),
        ([[[[[1]]]]], "row 1 has no list"),
    ],
)
def test_what_is_no_row_is_refused_with_its_place(rows: Any, said: str) -> None:
    error = refused(lambda: NAMED.rows(rows))
    assert error.code == "input_unusable"
    assert said in error.message
    assert "rows of 3 numbers" in error.next_step


def test_true_and_false_are_numbers() -> None:
    assert NAMED.rows([[True, False, 2.5]]).tolist() == NAMED.rows([[True, False, 2.5], [0, 0, 0]])[:1].tolist()
    assert NAMED.rows([[True, False, True]]).tolist() == [[1, 0, 1]]


def test_a_text_among_numbers_does_not_give_each_of_them_its_length() -> None:
    """In an array of texts a row of a thousand would take 400 MB here."""
    wide = Reader(Architecture.parse({"kind": "logistic", "inputs": 1000}), most_rows=4)
    tracemalloc.start()
    try:
        for rows in ([["x" * 100_000, *[0] * 999]], [[["x" * 100_000, *[0] * 999]]]):
            assert refused(lambda: wide.rows(rows)).code == "input_unusable"  # noqa: B023
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_wide_rows_are_fewer_before_any_is_decoded() -> None:
    wide = Reader(Architecture.parse({**IMAGES, "inputs": [3, 224, 224]}), most_rows=4096)
    assert wide.most_rows == MOST_VALUES // (3 * 224 * 224) == 111
    error = refused(lambda: wide.rows(["data:image/png;base64,AAAA"] * 112))
    assert (error.code, error.context["limit"]) == ("rows_too_many", 111)


def test_rows_have_a_limit_and_names_must_be_known() -> None:
    assert refused(lambda: NAMED.rows([ROW] * 5)).code == "rows_too_many"
    assert "the model's columns have none" in refused(lambda: PLAIN.rows([{"age": 1}])).message


@pytest.mark.parametrize(
    "text",
    [
        "63, 17.9, 2",
        "63;17.9;2.0",
        "63 17.9 2",
        "What do you say of 63, 17.9, 2e0?",
        "[63, 17.9, 2]",
        'Please: {"age": 63, "mean radius": 17.9, "radius": 2} thanks',
        '{"rows": [[63, 17.9, 2]]}',
        "age=63, radius=2, mean radius=17.9",
        "Age: 63\nRadius: 2\nMean Radius: +17.9",
        "A patient with age = 63 and mean radius = 17.9 and radius = 2.",
        "age,mean radius,radius\n63,17.9,2",
        "radius;mean radius;age\n2;17.9;63",
    ],
)
def test_a_message_holds_a_row_in_many_ways(text: str) -> None:
    assert rows_in(text, NAMED).tolist() == [ROW]


@pytest.mark.parametrize("text", ["63, 17.9, 2\n-1 .5 0", "[[63, 17.9, 2], [-1, 0.5, 0]]"])
def test_a_message_may_hold_several(text: str) -> None:
    assert rows_in(text, NAMED).tolist() == [ROW, [-1, 0.5, 0]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Hello, who are you?", "holds no row and no picture"),
        ("1, 2", "has 2 numbers in a row, the model takes 3"),
        ("7", "has one number"),
        ("age=63, radius=2", "lacks mean radius"),
        ("age=63, age=64, radius=2", "says age twice"),
        ("weight=63", "no name in the message"),
    ],
)
def test_a_message_without_one_says_what_is_missing(text: str, said: str) -> None:
    assert said in refused(lambda: rows_in(text, NAMED)).message


def test_names_in_a_message_need_a_model_with_names() -> None:
    assert "columns have none" in refused(lambda: rows_in("age=63", PLAIN)).message


@pytest.mark.parametrize(
    "text",
    ["1" * 100_000 + "x", "a" * 100_000, "1.1" * 40_000 + "x", "age" + " " * 100_000, "1e1" * 40_000, "a,b\n" * 20_000],
    ids=["digits", "letters", "points", "spaces", "exponents", "lines"],
)
def test_no_message_takes_much_longer_than_it_is_long(text: str) -> None:
    began = time.process_time()
    for reader in (NAMED, PLAIN):
        assert refused(lambda: rows_in(text, reader)).code == "input_unusable"  # noqa: B023
    assert time.process_time() - began < 2


def test_tokens_are_words_and_signs_and_give_the_text_again() -> None:
    text = 'radiology-v1 says: {"a": 0.5}.\n'
    assert "".join(tokens(text)) == text
    assert tokens("says 0.5") == ["says", " 0", ".", "5"]


# -- pictures


def png(points: NDArray[np.uint8], colour: int, *, filters: bytes = b"\0", palette: bytes = b"", **head: int) -> str:
    """A PNG of [height, width, planes], each line with the next of these filters; written from the specification.

    `head`: what it says of itself otherwise.
    """
    height, width, planes = points.shape
    lines, before = b"", np.zeros(width * planes, int)
    for kind, line in zip(islice(cycle(filters), height), points.reshape(height, -1).astype(int), strict=True):
        left = np.concatenate([np.zeros(planes, int), line[:-planes]])
        corner = np.concatenate([np.zeros(planes, int), before[:-planes]])
        guesses = [np.abs(before - corner), np.abs(left - corner), np.abs(left + before - 2 * corner)]
        nearest = np.argmin(guesses, axis=0)  # ties to the first, as the specification wants
        paeth = np.choose(nearest, [left, before, corner])
        guess = [np.zeros_like(line), left, before, (left + before) // 2, paeth][kind]
        lines += bytes([kind]) + ((line - guess) % 256).astype(np.uint8).tobytes()
        before = line
    first = struct.pack(">IIBBBBB", head.get("width", width), height, head.get("bits", 8), colour, 0, 0, 0)
    chunks = [(b"IHDR", first), *([(b"PLTE", palette)] if palette else []), (b"IDAT", zlib.compress(lines))]
    whole = b"\x89PNG\r\n\x1a\n"
    for name, data in [*chunks, (b"IEND", b"")]:
        whole += len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)
    return "data:image/png;base64," + base64.b64encode(whole).decode()


def points(planes: int, height: int = 8, width: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(planes).integers(0, 256, (height, width, planes), dtype=np.uint8)


@pytest.mark.parametrize("filters", [b"\0", b"\1", b"\2", b"\3", b"\4", b"\0\1\2\3\4"])
@pytest.mark.parametrize(("colour", "planes"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_a_png_is_its_points_whatever_its_filters(colour: int, planes: int, filters: bytes) -> None:
    given = points(planes, 6, 5)
    found = decoded(png(given, colour, filters=filters), (3, 6, 5))
    shown = given[:, :, : 3 if planes > 2 else 1]
    assert (found == np.broadcast_to(shown, (6, 5, 3)).transpose(2, 0, 1)).all()


def test_colours_become_grey_and_palettes_are_looked_up() -> None:
    grey = np.full((8, 8, 3), 100, np.uint8)
    assert np.allclose(decoded(png(grey, 2), (1, 8, 8)), 100)
    palette = bytes(range(6))
    found = decoded(png(np.ones((8, 8, 1), np.uint8), 3, palette=palette), (3, 8, 8))
    assert found[:, 0, 0].tolist() == [3, 4, 5]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("data:image/jpeg;base64,AAAA", "does not begin with"),
        ("data:image/png;base64,A!", "base64 is damaged"),
        ("data:image/png;base64,AAAA", "no PNG file"),
        (png(points(1, 9, 8), 0), "8 × 9 points and the model takes 8 × 8"),
        (png(points(1), 0, bits=16), "only 8 bits"),
        (png(points(1), 0)[:-70], "base64 is damaged"),
        (png(points(1), 3, palette=b"abc"), "palette is too short"),
        (png(points(1, 8, 4), 0, width=8), "data are too short"),
    ],
)
def test_a_picture_that_cannot_be_used_says_why(url: str, said: str) -> None:
    error = refused(lambda: decoded(url, (1, 8, 8)))
    assert error.code == "picture_unusable"
    assert said in error.message


def test_pictures_come_as_lists_or_png_with_255_as_1() -> None:
    given = points(1)
    flat = (given / 255).reshape(1, -1)
    as_lists = (given[:, :, 0] / 255).tolist()
    url = png(given, 0)
    for value in ([as_lists], [[as_lists]], flat.tolist(), [url], [as_lists, url][:1]):
        assert np.allclose(PICTURES.rows(value), flat)
    assert np.allclose(PICTURES.rows([as_lists, url]), np.repeat(flat, 2, axis=0))
    for text in (f"What is this?\n{url}", str(as_lists), str([as_lists]), str(flat.tolist())):
        assert np.allclose(rows_in(text, PICTURES), flat)
    bright = Reader(Architecture.parse(IMAGES), most_rows=4, brightest=255)
    assert np.allclose(bright.rows([url]), flat * 255)
    assert "[8][8]" in refused(lambda: PICTURES.rows([[[1, 2], [3, 4]]])).next_step
