"""Two organizations make their roots, the owner signs them, and a device gets its certificate: what the pages say."""

from __future__ import annotations

import json
from pathlib import Path

from fedwire.masking import roots
from fedwire.masking.roots import Certificate, Entry
from tests.journeys.documentation import block, pasted
from tests.journeys.story import FEDERATION
from tests.journeys.terminal import World, world_in
from tests.journeys.test_tutorials import ENGINEER, OFFICER


def test_roots_are_signed_and_a_device_is_certified(tmp_path: Path) -> None:
    with world_in(tmp_path) as world:
        world.federation()
        acme, metro = world.acme, world.metro
        acme.run("federation", "roots", FEDERATION, "--ask")
        acme.run("federation", "roots", FEDERATION, "--sign", world.ids["acme"], "--yes")
        said = pasted(block(OFFICER, "sh", "root-key").text, world.folder, metro.environment)
        mine = metro.json("team", "root-key")
        assert mine["fingerprint"] in said
        assert "waits" in said
        declined = acme.try_("federation", "roots", FEDERATION, "--sign", world.ids["metro"], typed="n\n")
        assert (declined.code, mine["fingerprint"] in declined.err) == (1, True)
        acme.run("federation", "roots", FEDERATION, "--sign", world.ids["metro"], typed="y\n")

        shown = metro.json("federation", "roots", FEDERATION)
        members = roots.listed(shown["federation"], [Entry(**entry) for entry in shown["entries"]])
        assert (set(members.roots), shown["waiting"]) == ({world.ids["acme"], world.ids["metro"]}, [])
        assert members.roots[world.ids["metro"]] == mine["key"]
        assert roots.fingerprint(members.head) in acme.run("federation", "roots", FEDERATION)
        assert (metro.home / "root_key.pem").stat().st_mode & 0o077 == 0
        certified(world, members.roots[world.ids["metro"]])
        changed(world)


def certified(world: World, root: str) -> None:
    """The engineer's three steps; then the certificate is the device's, and no other's."""
    metro, folder = world.metro, world.folder
    metro.run("device", "register", "--identifier", "hospital-001")
    for word in ("identity --identifier hospital-001 --output", "device certify", "--certificate"):
        said = pasted(block(ENGINEER, "sh", word).text, folder, metro.environment)
    assert "certificate.json" in said
    identity = metro.json("device", "identity", "--identifier", "hospital-001")
    (path,) = metro.home.rglob("certificate.json")
    found = Certificate(**json.loads(path.read_bytes()))
    assert (found.device, found.identity) == (identity["device"], identity["identity"])
    assert root == metro.json("team", "root-key")["key"]
    metro.run("device", "register", "--identifier", "hospital-002")
    other = ["device", "identity", "--identifier", "hospital-002"]
    assert metro.code(*other, "--certificate", str(folder / "hospital-001.cert.json")) == "field_invalid"


def changed(world: World) -> None:
    """metro changes its root: the key before signs for the one after."""
    metro = world.metro
    assert metro.code("federation", "roots", FEDERATION, "--ask") == "field_invalid"
    (metro.home / "root_key.pem").rename(metro.home / "root_key.former.pem")
    metro.run("federation", "roots", FEDERATION, "--ask")
    world.acme.run("federation", "roots", FEDERATION, "--sign", world.ids["metro"], "--yes")
    shown = metro.json("federation", "roots", FEDERATION)
    members = roots.listed(shown["federation"], [Entry(**entry) for entry in shown["entries"]])
    assert members.roots[world.ids["metro"]] == metro.json("team", "root-key")["key"]
    assert members.length == 3
