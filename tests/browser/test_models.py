"""Models in a real browser: made, filled from a file, trained, seen to have come from somewhere, compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from safetensors.numpy import save_file

from tests.browser.conftest import Visit, keep, overflow
from tests.journeys.story import MODEL, Story, devices


@pytest.fixture(scope="module")
def trained(story: Story, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run that made version 2.0.0 of the story's model; its id."""
    run = story.start(rounds=2)
    with devices(story, tmp_path_factory.mktemp("fleet")) as taking_part:
        for device in taking_part:
            device.join()
    story.completed(run)
    return run


def new_model(page: Page, name: str, kind: str) -> None:
    page.goto("/models/new")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Architecture").select_option(kind)


def test_only_the_fields_that_a_kind_needs_are_seen(visit: Visit) -> None:
    page = visit()
    new_model(page, "films", "cnn")
    expect(page.get_by_label("Image")).to_be_visible()
    expect(page.get_by_label("Input columns")).to_be_hidden()
    page.get_by_label("Architecture").select_option("file")
    expect(page.get_by_label("Image")).to_be_hidden()
    expect(page.get_by_text("takes a safetensors file from your browser")).to_be_visible()


def test_names_are_taken_from_the_first_line_of_a_file_and_nothing_of_it_is_sent(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    new_model(page, "named", "logistic")
    table = tmp_path / "patients.csv"
    table.write_bytes('\ufeff"size, mm",age,diagnosis,"the ""rough"" one"\r\n1,44,secret,2\r\n'.encode())
    page.get_by_label("Or take them from a CSV file").set_input_files(table)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or ""))
    page.get_by_label("Which column is predicted?").select_option("diagnosis")
    expect(page.get_by_label("Column headings")).to_have_value('"size, mm"\nage\n"the ""rough"" one"')
    expect(page.get_by_text("3 names are filled in; diagnosis is what is predicted.")).to_be_visible()
    assert overflow(page) == 0
    page.get_by_label("Class labels").fill("benign, malignant")
    page.get_by_role("button", name="Make the model").click()
    expect(page.locator(".names li")).to_have_text(["size, mm", "age", 'the "rough" one'])
    expect(page.get_by_text("Classes, from class 0: benign, malignant.")).to_be_visible()
    assert not any("secret" in body for body in sent)


def test_without_javascript_a_button_shows_the_fields(visit: Visit) -> None:
    page = visit(java_script_enabled=False)
    new_model(page, "films", "cnn")
    page.get_by_role("button", name="Show its fields").click()
    expect(page.get_by_label("Image")).to_be_visible()
    expect(page.get_by_label("Name")).to_have_value("films")


def test_a_file_becomes_a_version_and_what_cannot_be_one_is_refused(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    new_model(page, "ecg", "file")
    page.get_by_role("button", name="Make the model").click()
    wrong, right = tmp_path / "notes.safetensors", tmp_path / "ecg.safetensors"
    wrong.write_text("these are no tensors at all")
    # Larger than a piece, so that it is sent in several.
    save_file({"w": np.arange(1_500_000, dtype=np.float32), "b": np.ones(3, np.float32)}, right)
    page.get_by_label("A safetensors file").set_input_files(wrong)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("not a safetensors file")
    page.get_by_label("A safetensors file").set_input_files(right)
    page.get_by_label("Notes").fill("From the pilot.")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("ecg 1.0.0")
    expect(page.get_by_text("From the pilot.")).to_be_visible()
    page.get_by_text("2 tensors, 1500003 trained numbers").click()
    expect(page.get_by_role("cell", name="1500000")).to_be_visible()


def test_an_upload_that_broke_goes_on_where_it_broke(visit: Visit, tmp_path: Path) -> None:
    page = visit()
    new_model(page, "ecg-again", "file")
    page.get_by_role("button", name="Make the model").click()
    file = tmp_path / "ecg.safetensors"
    save_file({"w": np.arange(2_500_000, dtype=np.float32)}, file)
    sent: list[str] = []

    def cut(route: object) -> None:
        sent.append(route.request.headers["upload-offset"])  # type: ignore[attr-defined]
        if len(sent) == 2:
            route.abort()  # type: ignore[attr-defined]
        else:
            route.continue_()  # type: ignore[attr-defined]

    page.route("**/api/v1/uploads/*", lambda route: cut(route) if route.request.method == "PUT" else route.continue_())
    page.get_by_label("A safetensors file").set_input_files(file)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("ecg-again 1.0.0")
    assert sent == ["0", str(4 << 20), str(4 << 20), str(8 << 20)]


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_lineage_is_a_picture_that_the_keyboard_walks(
    width: int, dark: bool, visit: Visit, story: Story, trained: str, tmp_path: Path
) -> None:
    page = visit("mia@metro.example", width=width, dark=dark)
    page.goto(f"/models/{story.model}/versions/2.0.0")
    assert overflow(page) <= 0
    picture = page.get_by_role("region", name="Lineage")
    box = picture.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    keep(page, "lineage", tmp_path)
    picture.focus()
    page.keyboard.press("Tab")
    expect(picture.get_by_role("link", name="Version 1.0.0: initial weights")).to_be_focused()
    page.keyboard.press("Tab")
    run = picture.get_by_role("link", name="Version 2.0.0").or_(picture.get_by_role("link", name="Run: fedavg"))
    expect(run.and_(page.locator(":focus"))).to_have_count(1)
    page.get_by_text("The same in words").click()
    expect(page.get_by_text("Given by acme: 1 device, 2 updates")).to_be_visible()
    picture.get_by_role("link", name="Run: fedavg").press("Enter")
    page.wait_for_url(f"**/runs/{trained}")


@pytest.mark.parametrize("width", [1280, 360])
def test_two_versions_are_compared(width: int, visit: Visit, story: Story, trained: str, tmp_path: Path) -> None:
    page = visit(width=width)
    page.goto(f"/models/{story.model}")
    page.get_by_role("link", name="Compare two versions").click()
    expect(page.get_by_label("From")).to_have_value("1.0.0")
    expect(page.get_by_label("To", exact=True)).to_have_value("2.0.0")
    expect(page.get_by_role("cell", name="layers.0.weight")).to_be_visible()
    expect(page.get_by_text("apart")).to_be_visible()
    assert overflow(page) <= 0
    keep(page, "compare", tmp_path)
    page.get_by_label("From").select_option("2.0.0")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_text("All 4 tensors hold the same numbers")).to_be_visible()


def test_another_form_is_made_while_one_waits(visit: Visit, story: Story) -> None:
    page = visit()
    page.goto(f"/models/{story.model}/versions/1.0.0")
    page.get_by_role("button", name="Make state_dict").click()
    link = page.get_by_role("link", name="state_dict")
    expect(link).to_be_visible(timeout=60_000)
    with page.expect_download() as download:
        link.click()
    assert download.value.suggested_filename == "radiology-v1-1.0.0.pt"


def test_the_start_form_says_what_would_happen_while_one_types(visit: Visit, story: Story, trained: str) -> None:
    page = visit()
    page.goto(f"/runs/new?model={story.model}")
    preview = page.get_by_role("region", name="What will happen")
    expect(preview).to_contain_text("would begin at once with 3 devices of 3 organizations")
    rounds = page.get_by_label("Least devices a round")
    rounds.fill("4")
    expect(preview).to_contain_text("would wait for 1 more device")
    expect(preview).to_contain_text("Only 3 devices could ever take part, and a round needs 4.")
    expect(rounds).to_be_focused()
    rate = page.get_by_label("Learning rate")
    rate.fill("900")
    expect(preview).to_contain_text("It cannot start like this.")
    expect(rate).to_have_attribute("aria-invalid", "true")
    rate.fill("0.5")
    rounds.fill("3")
    expect(preview).to_contain_text("would begin at once")
    expect(rate).not_to_have_attribute("aria-invalid", "true")
    page.get_by_label("Rounds", exact=True).fill("2")
    page.get_by_role("button", name="Start training").press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("has started")
    page.get_by_role("link", name="Stop").or_(page.get_by_role("button", name="Stop")).first.click()
    page.get_by_role("button", name="Stop").last.click()
    page.goto("/runs?state=stopped")
    expect(page.get_by_role("cell", name=MODEL).first).to_be_visible()


@pytest.mark.parametrize("width", [1280, 360])
def test_the_start_form_works_without_javascript(
    width: int, visit: Visit, story: Story, trained: str, tmp_path: Path
) -> None:
    page = visit(width=width, java_script_enabled=False)
    page.goto(f"/runs/new?model={story.model}")
    page.get_by_label("Least devices a round").fill("9")
    page.get_by_label("Epochs").fill("3")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("region", name="What will happen")).to_contain_text("would wait for 6 more devices")
    expect(page.get_by_label("Epochs")).to_have_value("3")
    page.get_by_role("button", name="Show its settings").click()
    expect(page.get_by_label("Epochs")).to_have_value("3")
    keep(page, "start", tmp_path)
