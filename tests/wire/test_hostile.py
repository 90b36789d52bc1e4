"""Files that are not what they claim: each is refused by its own code, quickly, and without writing anything."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedwire.errors import CATALOGUE, FedportalError
from fedwire.tensors import all_finite, check_update_header, decode_model, decode_update, parse_header
from tests.wire.hostile import GOOD, MANIFEST, Hostile, corpus

CORPUS = corpus()


def admit(content: bytes) -> None:
    """What the portal asks of an update before it counts it."""
    if not all_finite(decode_update(content, MANIFEST)):
        raise FedportalError("not_finite")


def test_the_good_file_is_admitted() -> None:
    admit(GOOD)


def test_the_corpus_is_large_and_its_names_are_distinct() -> None:
    assert len({hostile.name for hostile in CORPUS}) == len(CORPUS) >= 60
    assert {hostile.code for hostile in CORPUS} <= CATALOGUE.keys()


@pytest.mark.parametrize("hostile", CORPUS, ids=lambda hostile: hostile.name)
def test_hostile_update_is_refused_with_its_code(hostile: Hostile) -> None:
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(FedportalError) as refused:
        admit(hostile.content)
    assert refused.value.code == hostile.code
    assert time.process_time() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024  # KiB
    assert len(refused.value.message) < 1500
    assert "?" not in refused.value.message.replace(hostile.name, "")


@pytest.mark.parametrize("hostile", [h for h in CORPUS if h.code != "not_finite"], ids=lambda hostile: hostile.name)
def test_hostile_header_is_refused_before_its_data_arrive(hostile: Hostile) -> None:
    with pytest.raises(FedportalError):
        check_update_header(hostile.content[: (1 << 20) + 8], MANIFEST, total=len(hostile.content))


@pytest.mark.parametrize(
    "hostile", [h for h in CORPUS if h.as_model and h.code != "not_finite"], ids=lambda hostile: hostile.name
)
def test_hostile_file_is_no_model_either_in_memory_or_mapped(hostile: Hostile, tmp_path: Path) -> None:
    with pytest.raises(FedportalError) as refused:
        decode_model(hostile.content)
    file = tmp_path / "model.safetensors"
    file.write_bytes(hostile.content)
    with pytest.raises(FedportalError) as mapped:
        decode_model(file)
    assert refused.value.code == mapped.value.code == hostile.code


def test_no_hostile_file_left_its_canary() -> None:
    assert not os.path.exists("/tmp/canary")


def test_every_truncation_of_a_good_update_is_refused() -> None:
    for length in range(len(GOOD)):
        with pytest.raises(FedportalError) as refused:
            admit(GOOD[:length])
        assert refused.value.code == "not_safetensors"


def test_not_a_number_is_found_at_every_place_of_a_large_vector() -> None:
    values = np.zeros(10_000, np.float32)
    for place in range(len(values)):
        values[place] = (np.nan, np.inf, -np.inf)[place % 3]
        assert not all_finite(values)
        values[place] = 0
    assert all_finite(values)


@given(st.binary(max_size=400))
def test_noise_is_refused_by_the_catalogue_and_never_otherwise(content: bytes) -> None:
    with pytest.raises(FedportalError):
        parse_header(content, total=len(content))


@settings(max_examples=400)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 21), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_changed_header_is_refused_or_says_the_same(changes: list[tuple[int, int]]) -> None:
    content = bytearray(GOOD)
    for place, value in changes:
        content[place] = value
    if bytes(content) == GOOD:
        return
    with pytest.raises(FedportalError):
        admit(bytes(content))
