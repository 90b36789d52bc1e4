"""The schema that is served describes the door too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from fedportal.door import description, front, hooks
from fedwire import messages
from fedwire.errors import FedportalError

ADDRESSES = [*front.ROUTES, *hooks.patterns()]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Client().get("/api/schema?format=json").content)
    return found


def test_every_address_of_the_door_has_its_words() -> None:
    assert set(description.WORDS) == set(ADDRESSES)


@pytest.mark.parametrize(("method", "pattern"), ADDRESSES)
def test_the_schema_holds_every_address_of_the_door(method: str, pattern: str, schema: dict[str, Any]) -> None:
    operation = schema["paths"][pattern][method.lower()]
    named = {part["name"] for part in operation["parameters"] if part["in"] == "path"}
    assert named == {part[1:-1] for part in pattern.split("/") if part.startswith("{")}
    assert operation["description"]


def test_the_schema_is_made_without_a_warning(tmp_path: Path) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yml"))


def test_names_of_operations_are_unique(schema: dict[str, Any]) -> None:
    names = [operation["operationId"] for row in schema["paths"].values() for operation in row.values()]
    assert len(names) == len(set(names))


def test_every_operation_says_what_an_error_looks_like(schema: dict[str, Any]) -> None:
    for row in schema["paths"].values():
        for operation in row.values():
            assert "default" in operation["responses"]
    shape = schema["components"]["schemas"]["Error"]
    assert set(FedportalError("not_found", what="run").body()) == set(shape["properties"])


def test_typed_shapes_keep_what_may_be_missing(schema: dict[str, Any]) -> None:
    shape = schema["components"]["schemas"]["DeviceAnswer"]
    assert set(shape["properties"]) == set(messages.Answer.__annotations__)
    assert shape["required"] == ["samples"]
    assert shape["properties"]["evaluation"] == {"$ref": "#/components/schemas/DeviceEvaluation"}
    assert schema["components"]["schemas"]["DeviceTask"]["properties"]["architecture"]["nullable"]


def test_the_schema_can_be_browsed() -> None:
    page = Client().get("/api/docs")
    assert page.status_code == 200
    assert b"swagger-ui" in page.content
