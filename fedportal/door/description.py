"""What the door answers, for the OpenAPI schema; Django's generator sees only what Django answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict, get_args, get_origin, get_type_hints, is_typeddict

from fedportal.door import front, hooks
from fedwire import messages, routes

JSON, FILE = "application/json", "application/octet-stream"
DEVICE: list[dict[str, list[str]]] = [{"device": []}]
PERSON: list[dict[str, list[str]]] = [{"key": []}, {"session": []}]
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}
_OFFSET = ("header", "Upload-Offset", "integer", "The file's byte at which this body begins; 0 begins anew.")
_UPLOAD = (
    _OFFSET,
    ("header", "Upload-Digest", "string", "SHA-256 of the whole file, hexadecimal."),
    ("header", "Upload-Complete", "string", "`?0` if more will follow in a further PUT."),
)
_RANGE = ("header", "Range", "string", "`bytes=N-` continues a download that was cut.")


class Stored(TypedDict):
    """How much of an upload is on the portal's disk."""

    stored: int
    complete: bool


class Declined(TypedDict):
    """The task as it stands after declining."""

    task: str
    state: str


class Refusal(TypedDict):
    """Why the device will not do the task; shown to the run's owner."""

    reason: NotRequired[str]


class FreshKey(TypedDict):
    """A device's fresh key, shown this once."""

    id: str
    device_key: str


class Error(TypedDict):
    """Every refusal. `error` is stable, the sentences are for people."""

    error: str
    message: str
    detail: str
    next_step: str
    status_code: int
    context: dict[str, Any]


@dataclass(frozen=True)
class Words:
    """What the schema says of one address. Shapes are typed dictionaries; FILE stands for bytes."""

    name: str
    summary: str
    answer: Any
    body: Any = None
    status: str = "200"
    further: tuple[tuple[str, str, str, str], ...] = ()
    may: tuple[tuple[str, str], ...] = ()  # other good answers: status, meaning
    who: tuple[dict[str, list[str]], ...] = tuple(DEVICE)


WORDS: dict[tuple[str, str], Words] = {
    ("GET", routes.TASK_NEXT): Words(
        "task_next",
        "Wait for the device's next task.",
        messages.Task,
        further=(("query", "wait", "number", "Seconds to wait at most; no more than 25."),),
        may=(("204", "There was no task for so long."),),
    ),
    ("GET", routes.TASK_MODEL): Words(
        "task_model", "The model that the task begins with, as safetensors.", FILE, further=(_RANGE,)
    ),
    ("GET", routes.TASK_STATE): Words(
        "task_state", "The vector that some strategies send with the model, as safetensors.", FILE, further=(_RANGE,)
    ),
    ("PUT", routes.TASK_UPDATE): Words(
        "task_update", "Upload the task's update, or the rest of it.", Stored, body=FILE, further=_UPLOAD
    ),
    ("POST", routes.TASK_ANSWER): Words(
        "task_answer",
        "Answer the task; a repetition gets the first receipt.",
        messages.Receipt,
        body=messages.Answer,
        status="201",
        may=(("200", "This answer was given before; the same receipt."),),
    ),
    ("POST", routes.TASK_DECLINE): Words("task_decline", "Do not do the task.", Declined, body=Refusal),
    ("POST", routes.DEVICE_ROTATE): Words(
        "device_rotate", "A fresh device key; the present one ends when the fresh one is first used.", FreshKey
    ),
    ("PUT", routes.UPLOAD): Words(
        "uploads_put",
        "Upload a model's file, or the rest of it.",
        Stored,
        body=FILE,
        further=_UPLOAD,
        who=tuple(PERSON),
    ),
    ("GET", routes.MODEL_DOWNLOAD): Words(
        "models_versions_download",
        "A version's file.",
        FILE,
        further=(
            ("query", "format", "string", "`safetensors` (the default), `state_dict`, `onnx` or `torchscript`."),
            _RANGE,
        ),
        may=(("202", "The file is being made (`format_pending`); ask again."),),
        who=tuple(PERSON),
    ),
    ("GET", routes.MODEL_FILE): Words(
        "models_versions_file",
        "The file that a link is good for; the link is the permission, and no key is needed.",
        FILE,
        further=(("query", "link", "string", "As the portal gave it."), _RANGE),
        who=(),
    ),
    ("GET", routes.SESSION_HELD_FILE): Words(
        "training_sessions_held_file",
        "A model of the run's rounds, or an update of one of your organization's devices, as it is stored.",
        FILE,
        further=(_RANGE,),
        who=tuple(PERSON),
    ),
}


def add_to_schema(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add the door's addresses, and to every operation what an error looks like (a hook of the schema's generator)."""
    shapes = result.setdefault("components", {}).setdefault("schemas", {})
    for method, pattern in (*front.ROUTES, *hooks.patterns()):
        operation = _operation(pattern, WORDS[method, pattern], shapes)
        result["paths"].setdefault(pattern, {})[method.lower()] = operation
    error = {"description": "Refused.", "content": _content(Error, shapes)}
    for operations in result["paths"].values():
        for operation in operations.values():
            operation["responses"].setdefault("default", error)
    result["paths"] = dict(sorted(result["paths"].items()))
    return result


def _operation(pattern: str, words: Words, shapes: dict[str, Any]) -> dict[str, Any]:
    named = [("path", name, "string", "") for name in re.findall(r"\{(\w+)\}", pattern)]
    found: dict[str, Any] = {
        "operationId": words.name,
        "description": words.summary,
        "parameters": [
            {"in": where, "name": name, "schema": {"type": kind}, "required": where == "path", "description": text}
            for where, name, kind, text in (*named, *words.further)
        ],
        "tags": [pattern.removeprefix(f"{routes.API}/").split("/")[0]],
        "security": list(words.who),
        "responses": {
            words.status: {"description": "", "content": _content(words.answer, shapes)},
            **{status: {"description": text} for status, text in words.may},
        },
    }
    if words.body is not None:
        found["requestBody"] = {"content": _content(words.body, shapes), "required": True}
    return found


def _content(shape: Any, shapes: dict[str, Any]) -> dict[str, Any]:
    if shape == FILE:
        return {FILE: {"schema": {"type": "string", "format": "binary"}}}
    return {JSON: {"schema": _schema(shape, shapes)}}


def _schema(kind: Any, shapes: dict[str, Any]) -> dict[str, Any]:
    """The schema of a type; typed dictionaries become named shapes."""
    if get_origin(kind) is NotRequired:
        return _schema(get_args(kind)[0], shapes)
    if is_typeddict(kind):
        name = f"Device{kind.__name__}" if kind.__module__ == messages.__name__ else kind.__name__
        if name not in shapes:
            shapes[name] = {}  # a shape may hold itself
            shapes[name] = _named(kind, shapes)
        return {"$ref": f"#/components/schemas/{name}"}
    if get_origin(kind) is list:
        return {"type": "array", "items": _schema(get_args(kind)[0], shapes)}
    if get_origin(kind) in (dict, Mapping):
        return {"type": "object", "additionalProperties": _schema(get_args(kind)[1], shapes)}
    if type(None) in get_args(kind):
        return {**_schema(next(one for one in get_args(kind) if one is not type(None)), shapes), "nullable": True}
    return {"type": _PLAIN[kind]} if kind in _PLAIN else {}


def _named(kind: Any, shapes: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    required = [name for name, hint in hints.items() if get_origin(hint) is not NotRequired]
    return {
        "type": "object",
        "description": (kind.__doc__ or "").strip(),
        "properties": {name: _schema(hint, shapes) for name, hint in hints.items()},
        **({"required": required} if required else {}),
    }
