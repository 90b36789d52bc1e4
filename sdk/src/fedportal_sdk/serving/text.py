"""A folder with a text model, as `transformers` writes one, served through that package when it is installed.

The weights must be safetensors, no code of the model is run, and nothing is looked for outside the folder.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedportal_sdk.serving.sources import Found
from fedportal_sdk.serving.tally import Tally
from fedportal_sdk.trainers.torch import torch_module
from fedwire.errors import FedportalError

LOCAL = {"local_files_only": True, "trust_remote_code": False}


class TextModel:
    """Raises package_missing without `transformers`, torch_missing, and data_missing for a folder it cannot read."""

    def __init__(self, found: Found) -> None:
        transformers = _transformers()
        self.found = found
        self.unreported = Tally()
        self._torch, self._transformers = torch_module(), transformers
        transformers.utils.logging.disable_progress_bar()
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(str(found.path), **LOCAL)
            causal = transformers.AutoModelForCausalLM
            self._model = causal.from_pretrained(str(found.path), use_safetensors=True, **LOCAL).eval()
        except (OSError, ValueError) as error:
            reason = f"transformers cannot load it ({str(error).splitlines()[0][:200]})"
            raise FedportalError("data_missing", path=str(found.path), reason=reason) from error
        self._room = int(getattr(self._model.config, "max_position_embeddings", 0) or 0)
        self._one = threading.Lock()

    def count(self, messages: Sequence[Mapping[str, str]], most: int) -> int:
        """How many tokens the messages have."""
        return len(self._tokenizer(self._prompt(messages))["input_ids"])

    def measure(self, text: str) -> int:
        """How many tokens an answer has."""
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def said(self, messages: Sequence[Mapping[str, str]], most: int, *, as_json: bool = False) -> Iterator[str]:
        """What comes after these messages, piece by piece, at most so many tokens; the likeliest each time.

        Raises option_unsupported for JSON, which nobody could promise.
        """
        if as_json:
            raise FedportalError("option_unsupported", option="response_format", reason="a text model promises no JSON")
        given = self._tokenizer(self._prompt(messages), return_tensors="pt")
        read = int(given["input_ids"].shape[1])
        if self._room and read >= self._room:
            raise FedportalError("prompt_too_long", limit=self._room - 1)
        return self._generated(given, min(most, self._room - read) if self._room else most)

    def _generated(self, given: Mapping[str, Any], most: int) -> Iterator[str]:
        """The pieces, one answer at a time; whoever stops listening ends the work. Raises what went wrong in it."""
        streamer = self._transformers.TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        left, wrong = threading.Event(), []

        def is_left(ids: Any, scores: Any, **_: Any) -> Any:
            return self._torch.full((ids.shape[0],), left.is_set(), dtype=self._torch.bool, device=ids.device)

        def generate() -> None:
            try:
                wanted = {"max_new_tokens": most, "do_sample": False, "streamer": streamer}
                stop = self._transformers.StoppingCriteriaList([is_left])
                self._model.generate(**given, **wanted, stopping_criteria=stop)
            except Exception as error:  # told where the pieces are taken
                wrong.append(error)
            finally:
                streamer.end()

        with self._one:
            thread = threading.Thread(target=generate, daemon=True)
            thread.start()
            try:
                yield from filter(None, streamer)
            finally:
                left.set()
                thread.join()
        if wrong:
            raise wrong[0]

    def _prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        if len(messages) == 1 and messages[0]["role"] == "prompt":
            return messages[0]["content"]
        if self._tokenizer.chat_template:
            shown = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
            return str(shown)
        return "\n".join(f"{message['role']}: {message['content']}" for message in messages) + "\nassistant:"


def _transformers() -> Any:
    try:
        import transformers  # noqa: PLC0415  (takes seconds, and only text models need it)
    except ImportError as error:
        raise FedportalError("package_missing", what="A text model", package="transformers") from error
    return transformers
