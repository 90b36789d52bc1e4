"""A run of which a part of the model stays on the devices: chosen, told, aggregated, merged, and what is refused."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest

from federations.services import device_tasks
from fedportal.common import blobs
from fedportal_sdk.cli.standing import described
from fedwire import codecs, metrics
from fedwire.errors import FedportalError
from fedwire.personal import travelling
from fedwire.tensors import Manifest, decode_model, encode_update, unflatten
from registry.models import Model
from tests.training.conftest import Site, Stage, current
from training.models import Run
from training.services import previews
from training.web import startform

MLP = {"kind": "mlp", "inputs": 3, "hidden": [4], "classes": 2}
HEAD = ["layers.2.bias", "layers.2.weight"]


def begin(stage: Stage, strategy: str = "fedper", spec: dict[str, Any] = MLP, **config: Any) -> Run:
    model = stage.shared(f"personal-{strategy}-{len(config)}", spec)
    return stage.start(model=model, strategy=strategy, rounds=2, min_participants=3, config=config)


def report(right: int, rows: int = 20) -> dict[str, Any]:
    return dict(metrics.evaluation([0.9] * right + [0.1] * (rows - right), [1] * rows, [1 - right / rows] * rows))


def answer(site: Site, common: int, own: int | None = None) -> np.ndarray:
    """Do the task: an update of what travels, and how both models do; the update."""
    task = site.take()
    stays = task.content["training"].get("local", [])
    manifest = travelling(Manifest.from_json(task.content["manifest"]), stays)
    said: dict[str, Any] = {"samples": site.samples, "evaluation": report(common)}
    vector = np.random.default_rng(task.content["training"]["seed"]).standard_normal(manifest.parameters)
    if task.update_bytes:
        assert (bytes(task.update_header), task.update_bytes) == (manifest.update_header(), manifest.update_bytes)
        said["sha256"] = blobs.put(encode_update(manifest, unflatten(manifest, vector.astype(np.float32))))
        device_tasks.note_upload(task.pk, said["sha256"], float(np.linalg.norm(vector)))
    if own is not None:
        said["personal"] = report(own)
    device_tasks.answer(site.device.pk, task.public_id, json.dumps(said).encode())
    return vector.astype(np.float32)


def test_the_head_stays_and_the_rest_is_averaged(stage: Stage) -> None:
    sites, run = stage.three(), begin(stage)
    assert run.config["local"] == {"pattern": "", "tensors": HEAD}
    told = sites[0].task.content
    assert told["training"]["local"] == HEAD
    assert told["training"]["requires"] == ["local"]
    assert told["counted_round"] == 0
    base = decode_model(blobs.path(current(run).base_blob))[1]
    sent = [(answer(site, 10), site.samples) for site in sites]
    new = decode_model(blobs.path(run.rounds.get(number=1).result_blob))[1]
    assert all(new[name].tobytes() == base[name].tobytes() for name in HEAD)
    moved = np.concatenate([(new[n] - base[n]).ravel() for n in ("layers.0.bias", "layers.0.weight")])
    np.testing.assert_allclose(moved, sum(vector * (samples / 60) for vector, samples in sent), atol=1e-6)
    assert sites[0].task.content["counted_round"] == 1


def test_own_models_are_merged_beside_the_common_one_and_choose_the_best_round(stage: Stage) -> None:
    sites, run = stage.three(), begin(stage)
    for site in sites:
        answer(site, 20)  # nobody has a model of its own yet
    for site, common, own in zip(sites, (19, 12, 4), (16, 18, 17), strict=True):
        answer(site, common, own)
    assert sites[0].task.kind == "evaluate"
    assert sites[0].task.content["counted_round"] == 2
    for site, common, own in zip(sites, (2, 3, 1), (19, 20, 20), strict=True):
        answer(site, common, own)
    run.refresh_from_db()
    assert run.state == "completed"
    before, middle, last = stage.snapshot(run)["curves"]
    assert "personal" not in before
    assert (middle["accuracy"], middle["personal"]["accuracy"]) == (35 / 60, 51 / 60)
    assert last["personal"]["organizations"][stage.cast.acme.public_id]["accuracy"] == 39 / 40
    assert last["devices"]["common"]["accuracy"]["worst"] == "metro-1"
    assert (last["devices"]["personal"]["accuracy"]["worst"], last["devices"]["personal"]["accuracy"]["least"]) == (
        "acme-1", 0.95
    )  # fmt: skip
    assert "devices" not in middle  # only the newest says it device by device
    # By the common model alone, that which the run began with would be the best: nobody could use it.
    assert (run.best_round, run.best_loss) == (2, pytest.approx(1 / 60))
    version = run.result_version
    assert version is not None
    assert version.metrics["personal"]["overall"]["accuracy"] == 59 / 60


def test_page_status_and_command_line_show_both_and_say_why(stage: Stage) -> None:
    sites, run = stage.three(), begin(stage)
    browser, address = stage.cast.browser("olga"), f"/runs/{run.public_id}"
    assert "Nothing measured yet: a device has a model of its own once it has trained." in words(browser, address)
    for numbers in ((19, None), (12, 16), (4, 20)):
        for site in sites:
            answer(site, *numbers)
    page = words(browser, address)
    assert "A part of the model stays on each device." in page
    assert "layers.2.bias, layers.2.weight" in page
    assert "Accuracy Common 0.200 0.200 acme 0.200 0.200 acme-1" in page
    assert "Accuracy Own 1.000 1.000 acme 1.000 1.000 acme-1" in page
    assert "0.200 at round 2; own models 1.000" in page
    said = described(stage.snapshot(run)).plain
    assert "own models: accuracy 1.0000; worst device 1.0000 (acme-1), with the common model 0.2000 (acme-1)" in said
    status = browser.get(f"/api/v1/training/{run.model.public_id}/status").json()
    assert (status["accuracy"], status["personal"]["accuracy"]) == (0.2, 1.0)
    assert status["devices"]["common"]["accuracy"]["worst"] == "acme-1"
    run.refresh_from_db()
    assert run.result_version is not None
    version = words(browser, f"/models/{run.model.public_id}/versions/{run.result_version.version}")
    assert "layers.2.bias and layers.2.weight stayed on the devices: here they are as before the run." in version
    again = browser.get(f"/runs/new?{urlencode(startform.again(run))}").content.decode()
    assert 'id="p.local"' in again


def test_a_run_without_own_models_shows_none(stage: Stage) -> None:
    sites, run = stage.three(), begin(stage, "fedavg")
    for site in sites:
        answer(site, 10, 20)  # what nobody asked for is not taken up
    page = words(stage.cast.browser("olga"), f"/runs/{run.public_id}")
    assert "Own models beside the common one" not in page
    assert "personal" not in stage.snapshot(run)["curves"][0]
    assert "own models" not in described(stage.snapshot(run)).plain


def words(browser: Any, address: str) -> str:
    page = browser.get(address).content.decode().partition("<main")[2].partition("<script")[0]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_a_codec_writes_what_travels(stage: Stage) -> None:
    sites, run = stage.three(), begin(stage, codec="topk", codec_fraction=0.5)
    travels = travelling(Manifest.from_json(run.base_version.manifest), HEAD)
    assert run.config["codec"]["kept"] == travels.parameters // 2
    assert sites[0].task.update_bytes == codecs.of(run.config["codec"], travels).nbytes
    assert sites[0].task.content["training"]["requires"] == ["local", "codec.topk"]


def test_a_run_that_keeps_nothing_on_devices_says_nothing_of_it(stage: Stage) -> None:
    (site, *_) = stage.three()
    stage.start()
    assert not {"local", "requires"} & site.task.content["training"].keys()
    assert "counted_round" not in site.task.content


@pytest.mark.parametrize(
    ("strategy", "spec", "config", "field", "words"),
    [
        ("fedbn", MLP, {}, "config.local", "batch_norm"),
        ("fedper", MLP, {"local": "fc.*"}, "config.local", "no tensor of the model is called like 'fc.*'"),
        ("fedper", MLP, {"local": "*"}, "config.local", "nothing would be averaged"),
        ("fedper", MLP, {"local": 7}, "config.local", "a pattern of tensor names"),
        ("feddyn", {**MLP, "batch_norm": True}, {}, "strategy", "running statistics"),
    ],
)
def test_what_cannot_be_is_refused_at_its_field_before_the_start_and_at_it(
    stage: Stage, strategy: str, spec: dict[str, Any], config: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(FedportalError) as refused:
        begin(stage, strategy, spec, **config)
    assert (refused.value.code, refused.value.context["field"]) == ("field_invalid", field)
    assert words in refused.value.message
    model = Model.objects.get(name=f"personal-{strategy}-{len(config)}")
    wish = {"rounds": 2, "min_participants": 1, "federation": stage.cast.federation}
    found = previews.of(stage.olga, model, strategy=strategy, config=config, **wish)
    assert any(problem.field == field and words in problem.sentence for problem in found.problems)


def test_a_strategy_of_which_everything_travels_knows_no_such_setting(stage: Stage) -> None:
    for strategy in ("fedavg", "ditto"):
        with pytest.raises(FedportalError) as refused:
            begin(stage, strategy, local="layers.2.*")
        assert refused.value.code == "strategy_parameter"
