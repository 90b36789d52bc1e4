"""The unmodified `openai` package talks to a served model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from fedportal_sdk.serving import FileSource, Limits, Serving
from fedportal_sdk.serving.network import Network
from fedportal_sdk.trainers.dense import sigmoid
from fedwire.architectures import Architecture
from tests.serving.made import DEEP, IMAGES, ROW, TABLE, weights, written
from tests.serving.test_inputs import png, points

MODEL = "radiology-v1"
ASKED = "age=63, mean radius=17.9, radius=2"


def client_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none is needed", max_retries=0)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """Of a table of patients with named classes."""
    path = written(tmp_path_factory.mktemp("table"), TABLE)
    with Serving(FileSource(path, TABLE), port=0, limits=Limits(200, 100, 8)) as serving:
        yield client_of(serving.url)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    path = written(tmp_path_factory.mktemp("deep"), DEEP)
    with Serving(FileSource(path, DEEP), port=0) as serving:
        yield client_of(serving.url)


def user(content: Any) -> list[Any]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]


def chance() -> float:
    """What the model must say of ROW."""
    network = Network(Architecture.parse(TABLE), weights(TABLE))
    return float(sigmoid(network.outputs(np.array([ROW])).astype(float))[0, 0])


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    (found,) = client.models.list().data
    assert (found.id, found.object, found.owned_by) == (MODEL, "model", "fedportal")
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("gpt")
    assert missing.value.code == "model_not_found"


def test_a_chat_answers_in_words_and_json(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=user(ASKED), temperature=0.3)
    (choice,) = answer.choices
    words, _, block = (choice.message.content or "").partition("\n\n```json\n")
    said = json.loads(block.removesuffix("\n```"))
    label = "malignant" if chance() > 0.5 else "benign"
    sure = max(chance(), 1 - chance())
    assert words == f"{MODEL} says {label}, with a probability of {100 * sure:.1f} %."
    assert said["label"] == label
    assert said["probabilities"] == pytest.approx({"malignant": chance(), "benign": 1 - chance()}, abs=1e-5)
    assert choice.finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 20


def test_a_stream_gives_the_same_in_pieces_and_ends(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=user(ASKED))
    wanted: dict[str, Any] = {"model": MODEL, "messages": user(ASKED), "stream": True}
    chunks = list(client.chat.completions.create(**wanted, stream_options={"include_usage": True}))
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len(pieces) > 10
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)
    assert len({chunk.id for chunk in chunks}) == 1
    # The connection is good for the next question.
    assert client.chat.completions.create(model=MODEL, messages=user(ASKED)).choices


def test_json_alone_where_it_is_asked_for(client: openai.OpenAI) -> None:
    asked: Any = {"response_format": {"type": "json_object"}, "model": MODEL}
    one = client.chat.completions.create(messages=user(str(ROW)), **asked)
    assert json.loads(one.choices[0].message.content or "").keys() == {"label", "probability", "probabilities"}
    two = client.chat.completions.create(messages=user(f"{ROW}\n"), **asked)
    assert json.loads(two.choices[0].message.content or "")["label"] in TABLE["labels"]


def test_a_picture_comes_as_a_part_of_the_message(tmp_path: Path) -> None:
    with Serving(FileSource(written(tmp_path, IMAGES), IMAGES), port=0) as serving:
        client, given = client_of(serving.url), points(1)
        parts = [{"type": "text", "text": "Which digit?"}, {"type": "image_url", "image_url": {"url": png(given, 0)}}]
        said = client.chat.completions.create(model=MODEL, messages=user(parts)).choices[0].message.content or ""
        number = Network(Architecture.parse(IMAGES), weights(IMAGES)).outputs(given.reshape(1, -1) / 255).argmax()
        assert f"says class {number}" in said
        elsewhere = [{"type": "image_url", "image_url": {"url": "https://pictures.example/1.png"}}]
        with pytest.raises(openai.BadRequestError, match="nothing is fetched from elsewhere"):
            client.chat.completions.create(model=MODEL, messages=user(elsewhere))


def test_completions_answer_each_prompt(client: openai.OpenAI) -> None:
    found = client.completions.create(model=MODEL, prompt=["63,17.9,2", "1,2,3"])
    assert [choice.index for choice in found.choices] == [0, 1]
    assert all(" says " in choice.text for choice in found.choices)
    streamed = client.completions.create(model=MODEL, prompt=str(ROW), stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == found.choices[0].text


@pytest.mark.parametrize("value", [str(ROW), [str(ROW)], ROW, [ROW]], ids=["text", "texts", "row", "rows"])
def test_embeddings_are_the_last_hidden_layer(deep: openai.OpenAI, value: Any) -> None:
    expected = Network(Architecture.parse(DEEP), weights(DEEP)).hidden(np.array([ROW]))[0]
    for more in ({}, {"encoding_format": "float"}):  # by itself the package asks for base64
        (found,) = deep.embeddings.create(model=MODEL, input=value, **more).data
        assert np.allclose(found.embedding, expected, atol=1e-5)


def test_a_model_without_hidden_layers_has_no_embeddings(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model=MODEL, input=str(ROW))
    assert refused.value.code == "no_embeddings"
    assert "Serve a multi-layer or convolutional model" in refused.value.message


def test_prompt_and_output_have_their_limits(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model=MODEL, messages=user("1, " * 200))
    assert (long.value.code, "more than 200 tokens" in long.value.message) == ("context_length_exceeded", True)
    with pytest.raises(openai.BadRequestError, match="At most 100 tokens"):
        client.chat.completions.create(model=MODEL, messages=user(ASKED), max_tokens=101)
    short = client.chat.completions.create(model=MODEL, messages=user(ASKED), max_completion_tokens=3)
    assert (short.choices[0].message.content, short.choices[0].finish_reason) == ("radiology-v1", "length")
    assert short.usage is not None
    assert short.usage.completion_tokens == 3


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"n": 2}, "`n` is not possible here"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "`tools` is not possible here"),
        ({"stop": ["x"]}, "`stop` is not possible here"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "s"}}}, "no schema is followed"),
        ({"messages": []}, "a list of messages"),
        ({"messages": user("Hello?")}, "holds no row and no picture"),
        ({"messages": [{"role": "assistant", "content": "1"}]}, "no message of the user"),
        ({"max_tokens": 0}, "whole number from 1"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(client: openai.OpenAI, more: dict[str, Any], said: str) -> None:
    wanted: dict[str, Any] = {"model": MODEL, "messages": user(ASKED), **more}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**wanted)
    assert said in refused.value.message
