"""A model of a described architecture, as it is served: rows in, labels, numbers, words or embeddings out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk.serving.inputs import Reader
from fedportal_sdk.serving.network import Float64, Network
from fedportal_sdk.serving.prompts import rows_in, tokens, without_pictures
from fedportal_sdk.serving.sources import Found, check
from fedportal_sdk.serving.tally import Tally
from fedportal_sdk.trainers.dense import sigmoid, softmax
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.tensors import Float32, decode_model

# So many classes of each row are told in a message; all of them at /predict.
MOST_TOLD = 5
Message = Mapping[str, str]


@dataclass(frozen=True)
class Predictions:
    """Of a `linear` model `values`; of others a class number for each row and the probabilities [n, classes]."""

    numbers: list[int]
    probabilities: NDArray[np.float64] | None
    values: list[float]


class DescribedModel:
    """What was found, ready to compute.

    Raises serve_undescribed, model_damaged, and what is wrong with the file.
    """

    def __init__(self, found: Found, *, most_rows: int, brightest: float = 1.0) -> None:
        if not found.described:
            raise FedportalError("serve_undescribed", path=str(found.path))
        check(found)
        self.found = found
        self.unreported = Tally()
        self.architecture = Architecture.parse(found.architecture)
        _, arrays = decode_model(found.path)
        _check_tensors(self.architecture, arrays)
        self._network = Network(self.architecture, arrays)
        self.reader = Reader(self.architecture, most_rows=most_rows, brightest=brightest)

    def predict(self, rows: Float64) -> Predictions:
        """What the model says of rows [n, inputs]. Raises result_not_finite."""
        outputs = _finite(self._network.outputs(rows)).astype(np.float64)
        if self.architecture.kind == "linear":
            return Predictions([], None, outputs[:, 0].tolist())
        if self.architecture.loss == "softmax":
            return Predictions(outputs.argmax(axis=1).tolist(), softmax(outputs), [])
        ones = sigmoid(outputs[:, 0])
        return Predictions((outputs[:, 0] > 0).astype(int).tolist(), np.stack([1 - ones, ones], axis=1), [])

    def embeddings(self, rows: Float64) -> Float32:
        """The last hidden layer [n, width]. Raises no_embeddings where there is none."""
        if not self._network.width:
            raise FedportalError("no_embeddings", model=self.found.name, reason="it has no hidden layer")
        return _finite(self._network.hidden(rows))

    def label(self, number: int) -> str | int:
        """The class's name, or its number where the model names none."""
        return self.architecture.labels[number] if self.architecture.labels else number

    def facts(self, found: Predictions) -> dict[str, Any]:
        """The answer of /predict."""
        if found.probabilities is None:
            return {"values": found.values}
        classes = [self.label(number) for number in range(self.architecture.classes)]
        labels = [classes[number] for number in found.numbers]
        said: dict[str, Any] = {"labels": labels, "probabilities": found.probabilities.tolist(), "classes": classes}
        return said if not self.architecture.labels else {**said, "class_numbers": found.numbers}

    # -- in words

    def count(self, messages: Sequence[Message], most: int) -> int:
        """How many tokens the messages have, or more than `most`. A picture is one."""
        total = 0
        for message in messages:
            text = without_pictures(message["content"])
            # Tokens of a longer text than this cannot be few, and are not counted.
            total += most + 1 if len(text) > 40 * most else len(tokens(text))
        return total

    def measure(self, text: str) -> int:
        """How many tokens an answer has."""
        return len(tokens(text))

    def said(self, messages: Sequence[Message], most: int, *, as_json: bool = False) -> Iterator[str]:
        """What the model says of the rows in the last message of the user, in pieces, of which each is a token."""
        asked = [message["content"] for message in messages if message["role"] in ("user", "prompt")]
        if not asked:
            raise self.reader.unusable("there is no message of the user")
        return islice(self._pieces(asked[-1], as_json), most)

    def _pieces(self, text: str, as_json: bool) -> Iterator[str]:
        found = self.predict(rows_in(text, self.reader))
        rows = self._told(found)
        content = json.dumps(rows[0] if len(rows) == 1 else {"rows": rows}, ensure_ascii=False)
        if as_json:
            return iter(tokens(content))
        named = f"{self.found.name} {self.found.version}".strip()
        sentences = [f"Row {place}: {_sentence(row)}" for place, row in enumerate(rows, 1)]
        words = f"{named} says {_sentence(rows[0])}" if len(rows) == 1 else "\n".join([f"{named} says:", *sentences])
        return iter(tokens(f"{words}\n\n```json\n{content}\n```"))

    def _told(self, found: Predictions) -> list[dict[str, Any]]:
        """The few numbers of each row that a message holds."""
        if found.probabilities is None:
            return [{"value": value} for value in found.values]
        rows = []
        for number, chances in zip(found.numbers, found.probabilities, strict=True):
            likely = sorted(range(len(chances)), key=lambda one, of=chances: -of[one])[:MOST_TOLD]  # type: ignore[misc]
            told = {str(self.label(one)): float(chances[one]) for one in likely}
            rows.append({"label": self.label(number), "probability": float(chances[number]), "probabilities": told})
        return rows


def _sentence(row: Mapping[str, Any]) -> str:
    if "value" in row:
        return f"{row['value']:.6g}."
    label = row["label"] if isinstance(row["label"], str) else f"class {row['label']}"
    return f"{label}, with a probability of {100 * row['probability']:.1f} %."


def _finite(values: Float32) -> Float32:
    if not np.isfinite(values).all():
        raise FedportalError("result_not_finite")
    return values


def _check_tensors(architecture: Architecture, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raises tensor_names, tensor_shape: what another program wrote may stand in another order, and no more."""
    wanted = {spec.name: spec.shape for spec in architecture.manifest().tensors}
    for what, names in (("missing", wanted.keys() - arrays.keys()), ("unexpected", arrays.keys() - wanted.keys())):
        if names:
            raise FedportalError("tensor_names", reason=f"{what} {', '.join(map(repr, sorted(names)[:5]))}")
    for name, shape in wanted.items():
        if arrays[name].shape != shape:
            got = list(arrays[name].shape)
            raise FedportalError("tensor_shape", name=name, got=got, expected=list(shape))
