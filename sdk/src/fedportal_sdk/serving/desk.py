"""The model in use and the questions to it: whoever asks gets one version from beginning to end, also while another
takes its place."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from fedportal_sdk.serving import shapes
from fedportal_sdk.serving.described import DescribedModel
from fedportal_sdk.serving.inputs import Float64
from fedportal_sdk.serving.limits import Limits
from fedportal_sdk.serving.prompts import rows_in, tokens
from fedportal_sdk.serving.sources import Found, Source
from fedportal_sdk.serving.tally import Tally
from fedportal_sdk.serving.text import TextModel
from fedwire.errors import FedportalError

log = logging.getLogger("fedportal")


class Model(Protocol):
    """Answers in words."""

    found: Found
    unreported: Tally  # of its own predictions, whatever is in use by the time they are made

    def count(self, messages: Sequence[Mapping[str, str]], most: int) -> int:
        """How many tokens the messages have, or more than `most`."""

    def measure(self, text: str) -> int:
        """How many tokens an answer has."""

    def said(self, messages: Sequence[Mapping[str, str]], most: int, *, as_json: bool = False) -> Iterator[str]:
        """The answer in pieces."""


class Desk:
    """Serves what `source` gives. `tell` hears of each version that comes into use, and of each that cannot."""

    def __init__(
        self,
        source: Source,
        limits: Limits,
        *,
        brightest: float = 1.0,
        tell: Callable[..., None] = lambda event, **values: None,
    ) -> None:
        self.limits = limits
        self.started = int(time.time())
        self.total = Tally()
        self._source, self._brightest, self._tell = source, brightest, tell
        self._one = threading.Lock()
        self._model: DescribedModel | TextModel | None = None
        self._tried: Found | None = None

    @property
    def found(self) -> Found:
        """The version in use. Raises not_installed after it was taken away."""
        return self.in_use().found

    def in_use(self) -> DescribedModel | TextModel:
        """The model, with the counts of its own. Raises not_installed after it was taken away."""
        model = self._model
        if model is None:
            raise FedportalError("not_installed", model="the model")
        return model

    def load(self) -> Found:
        """Bring the present version into use. Raises what is wrong with it."""
        found = self._source.current()
        self._use(self._made(found))
        return found

    def refresh(self) -> None:
        """Change over where another version is there by now. One that cannot be served changes nothing but is told
        of; one that was taken away is served no more."""
        with self._one:
            try:
                found = self._source.current()
            except FedportalError as error:
                if error.code == "not_installed" and self._model is not None:
                    self._model = self._tried = None
                    self._tell("removed", reason=error.message)
                return
            before = self._model.found if self._model is not None else None
            if found in (before, self._tried):
                return
            self._tried = found
            try:
                made = self._made(found)
            except (FedportalError, OSError) as error:
                reason = error.message if isinstance(error, FedportalError) else str(error)
                self._tell("unusable", version=found.version, reason=reason)
                return
            self._use(made)
            self._tell("changed", model=found.name, version=found.version, path=str(found.path))

    def models(self) -> dict[str, Any]:
        """GET /v1/models."""
        return {"object": "list", "data": [shapes.listed(self.found, self.started)]}

    def one(self, name: str) -> dict[str, Any]:
        """GET /v1/models/{name}."""
        return shapes.listed(self._named(name).found, self.started)

    def health(self) -> dict[str, Any]:
        """GET /health: counts since serving began, nothing of any input."""
        found = self.found
        return {"status": "ok", "model": found.name, "version": found.version, **self.total.facts()}

    def predict(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST /predict."""
        model = self._computing(body.get("model"))
        given = [name for name in ("rows", "images") if name in body]
        if len(given) != 1:
            raise FedportalError("field_invalid", field="rows", reason="the request needs either `rows` or `images`.")
        rows = model.reader.rows(body[given[0]])
        with self._timed(model, len(rows)):
            found = model.predict(rows)
        return {"model": model.found.name, "version": model.found.version, **model.facts(found)}

    def embeddings(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST /v1/embeddings."""
        model = self._named(body.get("model"))
        if not isinstance(model, DescribedModel):
            raise FedportalError("no_embeddings", model=model.found.name, reason="it is served to write text")
        if body.get("dimensions") is not None:
            raise FedportalError("option_unsupported", option="dimensions", reason="a hidden layer is as wide as it is")
        rows, counted = self._embedded(model, body.get("input"))
        with self._timed(model, len(rows)):
            vectors = model.embeddings(rows)
        return shapes.embedded(model.found, vectors, body.get("encoding_format"), counted)

    def answer(self, asked: shapes.Asked, name: Any) -> tuple[shapes.Telling, Model, list[Iterator[str]]]:
        """What is told, by which model, and the pieces of each answer. Raises what is wrong with the request."""
        model: Model = self._named(name)
        counts = [model.count(messages, self.limits.prompt_tokens) for messages in asked.prompts]
        if max(counts) > self.limits.prompt_tokens:
            raise FedportalError("prompt_too_long", limit=self.limits.prompt_tokens)
        with self._timed(model, len(asked.prompts)):
            pieces = [model.said(messages, asked.most, as_json=asked.as_json) for messages in asked.prompts]
        return shapes.Telling(asked, model.found, sum(counts)), model, pieces

    def _embedded(self, model: DescribedModel, value: Any) -> tuple[Float64, int]:
        """The rows [n, inputs] to embed, and how many tokens they were; a text holds one or several."""
        if shapes.vectors_like(value):
            first = value[0] if isinstance(value, list) else value
            rows = value if isinstance(first, list | dict) else [value]
            return model.reader.rows(rows if isinstance(rows, list) else [rows]), 0
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise FedportalError("field_invalid", field="input", reason="it must be text, numbers, or a list of these.")
        if len(texts) > model.reader.most_rows:
            raise FedportalError("rows_too_many", got=len(texts), limit=model.reader.most_rows)
        found = []
        for text in texts:
            if len(text) > 40 * self.limits.prompt_tokens or len(tokens(text)) > self.limits.prompt_tokens:
                raise FedportalError("prompt_too_long", limit=self.limits.prompt_tokens)
            rows_of_text = rows_in(text, model.reader)
            if len(rows_of_text) != 1:
                raise model.reader.unusable(f"one text holds {len(rows_of_text)} rows")
            found.append(rows_of_text)
        return np.concatenate(found), sum(len(tokens(text)) for text in texts)

    @contextmanager
    def _timed(self, model: Model, count: int) -> Iterator[None]:
        """Count these predictions. An input that was refused is nobody's failure but the sender's."""
        began, tallies = time.perf_counter(), (self.total, model.unreported)
        failed = False
        try:
            yield
        except FedportalError as error:
            failed = error.status >= 500
            if not failed:
                count = 0
            raise
        except Exception:
            failed = True
            raise
        finally:
            for tally in tallies if count else ():
                tally.note(count, 1000 * (time.perf_counter() - began), failed=failed)

    def _computing(self, name: Any) -> DescribedModel:
        model = self._named(name)
        if not isinstance(model, DescribedModel):
            raise FedportalError("no_predictions", model=model.found.name)
        return model

    def _named(self, name: Any) -> DescribedModel | TextModel:
        """The model, if it is the one that was asked for. Raises not_served."""
        model = self.in_use()
        if name not in (None, "", model.found.name, model.found.model):
            raise FedportalError("not_served", model=str(name)[:100], served=model.found.name)
        return model

    def _made(self, found: Found) -> DescribedModel | TextModel:
        if found.is_text:
            return TextModel(found)
        return DescribedModel(found, most_rows=self.limits.rows, brightest=self._brightest)

    def _use(self, model: DescribedModel | TextModel) -> None:
        """From now on."""
        self._model, self._tried = model, model.found
