"""A message in words → the rows and pictures in it.

Looked for in this order: a picture as a data URL; JSON, alone or within the text; names with values, such as
`age=63, texture: 17.9`; lines of values with a line of names before them; runs of as many numbers as the model takes.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from fedportal_sdk.serving.inputs import Float64, Reader

# Possessive, and what follows is looked at once: a message of nothing but digits must take no longer than it is long,
# for Python's regular expressions let no other thread and no signal in meanwhile.
NUMBER = r"[-+]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d++)?"
_ENDS = r"(?!\.*+\w)"
# A word or a sign, with the space before it: what is counted as a token where a model has no tokens of its own.
TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])|\s+$")
_RUN = re.compile(rf"(?<![\w.]){NUMBER}(?:(?:[ \t]*[,;]\s*|[ \t]+){NUMBER})*{_ENDS}")
_ONE = re.compile(NUMBER)
_PAIR = re.compile(rf"(?<!\w)[^\W\d]\w*+\s*+[=:]\s*+{NUMBER}")
_PICTURE = re.compile(r"data:image/[\w.+-]+;base64,[A-Za-z0-9+/=]*", re.IGNORECASE)
_HOLDERS = ("rows", "images", "row", "image", "input", "inputs")
_DECODER = json.JSONDecoder()


def tokens(text: str) -> list[str]:
    """The text in pieces that give it again when they are joined."""
    return TOKEN.findall(text)


def without_pictures(text: str) -> str:
    """The text with a sign for each picture in it."""
    return _PICTURE.sub("▣", text) if ";base64," in text else text


def rows_in(text: str, reader: Reader) -> Float64:
    """The rows [n, inputs] that the text holds. Raises `input_unusable` where there are none."""
    if pictures := _PICTURE.findall(text):
        return reader.rows(pictures)
    value = _json_in(text)
    if value is not None:
        return _of_json(value, reader)
    if columns := reader.architecture.columns:
        named = [(match[1].lower(), float(match[2])) for match in _named(columns).finditer(text)]
        if named:
            return reader.rows([_by_name(named, columns, reader)])
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    table = _table(lines)
    if table is not None and columns:
        return reader.rows(table)
    return _runs(text, reader)


def _of_json(value: Any, reader: Reader) -> Float64:
    """A row, several, or an object that holds them."""
    if isinstance(value, dict):
        names = [name for name in _HOLDERS if name in value and name not in reader.architecture.columns]
        held = value[names[0]] if names else None
        return reader.rows([value]) if held is None else _of_json(held, reader)
    if isinstance(value, str):
        return reader.rows([value])
    deep = _depth(value)
    of_one = deep == 1 and not any(isinstance(part, dict | str) for part in value)
    if of_one or (reader.architecture.kind == "cnn" and _is_one_picture(value, deep, reader)):
        return reader.rows([value])
    return reader.rows(value)


def _is_one_picture(value: Any, deep: int, reader: Reader) -> bool:
    """Whether nested lists are one picture and not several flat ones."""
    planes, height, _ = reader.architecture.input_shape
    return (deep == 3 and planes > 1) or (deep == 2 and planes == 1 and len(value) == height)


def _depth(value: Any) -> int:
    deep = 0
    while isinstance(value, list):
        deep, value = deep + 1, value[0] if value else None
    return deep


def _json_in(text: str) -> Any:
    """The first object or list that stands in the text; None where none does."""
    for match in re.finditer(r"[{\[]", text):
        try:
            value, _ = _DECODER.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        return value
    return None


def _by_name(named: list[tuple[str, float]], columns: tuple[str, ...], reader: Reader) -> dict[str, float]:
    values = dict(named)
    if len(values) < len(named):
        twice = next(name for name, _ in named if [one for one, _ in named].count(name) > 1)
        raise reader.unusable(f"it says {twice} twice")
    return {name: values[name.lower()] for name in columns if name.lower() in values}


@lru_cache(maxsize=8)
def _named(columns: tuple[str, ...]) -> re.Pattern[str]:
    """A column's name and a number; of names within names the longer one."""
    names = "|".join(re.escape(name) for name in sorted(columns, key=len, reverse=True))
    return re.compile(rf"(?<!\w)({names})\s*+[=:]\s*+({NUMBER}){_ENDS}", re.IGNORECASE)


def _table(lines: list[str]) -> list[Any] | None:
    """The rows below a line of names, separated as they are; None where there is no such thing."""
    for at, line in enumerate(lines[:-1]):
        mark = max(",;\t", key=line.count)
        names = [name.strip().strip('"') for name in line.split(mark)]
        if any(_ONE.fullmatch(name) for name in names):
            continue
        rows = _rows_below(lines, at + 1, mark, len(names))
        if rows is not None:
            return [dict(zip(names, row, strict=True)) for row in rows]
    return None


def _rows_below(lines: list[str], start: int, mark: str, width: int) -> list[list[float]] | None:
    """Each line from `start` as so many numbers; None at the first one that is something else."""
    rows = []
    for at in range(start, len(lines)):
        cells = [cell.strip() for cell in lines[at].split(mark)]
        if len(cells) != width or not all(_ONE.fullmatch(cell) for cell in cells):
            return None
        rows.append([float(cell) for cell in cells])
    return rows


def _runs(text: str, reader: Reader) -> Float64:
    """Runs of as many numbers as the model takes."""
    found = [[float(number) for number in _ONE.findall(run)] for run in _RUN.findall(text)]
    rows = [run for run in found if len(run) == reader.architecture.inputs]
    if rows:
        return reader.rows(rows)
    if _PAIR.search(text):
        if not reader.architecture.columns:
            raise reader.unusable("the message has names, and the model's columns have none")
        raise reader.unusable("no name in the message is one of the model's columns")
    longest = max(map(len, found), default=0)
    if longest:
        numbers = "one number" if longest == 1 else f"{longest:,} numbers in a row"
        raise reader.unusable(f"the message has {numbers}, the model takes {reader.architecture.inputs:,}")
    raise reader.unusable("the message holds no row and no picture")
