"""Which tensors stay on a device, and that an update of the others has no room for them."""

from __future__ import annotations

import pytest

from fedwire.errors import FedportalError
from fedwire.personal import matching, norms, travelling
from fedwire.tensors import Manifest, TensorSpec, check_update_header, parse_header

MODEL = Manifest.of(
    [
        TensorSpec("body.0.weight", "F32", (4, 3)),
        TensorSpec("body.1.weight", "F32", (4,)),
        TensorSpec("body.1.bias", "F32", (4,)),
        TensorSpec("body.1.running_mean", "F32", (4,)),
        TensorSpec("body.1.running_var", "F32", (4,)),
        TensorSpec("body.1.num_batches_tracked", "I64", (), "buffer"),
        TensorSpec("body.10.weight", "F32", (4, 4)),
        TensorSpec("head.weight", "F32", (2, 4)),
        TensorSpec("head.bias", "F32", (2,)),
    ]
)


def test_a_pattern_names_tensors_by_globs() -> None:
    assert matching(MODEL, "head.*") == ("head.bias", "head.weight")
    assert matching(MODEL, " *.bias , head.weight ,") == ("body.1.bias", "head.bias", "head.weight")
    assert matching(MODEL, "Head.*") == ()
    assert matching(MODEL, "") == ()


def test_a_norm_is_a_layer_with_running_statistics() -> None:
    names = ("bias", "num_batches_tracked", "running_mean", "running_var", "weight")
    assert sorted(norms(MODEL)) == [f"body.1.{name}" for name in names]  # and nothing of body.10


def test_what_stays_is_no_part_of_an_update() -> None:
    stays = matching(MODEL, "head.*")
    travels = travelling(MODEL, stays)
    assert travels.parameters == MODEL.parameters - 10
    header = travels.update_header()
    found, start = parse_header(header + bytes(4 * travels.parameters), total=travels.update_bytes)
    assert {spec.name for spec in found.tensors} == {spec.name for spec in MODEL.weights} - set(stays)
    assert start == len(header)
    assert travelling(MODEL, ()) is MODEL


def test_a_file_that_holds_what_should_stay_is_refused_by_name() -> None:
    travels = travelling(MODEL, matching(MODEL, "head.*"))
    with pytest.raises(FedportalError) as refused:
        check_update_header(MODEL.update_header(), travels, total=MODEL.update_bytes)
    assert refused.value.code == "tensor_names"
    assert "unexpected 'head.bias', 'head.weight'" in refused.value.message
