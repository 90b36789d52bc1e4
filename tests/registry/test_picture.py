"""The lineage drawn: what stands where, what leads to what, and the same in words."""

from __future__ import annotations

import itertools

from registry.picture import MARGIN, Box, Picture, Run, Step, draw

FIRST = Step("1.0.0", "initial weights")
RUN = Run("run_a", "fedavg, 20 rounds", "in healthcare-consortium", ("acme: 2 devices", "metro: 1 device"))
SECOND = Step("2.0.0", "accuracy 0.930", parent="1.0.0", run=RUN)
THIRD = Step("3.0.0", "accuracy 0.941", parent="2.0.0", run=Run("run_b", "fedavg, 5 rounds", ""))


def boxes(picture: Picture, kind: str) -> list[Box]:
    return [box for box in picture.boxes if box.kind == kind]


def overlap(one: Box, other: Box) -> bool:
    beside = one.x + one.width <= other.x or other.x + other.width <= one.x
    apart = one.y + one.height <= other.y or other.y + other.height <= one.y
    return not (beside or apart)


def test_time_runs_from_left_to_right_through_runs() -> None:
    picture = draw([FIRST, SECOND, THIRD], here="2.0.0")
    order = sorted((box for box in picture.boxes if box.kind != "givers"), key=lambda box: box.x)
    assert [box.reference for box in order] == ["1.0.0", "run_a", "2.0.0", "run_b", "3.0.0"]
    assert [box.reference for box in picture.boxes if box.here] == ["2.0.0"]
    assert len(picture.arrows) == 4


def test_who_gave_hangs_below_the_run() -> None:
    picture = draw([FIRST, SECOND])
    (run,), (givers,) = boxes(picture, "run"), boxes(picture, "givers")
    assert (givers.x, givers.y, givers.width) == (run.x, run.y + run.height, run.width)
    assert [line.text for line in givers.lines] == ["acme: 2 devices", "metro: 1 device"]


def test_two_runs_from_one_version_fork_and_nothing_overlaps() -> None:
    branch = Step("4.0.0", "accuracy 0.900", parent="1.0.0", run=RUN)
    twig = Step("5.0.0", "", parent="4.0.0", run=RUN)
    other = Step("1.1.0", "pushed")
    picture = draw([FIRST, other, SECOND, THIRD, branch, twig])
    assert [pair for pair in itertools.combinations(picture.boxes, 2) if overlap(*pair)] == []
    rows = {box.reference: box.y for box in boxes(picture, "version")}
    assert rows["1.0.0"] == rows["2.0.0"] == rows["3.0.0"] < rows["4.0.0"] == rows["5.0.0"] < rows["1.1.0"]


def test_everything_lies_inside_the_picture() -> None:
    picture = draw([FIRST, SECOND, Step("4.0.0", "", parent="1.0.0", run=RUN)])
    assert min(box.x for box in picture.boxes) == min(box.y for box in picture.boxes) == MARGIN
    assert max(box.x + box.width for box in picture.boxes) <= picture.width
    assert max(box.y + box.height for box in picture.boxes) <= picture.height


def test_a_version_whose_parent_is_not_drawn_still_shows_its_run() -> None:
    picture = draw([SECOND])
    (run,) = boxes(picture, "run")
    assert run.x >= MARGIN
    assert len(picture.arrows) == 1


def test_many_givers_are_counted_and_long_names_cut_with_the_whole_at_hand() -> None:
    names = tuple(f"{'university hospital of somewhere far away, ' * 4} {number}: 1 device" for number in range(9))
    picture = draw([FIRST, Step("2.0.0", "", parent="1.0.0", run=Run("run_a", "fedavg", "", names))])
    (givers,) = boxes(picture, "givers")
    assert givers.lines[-1].text == "and 4 more"
    assert givers.lines[0].text.endswith("…")
    assert givers.lines[0].whole == names[0]
    assert all(name in givers.label for name in names)


def test_a_picture_with_room_cuts_nothing() -> None:
    giver = "university hospital of somewhere: 2 devices, 20 updates, 3040 rows"
    picture = draw([FIRST, Step("2.0.0", "", parent="1.0.0", run=Run("run_a", "fedavg", "", (giver,)))])
    (givers,) = boxes(picture, "givers")
    assert givers.lines[0].text == giver
    assert picture.width <= 1000


def test_the_words_say_what_the_picture_shows() -> None:
    words = draw([FIRST, SECOND]).sentences
    assert words[0] == "Version 1.0.0: initial weights."
    assert words[1] == (
        "Version 2.0.0: trained from version 1.0.0 by fedavg, 20 rounds, in healthcare-consortium, accuracy 0.930. "
        "Given by acme: 2 devices; metro: 1 device."
    )


def test_nothing_is_drawn_of_nothing() -> None:
    assert draw([]).boxes == ()
