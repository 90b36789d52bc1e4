"""A trained version goes to an organization's devices and comes back: by the command line and the SDK, with devices
that are processes of their own."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fedportal_sdk import FederatedClient, FedportalError
from fedportal_sdk.delivering import Deliverer
from fedwire import routes
from registry.delivery import placement
from tests.journeys.story import MODEL
from tests.journeys.terminal import Terminal, World, world_in

PROCESSES = 3
COUNT = PROCESSES + 1
# How soon a version that fails is to be on its way back, and the devices to be back.
SOON = 30.0


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
        found.append(model.version)
    return found


def until(question: Callable[[], bool], seconds: float = 60.0) -> None:
    give_up = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def nothing(state: dict[str, Any]) -> tuple[dict[str, Any], int, None]:
    return state, 1, None


@contextmanager
def fleet(world: World) -> Iterator[list[FederatedClient]]:
    """acme's devices, seen from their folders: processes that train, and one in this process that waits for another
    model's run; it is given this one's version all the same."""
    with ExitStack() as stack:
        for number in range(PROCESSES):
            stack.enter_context(world.device(world.acme, f"ward-{number}", number, "--forever"))
        # Made before the devices have registered: these must not push them out by registering again.
        url, key, home = world.portal.url, world.keys["acme"], world.acme.home
        clients = [FederatedClient(key, f"ward-{number}", url, home) for number in range(PROCESSES)]
        other = FederatedClient(key, "ward-other", url, world.folder / "other")
        other.register()
        thread = threading.Thread(target=other.train_from_remote, args=("cardiology", nothing, None), daemon=True)
        thread.start()
        try:
            until(lambda: len(world.acme.json("device", "list")) == COUNT)
            yield [*clients, other]
        finally:
            for client in (*clients, other):
                client.close()
            thread.join(30)


def expected(acme: Terminal, rollout: dict[str, Any]) -> set[str]:
    """The identifiers of the devices that the rollout's share is to have, worked out from ids alone."""
    names = {row["id"]: row["device_identifier"] for row in acme.json("device", "list")}
    share = round(rollout["rollout_percentage"] * 100)
    return {names[one] for one in placement.joining(rollout["id"], names, share, ())}


def having(clients: list[FederatedClient], version: str) -> set[str]:
    found = zip(clients, versions(clients), strict=True)
    return {str(client.device_identifier) for client, held in found if held == version}


def test_a_trained_version_goes_to_a_share_to_all_and_back_by_itself_when_it_fails(tmp_path: Path) -> None:
    with world_in(tmp_path) as world:
        world.federation()
        world.model()
        acme = world.acme
        with fleet(world) as clients:
            said = acme.run("deploy", MODEL, "--version", "1.0.0", "--yes", "--wait", "--timeout", "1m")
            assert f"{COUNT} of {COUNT} devices have it." in said
            acme.run("rollout", "complete", MODEL)
            acme.run("train", "start", MODEL, "--rounds", "1", "--min-devices", str(PROCESSES))
            until(lambda: acme.json("model", "versions", MODEL)[0]["version"] == "2.0.0")
            assert versions(clients) == ["1.0.0"] * COUNT
            pass_the_gate(acme)
            assert versions(clients) == ["1.0.0"] * COUNT
            widen(acme, clients)
            go_back(world, clients)
            acme.run("rollback", MODEL, "--to-version", "2.0.0", "--yes", "--wait", "--timeout", "1m")
            assert versions(clients) == ["2.0.0"] * COUNT
            two_at_once(world, clients)
            listed = acme.run("rollout", "list", MODEL)
            assert [word in listed for word in ("a rollback", "rolled back", "completed")] == [True] * 3


def pass_the_gate(acme: Terminal) -> None:
    """A version that is not good enough goes nowhere; one that is, does."""
    acme.run("gate", "set", MODEL, "--metric", "accuracy", "--quality", "1")
    judged = acme.try_("gate", "check", MODEL, "--version", "2.0.0")
    assert (judged.code, "failed" in judged.out) == (1, True), judged
    assert "gate" in acme.refused("deploy", MODEL, "--version", "2.0.0", "--rollout", "10%", "--yes")
    acme.run("gate", "set", MODEL, "--quality", "0.5", "--size", "100000")
    assert "passed" in acme.run("gate", "check", MODEL, "--version", "2.0.0")


def widen(acme: Terminal, clients: list[FederatedClient]) -> None:
    """10 % are exactly those whom the ids name, and stay among more of them."""
    words = ("deploy", MODEL, "--version", "2.0.0", "--wait", "--timeout", "1m", "--yes", "--rollout")
    first = acme.json(*words, "10%")
    early = having(clients, "2.0.0")
    assert (len(early), early) == (1, expected(acme, first))
    second = acme.json(*words, "50%")
    assert (second["id"], second["devices"]) == (first["id"], {"installed": 2})
    assert early < having(clients, "2.0.0") == expected(acme, second)
    assert "2.0.0 goes to 100 % of your devices" in acme.run(*words, "100%")
    assert versions(clients) == ["2.0.0"] * COUNT


def go_back(world: World, clients: list[FederatedClient]) -> None:
    """Predictions fail: every device is back soon, the rollout went back once, and everybody who looks sees when."""
    acme = world.acme
    begun = time.monotonic()
    for client in clients:
        client.report_health(MODEL, count=40, errors=40, latencies_ms=[3.0] * 40)
    until(lambda: acme.json("rollout", "show", MODEL)["status"] == "rolled_back", SOON)
    found = acme.json("rollout", "show", MODEL, "--wait", "--timeout", "1m")
    assert versions(clients) == ["1.0.0"] * COUNT
    assert time.monotonic() - begun < SOON
    assert found["reason"].endswith("predictions failed")
    assert found["crossed_at"] <= found["rolled_back_at"] <= found["restored_at"]
    assert rollbacks(world) == 1
    shown = acme.run("rollout", "show", MODEL)
    assert [word in shown for word in ("predictions failed", "rolled back", "all back")] == [True] * 3


def two_at_once(world: World, clients: list[FederatedClient]) -> None:
    """Two people take it back at the same moment: that is one rollback, and each device is asked once."""
    owner = Deliverer(world.portal.url, world.keys["acme"], home=world.folder / "owner")
    with ThreadPoolExecutor(4) as pool:
        all_ = list(pool.map(lambda _: owner.roll_back(MODEL), range(4)))
    assert len({(one["id"], one["rolled_back_at"]) for one in all_}) == 1
    *_, last = owner.follow(all_[0]["id"], 0.2)
    assert (last["outstanding"], versions(clients)) == (0, ["1.0.0"] * COUNT)
    assert rollbacks(world) == 2


def rollbacks(world: World) -> int:
    """How often the audit log says that a version went back."""
    owner = Deliverer(world.portal.url, world.keys["acme"], home=world.folder / "owner")
    log = owner._get(routes.ORG_AUDIT.format(org=world.ids["acme"]) + "?limit=200")
    return [row["action"] for row in log["entries"]].count("rollout.rolled_back")
