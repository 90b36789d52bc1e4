"""A device looks at itself before a run: what it finds, and what of that leaves it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedportal_sdk import data, preflight
from fedportal_sdk.functions import FunctionWork
from fedportal_sdk.local import TableWork
from fedportal_sdk.preflight import Found, ahead_of, blank, examined
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError

SPEC = {"kind": "logistic", "inputs": 2, "columns": ["age", "dose"], "labels": ["B", "M"], "standardise": True}
ARCHITECTURE = Architecture.parse(SPEC)
MANIFEST = ARCHITECTURE.manifest()


def task(architecture: dict[str, Any] | None = SPEC, **check: Any) -> Any:
    manifest = Architecture.parse(architecture).manifest() if architecture else MANIFEST
    return {
        "kind": "check",
        "architecture": architecture,
        "manifest": manifest.to_json(),
        "training": {},
        "check": {"least_records": 0, "sdk_version": "0.0.1", **check},
    }


def table(tmp_path: Path, header: str = "age,dose,sick", sick: str = "M") -> data.Table:
    path = tmp_path / "rows.csv"
    path.write_text(f"{header}\n" + f"1,2,{sick}\n3,4,B\n" * 10, encoding="utf-8")
    return data.load(path, "sick")


def look(work: Any, asked: Any = None, **more: Any) -> Found:
    asked = asked or task()
    return examined(asked, work, lambda: blank(MANIFEST), **more)


def codes(found: Found) -> list[str]:
    return [error.code for error in found.failed]


def test_rows_that_fit_a_model_that_can_be_built_find_nothing(tmp_path: Path) -> None:
    found = look(TableWork(table(tmp_path)), ahead=0.26)
    assert (found.failed, found.warned) == ([], [])
    report = found.report()
    assert (report["failed"], report["warned"], report["clock_seconds"]) == ([], [], 0.3)
    assert report["memory_mb"] > 0


def test_all_that_is_wrong_is_found_and_only_codes_and_numbers_leave(tmp_path: Path) -> None:
    work = TableWork(table(tmp_path, "age,weight,sick", sick="Meier"))
    found = look(work, task(least_records=1000, sdk_version="99.0.0"), ahead=-7200.0)
    assert codes(found) == ["records_too_few", "data_columns", "data_labels"]
    assert [error.code for error in found.warned] == ["clock_off", "sdk_old"]
    assert "dose" in found.failed[1].message
    sent = json.dumps(found.report())
    assert not any(word in sent for word in ("Meier", "dose", "weight", "age"))


def test_this_devices_own_floor_counts_where_it_is_higher(tmp_path: Path) -> None:
    assert codes(look(TableWork(table(tmp_path)), least_records=17)) == ["records_too_few"]
    assert codes(look(TableWork(table(tmp_path)), least_records=5)) == []


def test_without_memory_for_it_the_model_is_not_even_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2048 kB\n", encoding="ascii")
    monkeypatch.setattr(preflight, "MEMORY", tmp_path / "meminfo")
    large = {"kind": "mlp", "inputs": 2, "hidden": [1000, 1000], "classes": 2}

    def fetched() -> Any:
        raise AssertionError("it must not be fetched")

    found = examined(task(large), TableWork(table(tmp_path)), fetched)
    assert codes(found) == ["memory_short"]
    assert found.failed[0].context == {"free": 2, "needed": 19}  # 5 · 4 bytes · 1,006,002 weights
    assert found.memory_mb == 2


def test_weights_that_are_not_finite_or_do_not_fit_fail(tmp_path: Path) -> None:
    work = TableWork(table(tmp_path))
    spoiled = {**blank(MANIFEST), "layers.0.bias": np.array([np.nan], np.float32)}
    assert codes(examined(task(), work, lambda: spoiled)) == ["not_finite"]
    other = blank(Architecture.parse({**SPEC, "inputs": 3, "columns": ["a", "b", "c"]}).manifest())
    assert codes(examined(task(), work, lambda: other)) == ["tensor_names"]


def test_a_model_that_did_not_come_is_the_portals_matter(tmp_path: Path) -> None:
    def gone() -> Any:
        raise FedportalError("task_closed")

    with pytest.raises(FedportalError) as raised:
        examined(task(), TableWork(table(tmp_path)), gone)
    assert raised.value.code == "task_closed"


def test_a_model_without_architecture_is_for_functions(tmp_path: Path) -> None:
    assert codes(look(TableWork(table(tmp_path)), task(None))) == ["architecture_missing"]
    assert codes(look(FunctionWork(lambda state: (state, 1, None), None, "numpy"), task(None))) == []


def test_the_portals_clock_is_known_from_the_task() -> None:
    moment = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
    came: Any = {"deadline": moment.isoformat(), "seconds_left": 600.0}
    assert ahead_of(came, moment.timestamp() - 600 + 90) == pytest.approx(90)
    assert abs(ahead_of({**came, "deadline": datetime.now(UTC).isoformat(), "seconds_left": 0.0})) < 60
