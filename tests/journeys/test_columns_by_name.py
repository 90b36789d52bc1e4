"""Hospitals whose files have their columns in another order, or lack one: taken by name, or declined with words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedportal_sdk import FederatedClient, FedportalError, Participation
from tests.journeys.story import ARCHITECTURE, MODEL, Story, devices, patients
from tests.journeys.terminal import Terminal
from tests.running import Portal

COLUMNS = ["radius", "texture", "area", "smoothness", "symmetry", "age"]
NAMED: dict[str, Any] = {**ARCHITECTURE, "columns": COLUMNS, "labels": ["B", "M"]}
SWAPPED = ["age", "diagnosis", "area", "ward", "texture", "radius", "symmetry", "smoothness"]


@pytest.fixture
def story() -> Iterator[Story]:
    with Portal() as portal:
        yield Story(portal, NAMED)


def rewritten(path: Path, header: list[str]) -> Path:
    """The same rows with these columns; those that were not there hold 7."""
    names, *lines = (line.split(",") for line in path.read_text().splitlines())
    rows = [dict(zip(names, line, strict=True)) for line in lines]
    text = [header, *([row.get(name, "7") for name in header] for row in rows)]
    path.write_text("\n".join(map(",".join, text)) + "\n")
    return path


def test_a_file_with_swapped_columns_gives_the_same_model(story: Story, tmp_path: Path) -> None:
    story.shared_model("again", NAMED)

    def swapped(client: FederatedClient) -> Participation:
        """The first hospital's file is in another order, and has a column more."""
        path = patients(tmp_path / f"{client.device_identifier}.csv", int(client.device_identifier[-1]) - 1)
        first = client.device_identifier == "hospital-001"
        return client.train("again", rewritten(path, SWAPPED) if first else path, "diagnosis")

    with devices(story, tmp_path) as taking_part:
        story.completed(story.start(rounds=3))
        for device in taking_part:
            device.join()
    with devices(story, tmp_path, swapped) as taking_part:
        ended = story.completed(story.start(rounds=3, model="again"))
        for device in taking_part:
            device.join()
    assert story.versions("again")[0]["digest"] == story.versions()[0]["digest"]
    assert ended["curves"][-1]["accuracy"] > 0.75


def test_the_command_line_names_columns_by_a_header_and_shows_them(story: Story, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "olga")
    terminal.run("login", "--url", story.portal.url, "--api-key", story.keys["acme"])
    (tmp_path / "patients.csv").write_text("age;diagnosis;mean area\nno row is read\n")
    push = ["push", "by-header", "--architecture", '{"kind": "logistic"}', "--label", "B", "--label", "M"]
    named = [*push, "--columns-from", str(tmp_path / "patients.csv"), "--target", "diagnosis"]
    terminal.run(*named)
    shown = terminal.json("model", "show", "by-header")["architecture"]
    assert (shown["inputs"], shown["columns"], shown["labels"]) == (2, ["age", "mean area"], ["B", "M"])
    said = terminal.run("model", "show", "by-header")
    assert "age, mean area" in said
    assert "B, M" in said
    terminal.run(*named)  # the same again is another version with first weights
    (tmp_path / "patients.csv").write_text("years;diagnosis;mean area\n")
    assert terminal.code(*named) == "architecture_invalid"


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (("age", "years"), "data_columns", "its data lack columns that the model takes by name"),
        (("M\n", "ill\n"), "data_labels", "its data hold a class that the model does not know"),
    ],
)
def test_a_file_that_does_not_fit_is_declined_with_words_and_the_run_goes_on(
    story: Story, tmp_path: Path, change: tuple[str, str], code: str, words: str
) -> None:
    run = story.start(rounds=2, devices=3)
    path = patients(tmp_path / "odd.csv", 0)
    path.write_text(path.read_text().replace(*change))
    odd = FederatedClient(story.keys["acme"], "hospital-009", story.portal.url, tmp_path / "odd")
    with odd, pytest.raises(FedportalError) as caught:
        odd.train(MODEL, path, "diagnosis")
    assert caught.value.code == code
    declined = story.wait_for(run, lambda s: any(card["state"] == "declined" for card in s["participants"]))
    assert [card["reason"] for card in declined["participants"] if card["state"] == "declined"] == [words]
    with devices(story, tmp_path) as taking_part:
        story.completed(run)
        assert {device.join().state for device in taking_part} == {"completed"}
