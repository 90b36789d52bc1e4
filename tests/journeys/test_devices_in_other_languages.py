"""A device written from docs/protocol.md alone takes part: no SDK, no numpy, only HTTP, JSON, SHA-256 and Ed25519."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import struct
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.journeys.story import Story
from tests.running import Portal


class PlainDevice:
    """Adds one to every bias in each round."""

    def __init__(self, url: str, enrolment_key: str, identifier: str) -> None:
        self.url = url + "/api/v1"
        self.key = enrolment_key
        private = Ed25519PrivateKey.generate()
        public, nonce = private.public_key().public_bytes_raw().hex(), secrets.token_hex(16)
        lines = ["fedportal-register-1", enrolment_key[:12], identifier, public, nonce]
        body = {
            "device_identifier": identifier,
            "public_key": public,
            "nonce": nonce,
            "signature": private.sign("\n".join(lines).encode()).hex(),
        }
        self.registered = json.loads(self.ask("POST", "/devices/register", json.dumps(body).encode())[1])
        self.key = self.registered["device_key"]

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Status and body of the answer."""
        given = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, body, given, method=method)
        with urllib.request.urlopen(request, timeout=40) as answer:
            return answer.status, answer.read()

    def work(self, rounds: int) -> list[dict[str, Any]]:
        """Take part in so many training rounds; the receipts."""
        receipts: list[dict[str, Any]] = []
        while len(receipts) < rounds:
            status, body = self.ask("GET", "/device/tasks/next?wait=25")
            if status == 200:
                receipts.append(self.do(json.loads(body)))
        return receipts

    def do(self, task: dict[str, Any]) -> dict[str, Any]:
        """Download, train, upload, answer."""
        path = f"/device/tasks/{task['id']}"
        model = self.ask("GET", f"{path}/model")[1]
        assert hashlib.sha256(model).hexdigest() == task["base_digest"]
        update = self.update(task)
        assert len(update) == task["answer"]["update_bytes"]
        digest = hashlib.sha256(update).hexdigest()
        assert json.loads(self.ask("PUT", f"{path}/update", update, Upload_Digest=digest)[1])["complete"]
        answer = json.dumps({"sha256": digest, "samples": 10}).encode()
        first, again = self.ask("POST", f"{path}/answer", answer), self.ask("POST", f"{path}/answer", answer)
        assert (first[0], again[0], first[1]) == (201, 200, again[1])
        return dict(json.loads(first[1]))

    def update(self, task: dict[str, Any]) -> bytes:
        """The update file, written by hand."""
        rows, numbers, position = ['"__metadata__":{"fedportal":"update"}'], b"", 0
        for tensor in task["manifest"]:
            if tensor["role"] != "weight":
                continue
            count = 1
            for size in tensor["shape"]:
                count *= size
            shape = ",".join(map(str, tensor["shape"]))
            place = f"[{position},{position + 4 * count}]"
            rows.append(f'"{tensor["name"]}":{{"dtype":"F32","shape":[{shape}],"data_offsets":{place}}}')
            step = 1.0 if tensor["name"].endswith("bias") else 0.0
            numbers += struct.pack(f"<{count}f", *[step] * count)
            position += 4 * count
        header = ("{" + ",".join(rows) + "}").encode()
        header += b" " * (-(len(header) + 8) % 64)
        return struct.pack("<Q", len(header)) + header + numbers


def test_a_device_without_the_sdk_takes_part(tmp_path: Path) -> None:
    with Portal() as portal:
        story = Story(portal)
        device = PlainDevice(portal.url, story.keys["metro"], "hospital-001")
        run = story.start(rounds=3, devices=1, standardise=False, evaluate=False)
        receipts = device.work(3)
        assert [receipt["samples"] for receipt in receipts] == [10, 10, 10]
        assert len({receipt["task"] for receipt in receipts}) == 3
        ended = story.wait_for(run, lambda s: s["run"]["current_round"] == 3)
        assert ended["contributions"][0]["updates"] == 3


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_shell_commands_of_the_page_work(tmp_path: Path) -> None:
    """Section 12 of docs/protocol.md, as it stands there; the update is one of zeros."""
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    script = page.partition("## 12.")[2].partition("```sh\n")[2].partition("```")[0]
    with Portal() as portal:
        story = Story(portal)
        device = PlainDevice(portal.url, story.keys["metro"], "hospital-001")
        run = story.start(rounds=1, devices=1, standardise=False, evaluate=False)
        script = script.replace("http://127.0.0.1:8000", portal.url).replace("edg_…", device.key)
        before, after = script.split("# … train, write update.safetensors as in section 7 …")
        _bash(before, tmp_path)
        task = json.loads((tmp_path / "task.json").read_text())
        assert hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest() == task["base_digest"]
        (tmp_path / "update.safetensors").write_bytes(device.update(task))
        printed = _bash(before.split("curl")[0] + f"TASK={task['id']}\n" + after, tmp_path)
        assert '"complete":true' in printed
        assert '"state":"answered"' in printed
        story.wait_for(run, lambda s: s["run"]["current_round"] == 1)


def _bash(script: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-e"], input=script, cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout
