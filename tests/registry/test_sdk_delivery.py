"""The portal hands out its own SDK."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.test import Client

WHEEL = "fedportal_sdk-0.1.0-py3-none-any.whl"


@pytest.fixture
def folder(store: Path) -> Path:
    folder = store / "sdk"
    folder.mkdir(parents=True)
    return folder


def test_the_page_lists_the_wheels_newest_first_as_pip_reads_it(folder: Path) -> None:
    for age, name in ((10, "fedportal_sdk-0.0.9-py3-none-any.whl"), (0, WHEEL)):
        (folder / name).write_bytes(b"PK")
        os.utime(folder / name, (1_000_000 - age, 1_000_000 - age))
    (folder / "notes.txt").write_text("private")
    (folder / "other-1.0-py3-none-any.whl").write_bytes(b"PK")
    page = Client().get("/sdk/").content.decode()
    assert [line.split('"')[1] for line in page.splitlines() if "href" in line] == [
        WHEEL,
        "fedportal_sdk-0.0.9-py3-none-any.whl",
    ]


def test_the_wheel_is_served_to_anyone(folder: Path) -> None:
    (folder / WHEEL).write_bytes(b"PK wheel")
    answer = Client().get(f"/sdk/{WHEEL}")
    assert b"".join(answer.streaming_content) == b"PK wheel"  # type: ignore[attr-defined]
    assert WHEEL in answer["Content-Disposition"]


@pytest.mark.parametrize("path", ["/sdk/", f"/sdk/{WHEEL}"])
def test_without_a_wheel_the_next_step_is_told(store: Path, path: str) -> None:
    answer = Client().get(path)
    assert answer.status_code == 404
    assert answer.json()["error"] == "not_found"
    assert "pip wheel" in answer.json()["next_step"]


@pytest.mark.parametrize("name", ["notes.txt", "..%2Fpepper", "%2e%2e", "fedportal_sdk-..-py3-none-any.whl"])
def test_nothing_else_of_the_folder_is_served(folder: Path, name: str) -> None:
    (folder / "notes.txt").write_text("private")
    (folder.parent / "pepper").write_text("secret")
    answer = Client().get(f"/sdk/{name}")
    assert answer.status_code == 404


def test_only_reading_is_answered(folder: Path) -> None:
    assert Client().post("/sdk/").status_code in (403, 405)
