"""Requests and answers in the shapes of OpenAI's API, as far as they make sense for a model of this kind.

What would change the answer and is not done here is refused; what only shapes sampling, such as `temperature`, is taken
and does nothing: the answer is always the likeliest.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedportal_sdk.serving.limits import Limits
from fedportal_sdk.serving.sources import Found
from fedwire.errors import FedportalError
from fedwire.tensors import Float32

# Options that promise something which is not done; with these values they promise nothing.
NOT_DONE: Mapping[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "tools": (None, []),
    "functions": (None, []),
    "logprobs": (None, False),
    "stop": (None, []),
    "suffix": (None, ""),
    "echo": (None, False),
    "audio": (None,),
    "modalities": (None, ["text"]),
}


@dataclass(frozen=True)
class Asked:
    """What an answer in words was asked for. `prompts`: one conversation for each answer."""

    chat: bool
    prompts: list[list[dict[str, str]]]
    most: int
    as_json: bool = False
    stream: bool = False
    with_usage: bool = False


@dataclass
class Telling:
    """An answer that is being given, whole or in chunks."""

    asked: Asked
    found: Found
    prompt_tokens: int
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.id = f"{'chatcmpl' if self.asked.chat else 'cmpl'}-{secrets.token_hex(12)}"

    def whole(self, texts: Sequence[str], counts: Sequence[int]) -> dict[str, Any]:
        """The answer at once; a text of as many tokens as were allowed was cut there."""
        choices = [
            {"index": place, "logprobs": None, "finish_reason": self.finish(count), **self._content(text)}
            for place, (text, count) in enumerate(zip(texts, counts, strict=True))
        ]
        return {**self._head("chat.completion"), "choices": choices, "usage": self.usage(sum(counts))}

    def chunk(self, place: int, text: str | None, *, first: bool = False, finish: str | None = None) -> dict[str, Any]:
        """A piece of the answer; the first one of a chat says whose words follow."""
        content: dict[str, Any] = {"text": text or ""}
        if self.asked.chat:
            delta: dict[str, Any] = {"role": "assistant"} if first else {}
            content = {"delta": delta if text is None else {**delta, "content": text}}
        choice = {"index": place, "logprobs": None, "finish_reason": finish, **content}
        usage = {"usage": None} if self.asked.with_usage else {}
        return {**self._head("chat.completion.chunk"), "choices": [choice], **usage}

    def last(self, tokens: int) -> dict[str, Any]:
        """The chunk with the counts, where they were asked for."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage(tokens)}

    def finish(self, count: int) -> str:
        """Why the answer ends after so many tokens."""
        return "length" if count >= self.asked.most else "stop"

    def usage(self, tokens: int) -> dict[str, int]:
        """How much was read and said."""
        total = self.prompt_tokens + tokens
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": tokens, "total_tokens": total}

    def _head(self, kind: str) -> dict[str, Any]:
        print_ = f"fp_{(self.found.sha256 or self.found.version or 'local')[:12]}"
        kind = kind if self.asked.chat else "text_completion"
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.found.name,
            "system_fingerprint": print_,
        }

    def _content(self, text: str) -> dict[str, Any]:
        if not self.asked.chat:
            return {"text": text}
        return {"message": {"role": "assistant", "content": text, "refusal": None}}


def chat(body: Mapping[str, Any], limits: Limits) -> Asked:
    """A request for POST /v1/chat/completions. Raises field_invalid, option_unsupported, output_too_long."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _invalid("messages", "it must be a list of messages.")
    form = body.get("response_format") or {"type": "text"}
    kind = form.get("type") if isinstance(form, dict) else None
    if kind not in ("text", "json_object"):
        raise FedportalError("option_unsupported", option="response_format", reason="no schema is followed")
    return _asked(body, limits, chat=True, prompts=[[_message(one) for one in messages]], as_json=kind != "text")


def completion(body: Mapping[str, Any], limits: Limits) -> Asked:
    """A request for POST /v1/completions; one answer for each prompt."""
    prompt = body.get("prompt")
    texts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise _invalid("prompt", "it must be text, or a list of texts.")
    if len(texts) > limits.rows:
        raise FedportalError("rows_too_many", got=len(texts), limit=limits.rows)
    return _asked(body, limits, chat=False, prompts=[[{"role": "prompt", "content": text}] for text in texts])


def listed(found: Found, started: int) -> dict[str, Any]:
    """The model as GET /v1/models lists it, and what this server knows besides."""
    named = {"id": found.name, "object": "model", "created": started, "owned_by": "fedportal"}
    return {**named, "version": found.version, "model_id": found.model, "architecture": found.architecture}


def embedded(found: Found, vectors: Float32, encoding: Any, tokens: int) -> dict[str, Any]:
    """The answer of POST /v1/embeddings, each vector as numbers or as little-endian float32 in base64."""
    if encoding not in (None, "float", "base64"):
        raise _invalid("encoding_format", "it must be float or base64.")
    rows: list[Any] = vectors.tolist()
    if encoding == "base64":
        rows = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]
    data = [{"object": "embedding", "index": place, "embedding": row} for place, row in enumerate(rows)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": found.name, "usage": usage}


def refusal(error: FedportalError) -> dict[str, Any]:
    """The error as programs for that API read it: the next step stands in the message."""
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    message = f"{error.message} {error.next_step}".strip()
    field_ = error.context.get("field") or error.context.get("option")
    codes = {"not_served": "model_not_found", "prompt_too_long": "context_length_exceeded"}
    return {"error": {"message": message, "type": kind, "param": field_, "code": codes.get(error.code, error.code)}}


def vectors_like(value: Any) -> bool:
    """Whether the `input` of an embedding is numbers, or rows of numbers or names, and not text."""
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, list | dict) or (isinstance(first, int | float) and not isinstance(first, bool))


def _asked(body: Mapping[str, Any], limits: Limits, **known: Any) -> Asked:
    for option, harmless in NOT_DONE.items():
        if body.get(option) not in harmless:
            raise FedportalError("option_unsupported", option=option, reason="one plain answer is given")
    asked = [name for name in ("max_completion_tokens", "max_tokens") if body.get(name) is not None]
    most = body[asked[0]] if asked else limits.output_tokens
    if type(most) is not int or most < 1:
        raise _invalid(asked[0], "it must be a whole number from 1.")
    if most > limits.output_tokens:
        raise FedportalError("output_too_long", limit=limits.output_tokens, got=most)
    options = body.get("stream_options") or {}
    usage = isinstance(options, dict) and options.get("include_usage") is True
    return Asked(most=most, stream=body.get("stream") is True, with_usage=usage, **known)


def _message(value: Any) -> dict[str, str]:
    """A message with its parts joined: pictures stay as data URLs between the texts."""
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        raise _invalid("messages", "each must be an object with `role` and `content`.")
    content = value.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content if content is not None else ""}]
    return {"role": value["role"], "content": "\n".join(map(_part, parts))}


def _part(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    found = part.get("text") if kind in ("text", "input_text") else None
    if kind == "image_url":
        named = part.get("image_url")
        found = named.get("url") if isinstance(named, dict) else named
        if isinstance(found, str) and not found.startswith("data:"):
            raise FedportalError("picture_unusable", reason="it is an address, and nothing is fetched from elsewhere")
    if not isinstance(found, str):
        raise _invalid("messages", "content must be text, or parts of the types text and image_url.")
    return found


def _invalid(field_: str, reason: str) -> FedportalError:
    return FedportalError("field_invalid", field=field_, reason=reason)
