"""What docs/protocol.md promises to writers of other clients is what the SDK does."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedportal_sdk import _masking, data
from fedportal_sdk._door import update_of
from fedportal_sdk._policy import read
from fedwire import histograms
from fedwire.architectures import Architecture
from fedwire.histograms import BINS, EQUAL, LOGIT
from fedwire.masking import statements
from fedwire.messages import registration_message
from fedwire.version import PROTOCOL
from tests.journeys.documentation import Block, blocks

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")


def test_the_page_is_about_this_protocol() -> None:
    assert f"This is protocol **{PROTOCOL}**" in PAGE


def test_the_signature_is_the_one_printed() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public_key = key.public_key().public_bytes_raw().hex()
    message = registration_message(
        key_id="edg_abcd1234",
        device_identifier="hospital-001",
        public_key=public_key,
        nonce=bytes(range(16)).hex(),
    )
    printed = "".join(re.findall(r"^(?:signature)? +([0-9a-f]{64})$", PAGE, re.MULTILINE))
    assert public_key in PAGE
    assert printed == key.sign(message).hex()


def test_the_update_is_the_one_printed() -> None:
    manifest = Architecture.parse({"kind": "logistic", "inputs": 2}).manifest()
    base = {"layers.0.weight": np.zeros((1, 2), np.float32), "layers.0.bias": np.zeros(1, np.float32)}
    trained = {"layers.0.weight": np.array([[1, -2]], np.float32), "layers.0.bias": np.array([0.5], np.float32)}
    content = update_of(manifest, base, trained).tobytes()
    assert hashlib.sha256(content).hexdigest() in PAGE
    length, header, numbers = content[:8], content[8:-12].decode().rstrip(" "), content[-12:]
    assert length.hex() in PAGE
    assert header in re.sub(r",\n +", ",", PAGE)
    assert " ".join(numbers[i : i + 4].hex() for i in (0, 4, 8)) in PAGE
    assert f"these {len(content)}\nbytes" in PAGE


def test_the_bins_of_scores_are_the_ones_printed() -> None:
    scores = np.array([0.9, 0.5, 0.2])
    (a, b, c), (d, e, f) = (histograms.places(scores, scale, logits=False) for scale in (LOGIT, EQUAL))
    told = f"the bins are {a}, {b} and {c}, and without `scale` {d}, {e} and {f}."
    assert told in PAGE.replace("\n", " ")
    assert f"{BINS[LOGIT]} counts" in PAGE


def test_the_rows_held_out_are_the_ones_printed() -> None:
    table = data.load((np.zeros((40, 1)), [0, 1] * 20), "y")
    rows = np.flatnonzero(data.held_out(table)).tolist()
    assert f"rows {', '.join(map(str, rows[:-1]))} and {rows[-1]} are held out" in PAGE.replace("\n", " ")


def test_the_rule_for_held_out_rows_needs_no_numpy() -> None:
    def u(index: int, seed: int = 0) -> float:
        mask = (1 << 64) - 1
        z = (index + 1 + seed * 0xD1B54A32D192ED03) * 0x9E3779B97F4A7C15 & mask
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
        return ((z ^ (z >> 31)) >> 11) / 2**53

    table = data.load((np.zeros((1000, 1)), [0, 1] * 500), "y")
    for seed in (0, 7):
        assert data.held_out(table, seed).tolist() == [u(i, seed) < 0.2 for i in range(1000)]


def test_the_statement_of_secure_aggregation_is_the_one_printed() -> None:
    fields = {"round": 3, "run": "run_1", "session": bytes(range(16)).hex()}
    printed = re.search(r"```\n([0-9a-f]{64})\n([0-9a-f]{64})\n```", PAGE)
    assert printed is not None
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    assert "".join(printed.groups()) == statements.sign(key, "example", fields)
    signed = {"protocol": statements.PROTOCOL, "kind": "example", "fields": fields}
    assert statements.spelled(signed).decode() in PAGE


def test_phases_are_the_ones_printed() -> None:
    section = PAGE.partition("## 16.")[2]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(_masking.PHASES)


@pytest.mark.parametrize("found", blocks("toml"), ids=lambda found: found.page)
def test_policies_of_the_documentation_are_policies(found: Block, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(found.text)
    assert read(path).only_masked
