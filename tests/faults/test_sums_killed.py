"""The portal is killed while updates are added up under masks, and started again: the sum comes off all the same.

Rounding and masks are drawn anew in every session, so it is the mean that must be right, not its digest.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedportal.common import faults
from fedwire import routes
from fedwire.tensors import decode_model
from tests.bench.masked_fleet import MOVE, PEOPLE, federation, taking_part
from tests.bench.rounds import MODEL, wait
from tests.running import Portal

DEVICES = 12
KILLED = (*faults.POINTS_OF_SUMS, "before_bell", "round_claimed", "after_aggregation", "before_publish")


@pytest.mark.parametrize("point", KILLED)
def test_a_sum_survives_the_death_of_the_portal(point: str, tmp_path: Path) -> None:
    names = [f"device-{number:03d}" for number in range(DEVICES)]
    with Portal(SWEEP_SECONDS=0.3, LEASE_SECONDS=1.5) as portal:
        founded = [portal.found(name, email) for name, email in PEOPLE]
        owner = federation(portal, founded, tmp_path, parameters=10)
        portal.kill()
        portal.start(FAULT=f"{point}:3")
        with taking_part(portal, [one["api_key"] for one in founded], names, tmp_path):
            privacy = {"sums": "secure", "clip": 1.0}
            wish = {"model_id": MODEL, "rounds": 3, "min_devices": DEVICES}
            run = owner._post(routes.SESSIONS, **wish, config={"evaluate": False, "privacy": privacy})["id"]
            portal.wait_for_death()
            portal.start()
            wait(owner, run, portal)
            rows = [
                row for row in owner._rows(routes.SESSION_ROUNDS.format(run=run), "rounds") if row["state"] == "done"
            ]
        assert [row["number"] for row in rows] == [1, 2, 3]
        before, after = (
            decode_model(owner.pull(MODEL, tmp_path / version, version=version))[1] for version in ("1.0.0", "2.0.0")
        )
        for name, array in before.items():
            np.testing.assert_allclose(after[name] - array, 3 * MOVE, atol=1e-4)
