"""A version goes to an organization's devices and comes back, through the real portal and the SDK."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedportal_sdk import FederatedClient, FedportalError
from fedportal_sdk.portal import Portal as Owner
from fedwire import routes
from tests.running import Portal

MODEL = "radiology-v1"
COUNT = 3


def versions(clients: list[FederatedClient]) -> list[str]:
    """What each device has, "" for nothing; every file is what its name says."""
    found = []
    for client in clients:
        try:
            model = client.installed(MODEL)
        except FedportalError:
            found.append("")
            continue
        assert hashlib.sha256(model.path.read_bytes()).hexdigest() == model.sha256
        assert model.architecture["kind"] == "logistic"  # so that the device can compute it
        found.append(model.version)
    return found


def until(question: Callable[[], bool], seconds: float = 60.0) -> None:
    give_up = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def nothing(state: dict[str, Any]) -> tuple[dict[str, Any], int, None]:
    return state, 1, None


def test_a_version_goes_to_a_share_and_back_by_itself_when_it_fails(tmp_path: Path) -> None:
    with Portal(SWEEP_SECONDS="0.5") as portal:
        key = portal.found("acme", "olga@acme.example")["api_key"]
        owner = Owner(portal.url, key, home=tmp_path / "owner")
        owner.create_model(MODEL, architecture={"kind": "logistic", "inputs": 4, "classes": 2})
        owner.push_initial(MODEL)
        owner.push_initial(MODEL, version="2.0.0", seed=2)
        clients = [FederatedClient(key, f"device-{n}", portal.url, tmp_path / str(n)) for n in range(COUNT)]
        for client in clients:
            client.register()
        # They wait for another model's run, and are given this one's version all the same.
        threads = [
            threading.Thread(target=client.train_from_remote, args=("cardiology", nothing, None), daemon=True)
            for client in clients
        ]
        for thread in threads:
            thread.start()
        address = routes.MODEL_ROLLOUTS.format(model=MODEL)
        try:
            owner._post(address, version="1.0.0")
            until(lambda: versions(clients) == ["1.0.0"] * COUNT)
            first = owner._get(address)["rollouts"][0]
            owner._post(routes.ROLLOUT.format(rollout=first["id"]) + "/complete")
            second = owner._post(address, version="2.0.0", rollout_percentage=10)
            until(lambda: sorted(versions(clients)) == ["1.0.0", "1.0.0", "2.0.0"])
            early = versions(clients).index("2.0.0")
            where = routes.ROLLOUT.format(rollout=second["id"])
            owner._post(f"{where}/set", rollout_percentage=60)
            until(lambda: sorted(versions(clients)) == ["1.0.0", "2.0.0", "2.0.0"])
            assert versions(clients)[early] == "2.0.0"
            until(
                lambda: owner._get(where)["devices"] == {"installed": 2}
            )  # what is not known to be there says nothing
            for client, version in zip(clients, versions(clients), strict=True):
                failed = 40 if version == "2.0.0" else 0
                client.report_health(MODEL, count=40, errors=failed, latencies_ms=[3.0] * 40)
            until(lambda: versions(clients) == ["1.0.0"] * COUNT)
            until(lambda: bool(owner._get(where)["restored_at"]))
            back = owner._get(where)
            assert (back["status"], back["reason"]) == ("rolled_back", "80 of 80 predictions failed")
            assert back["crossed_at"] <= back["rolled_back_at"] <= back["restored_at"]
            owner._post(routes.MODEL_ROLLBACK.format(model=MODEL), version="2.0.0")
            until(lambda: versions(clients) == ["2.0.0"] * COUNT)
        finally:
            for client in clients:
                client.close()
            for thread in threads:
                thread.join(30)
