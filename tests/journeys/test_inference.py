"""Two hospitals are asked what a model says of their rows, through the real portal, the SDK and the command line."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np

from fedportal_sdk import FederatedClient
from fedportal_sdk.inference import Planner
from fedwire.architectures import Architecture
from fedwire.tensors import encode_model
from tests.running import Portal

MODEL, FEDERATION = "radiology-v1", "healthcare-consortium"
LOGISTIC = {"kind": "logistic", "inputs": 2, "classes": 2, "columns": ["age", "dose"]}
ROWS = 40


def rows(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(ROWS, 2))


def test_a_summary_comes_back_and_no_row_does(tmp_path: Path) -> None:
    weights = {"layers.0.weight": np.array([[1, 0]], np.float32), "layers.0.bias": np.zeros(1, np.float32)}
    file = tmp_path / "model.safetensors"
    file.write_bytes(encode_model(Architecture.parse(LOGISTIC).manifest(), weights))
    with Portal(SWEEP_SECONDS="0.5") as portal:
        keys = [portal.found(name, f"owner@{name}.example")["api_key"] for name in ("acme", "metro")]
        acme, metro = (Planner(portal.url, key, home=tmp_path / key[-6:]) for key in keys)
        acme.create_model(MODEL, architecture=LOGISTIC)
        acme.push(MODEL, file)
        acme.found_federation(FEDERATION)
        acme.share(MODEL, FEDERATION)
        acme.invite(FEDERATION, org_ids=[metro.own_organization()])
        metro.join(FEDERATION)
        for member in (acme, metro):
            member.consent_to_inference(FEDERATION)
        clients = []
        for number, key in enumerate(keys):
            data = tmp_path / f"rows-{number}.csv"
            lines = [f"{age:.9f},{dose:.9f},{row % 2}" for row, (age, dose) in enumerate(rows(number))]
            data.write_text("\n".join(["age,dose,sick", *lines]))
            client = FederatedClient(key, f"ward-{number}", portal.url, tmp_path / f"device-{number}")
            client.register()
            clients.append(client)
            named = {"target_col": "sick", "forever": True}
            threading.Thread(target=client.train, args=(None, str(data)), kwargs=named, daemon=True).start()
        try:
            plan = acme.plan_inference(FEDERATION, MODEL, "counts", least_devices=2, least_organizations=2)
            assert plan["features"] == ["age", "dose"]
            give_up = time.monotonic() + 60
            while (found := metro.inference(plan["id"]))["status"] == "running":
                assert time.monotonic() < give_up
                time.sleep(0.1)
        finally:
            for client in clients:
                client.close()
    above = int(sum((rows(number)[:, 0] > 0).sum() for number in range(2)))
    assert (found["status"], found["reason"]) == ("done", "")
    assert found["result"]["cells"] == [2 * ROWS - above, above]
