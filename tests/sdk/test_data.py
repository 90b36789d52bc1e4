"""Rows on the device: what is read, what is refused and with which words, and which rows are set aside."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedportal_sdk import data
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError

PATIENTS = "radius,texture,diagnosis\n1.5,20,M\n2.5,10,B\n3.5,30,M\n"


def csv_file(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "patients.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(tmp_path: Path, text: str | bytes, target: str = "diagnosis") -> FedportalError:
    """The error of a file for a model that takes its columns as they stand."""
    path = csv_file(tmp_path, text)
    with pytest.raises(FedportalError) as caught:
        features_as_they_stand(path, target)
    assert caught.value.next_step
    return caught.value


def features_as_they_stand(path: Path, target: str) -> None:
    table = data.load(path, target)
    data.features_for(table, Architecture.parse({"kind": "logistic", "inputs": len(table.columns)}))


def test_a_csv_gives_numbers_and_a_target_of_strings(tmp_path: Path) -> None:
    table = data.load(csv_file(tmp_path, PATIENTS), "diagnosis")
    assert table.features.tolist() == [[1.5, 20], [2.5, 10], [3.5, 30]]
    assert table.target.tolist() == ["M", "B", "M"]
    assert table.columns == ("radius", "texture")
    assert table.classes == ["B", "M"]


def test_the_target_may_stand_anywhere_and_be_a_number(tmp_path: Path) -> None:
    table = data.load(csv_file(tmp_path, "y,a,b\n1,2,3\n0,5,6\n"), "y")
    assert table.features.tolist() == [[2, 3], [5, 6]]
    assert table.target.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_commas_semicolons_and_tabs_separate(tmp_path: Path, separator: str) -> None:
    table = data.load(csv_file(tmp_path, PATIENTS.replace(",", separator)), "diagnosis")
    assert len(table) == 3


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + PATIENTS,  # a byte order mark, as spreadsheets write it
        PATIENTS.replace("\n", "\r\n"),
        PATIENTS + "\n\n",
        PATIENTS.replace("M", '"M"').replace("20", '"20"'),
        PATIENTS.replace("radius,texture", " radius , texture "),
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path: Path, text: str) -> None:
    table = data.load(csv_file(tmp_path, text), "diagnosis")
    assert len(table) == 3
    assert table.columns == ("radius", "texture")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FedportalError) as caught:
        data.load(tmp_path / "none.csv", "diagnosis")
    assert caught.value.code == "data_missing"
    assert "none.csv" in caught.value.message


@pytest.mark.parametrize("content", [b"", b"\n", b"a,diagnosis\n", b"a,diagnosis\n\n\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    assert refused(tmp_path, content).code == "data_empty"


def test_a_missing_target_column_is_refused_with_the_columns_there_are(tmp_path: Path) -> None:
    error = refused(tmp_path, PATIENTS, "outcome")
    assert error.code == "data_no_target"
    assert "radius, texture, diagnosis" in error.message


@pytest.mark.parametrize("text", ["high", "1,5", "1_000", "0x10", "5%"])
def test_text_in_a_column_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    quoted = f'"{text}"'
    error = refused(tmp_path, PATIENTS.replace("2.5", quoted))
    assert (error.code, error.context) == ("data_not_numeric", {"column": "radius", "row": 2, "value": text})


def test_text_is_found_beyond_the_first_block(tmp_path: Path) -> None:
    lines = ["a,y", *(f"{i},{i % 2}" for i in range(data.ROWS_AT_ONCE + 10)), "n/a,1"]
    error = refused(tmp_path, "\n".join(lines), "y")
    assert (error.code, error.context["row"]) == ("data_not_numeric", data.ROWS_AT_ONCE + 11)


@pytest.mark.parametrize("gap", ["", " ", "nan", "inf", "-Infinity"])
def test_a_gap_is_refused_with_its_place(tmp_path: Path, gap: str) -> None:
    error = refused(tmp_path, PATIENTS.replace("10", gap))
    assert (error.code, error.context["column"], error.context["row"]) == ("data_gap", "texture", 2)


@pytest.mark.parametrize("cell", ["high", "", "nan", "1_000"])
def test_a_column_that_the_model_does_not_take_may_hold_anything(
    tmp_path: Path, cell: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "".join(f"{i},{i + 1},{'M' if i % 2 else 'B'}\n" for i in range(data.ROWS_AT_ONCE))
    text = f"radius,note,diagnosis\n{rows}7,{cell},M\n8,{cell},B\n"
    table = data.load(csv_file(tmp_path, text), "diagnosis")
    (warned,) = caplog.messages
    assert f"row {data.ROWS_AT_ONCE + 1}" in warned
    narrow = Architecture.parse({"kind": "logistic", "inputs": 1, "columns": ["radius"]})
    assert data.features_for(table, narrow)[-3:].tolist() == [[data.ROWS_AT_ONCE - 1], [7], [8]]
    with pytest.raises(FedportalError) as caught:
        data.features_for(table, Architecture.parse({"kind": "logistic", "inputs": 1, "columns": ["note"]}))
    assert (caught.value.context["column"], caught.value.context["row"]) == ("note", data.ROWS_AT_ONCE + 1)


def test_a_file_without_a_column_of_numbers_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(FedportalError) as caught:
        data.load(csv_file(tmp_path, "note,diagnosis\nhigh,M\nlow,B\n"), "diagnosis")
    assert caught.value.code == "data_not_numeric"


@pytest.mark.parametrize("gap", ["", "nan"])
def test_a_gap_in_the_target_is_refused(tmp_path: Path, gap: str) -> None:
    error = refused(tmp_path, f"a,y\n1,0\n2,1\n3,{gap}\n", "y")
    assert (error.code, error.context["column"], error.context["row"]) == ("data_gap", "y", 3)


def test_a_ragged_row_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, PATIENTS + "1,2\n")
    assert (error.code, error.context) == ("data_ragged", {"row": 4, "got": 2, "expected": 3})


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, PATIENTS.replace("B", "M")).code == "data_one_class"


def test_binary_files_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, bytes(range(256))).code in ("data_missing", "data_empty", "data_no_target")


def test_arrays_are_taken_as_they_are() -> None:
    table = data.load((np.arange(6).reshape(3, 2), ["a", "b", "a"]), "y")
    assert table.features.dtype == np.float64
    assert table.classes == ["a", "b"]


def test_images_are_flattened_in_row_major_order() -> None:
    images = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    assert data.load((images, [0, 1]), "y").features.tolist() == images.reshape(2, 12).tolist()


def test_a_gap_in_an_array_is_refused() -> None:
    with pytest.raises(FedportalError) as caught:
        data.load((np.array([[1.0, 2.0], [np.nan, 3.0]]), [0, 1]), "y")
    assert caught.value.code == "data_gap"


class Frame:
    """What the SDK uses of a data frame."""

    def __init__(self, **columns: list[object]) -> None:
        self.columns: list[object] = list(columns)
        self._cells = np.array(list(columns.values()), dtype=object).T

    def to_numpy(self, dtype: type) -> np.ndarray:
        return self._cells.astype(dtype)


def test_a_data_frame_is_read_by_its_columns() -> None:
    table = data.load(Frame(a=[1, 2], y=["B", "M"], b=[0.5, 1.5]), "y")
    assert table.columns == ("a", "b")
    assert table.features.tolist() == [[1, 0.5], [2, 1.5]]


def test_text_in_a_data_frame_is_refused_with_its_place() -> None:
    with pytest.raises(FedportalError) as caught:
        data.load(Frame(a=[1, "two"], y=["B", "M"]), "y")
    assert (caught.value.code, caught.value.context["row"]) == ("data_not_numeric", 2)


def test_column_of_a_data_frame_that_the_model_does_not_take_may_hold_anything() -> None:
    table = data.load(Frame(a=[1, 2], y=["B", "M"], note=["x", None], b=[float("nan"), 1.5]), "y")
    narrow = Architecture.parse({"kind": "logistic", "inputs": 1, "columns": ["a"]})
    assert data.features_for(table, narrow).tolist() == [[1], [2]]
    assert {name: error.code for name, error in table.flaws.items()} == {"note": "data_not_numeric", "b": "data_gap"}


# -- classes

BINARY = Architecture.parse({"kind": "logistic", "inputs": 2, "classes": 2})
THREE = Architecture.parse({"kind": "logistic", "inputs": 2, "classes": 3})
LINEAR = Architecture.parse({"kind": "linear", "inputs": 2})


def table_of(*target: object) -> data.Table:
    return data.load((np.zeros((len(target), 2)), list(target)), "y")


@pytest.mark.parametrize(
    ("target", "architecture", "labels", "numbers"),
    [
        (["M", "B", "M"], BINARY, None, [1, 0, 1]),
        (["M", "B", "M"], BINARY, ["M", "B"], [0, 1, 0]),
        ([1, 2, 1], BINARY, None, [0, 1, 0]),
        ([0, 1, 1], BINARY, None, [0, 1, 1]),
        (["a", "c", "b"], THREE, None, [0, 2, 1]),
        ([0, 2, 0], THREE, None, [0, 2, 0]),  # class 1 does not occur here and keeps its place
        (["a", "c"], THREE, ["a", "b", "c"], [0, 2]),
        ([10, 30], THREE, [10, 20, 30], [0, 2]),
    ],
)
def test_classes_are_numbered(
    target: list[object], architecture: Architecture, labels: list[object] | None, numbers: list[int]
) -> None:
    assert data.labels_for(table_of(*target), architecture, labels).tolist() == numbers


@pytest.mark.parametrize(
    ("target", "architecture", "labels"),
    [
        (["a", "b", "c"], BINARY, None),
        (["a", "c"], THREE, None),  # which of the three they are cannot be known
        ([0.5, 1.5, 2.5], BINARY, None),
        (["a", "b"], BINARY, ["a", "x"]),
    ],
)
def test_other_classes_than_the_models_are_refused(
    target: list[object], architecture: Architecture, labels: list[object] | None
) -> None:
    with pytest.raises(FedportalError) as caught:
        data.labels_for(table_of(*target), architecture, labels)
    assert caught.value.code == "data_classes"


def test_a_linear_model_takes_numbers() -> None:
    assert data.labels_for(table_of(0.5, 1.5), LINEAR).tolist() == [0.5, 1.5]
    with pytest.raises(FedportalError) as caught:
        data.labels_for(table_of("a", "b"), LINEAR)
    assert caught.value.code == "data_not_numeric"


NAMED = Architecture.parse({"kind": "logistic", "inputs": 2, "labels": ["well", "ill"]})
NUMBERED = Architecture.parse({"kind": "logistic", "inputs": 2, "classes": 3, "labels": ["1", "2", "3"]})


@pytest.mark.parametrize(
    ("target", "architecture", "numbers"),
    [
        (["well", "ill", "well"], NAMED, [0, 1, 0]),  # sorted, ill would come first
        ([2, 3, 2], NUMBERED, [1, 2, 1]),
        ([1, 2, 1], NUMBERED, [0, 1, 0]),  # what the model names counts before what looks like class numbers
        ([0, 1, 1], NAMED, [0, 1, 1]),  # arrays may bring class numbers
    ],
)
def test_classes_are_numbered_as_the_model_names_them(
    target: list[object], architecture: Architecture, numbers: list[int]
) -> None:
    assert data.labels_for(table_of(*target), architecture).tolist() == numbers


def test_ones_own_labels_say_what_the_models_classes_are_called_here() -> None:
    assert data.labels_for(table_of("gesund", "krank"), NAMED, ["gesund", "krank"]).tolist() == [0, 1]


@pytest.mark.parametrize("wrong", ["healthy", "Ill", "0", "1"])
def test_a_class_that_the_model_does_not_name_is_refused(wrong: str, tmp_path: Path) -> None:
    table = data.load(csv_file(tmp_path, f"a,b,diagnosis\n1,2,well\n3,4,{wrong}\n"), "diagnosis")
    with pytest.raises(FedportalError) as caught:
        data.labels_for(table, NAMED)
    assert caught.value.code == "data_labels"
    assert caught.value.context == {"target": "diagnosis", "unknown": wrong, "labels": "well, ill"}


def test_numbers_in_a_file_are_no_names_of_classes(tmp_path: Path) -> None:
    """Which of the hospital's 0 and 1 is ill cannot be known."""
    table = data.load(csv_file(tmp_path, "a,b,diagnosis\n1,2,0\n3,4,1\n"), "diagnosis")
    with pytest.raises(FedportalError) as caught:
        data.labels_for(table, NAMED)
    assert caught.value.code == "data_labels"


# -- columns by name

THREE_COLUMNS = Architecture.parse({"kind": "logistic", "inputs": 3, "columns": ["age", "area", "texture"]})


def rows_of(tmp_path: Path, header: str) -> data.Table:
    """A table whose cells say which column they belong to: age 1, area 2, texture 3, all others 9."""
    value = {"age": "1", "area": "2", "texture": "3"}
    names = header.split(",")
    lines = [",".join([*(value.get(name, "9") for name in names), kind]) for kind in ("M", "B")]
    return data.load(csv_file(tmp_path, "\n".join([f"{header},diagnosis", *lines])), "diagnosis")


@pytest.mark.parametrize("header", [",".join(order) for order in permutations(["age", "area", "texture"])])
def test_columns_in_any_order_are_put_in_the_models(
    header: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert data.features_for(rows_of(tmp_path, header), THREE_COLUMNS).tolist() == [[1, 2, 3]] * 2
    assert not caplog.records


def test_further_columns_are_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = rows_of(tmp_path, "ward,texture,age,bed,area")
    assert data.features_for(table, THREE_COLUMNS).tolist() == [[1, 2, 3]] * 2
    assert "left out: ward, bed" in caplog.text


def test_missing_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(FedportalError) as caught:
        data.features_for(rows_of(tmp_path, "Age,area,smoothness"), THREE_COLUMNS)
    assert (caught.value.code, caught.value.context) == ("data_columns", {"missing": "age, texture"})


def test_many_missing_columns_are_counted(tmp_path: Path) -> None:
    wide = Architecture.parse({"kind": "linear", "inputs": 12, "columns": [f"c{n}" for n in range(12)]})
    with pytest.raises(FedportalError, match="c8, c9 and 2 more"):
        data.features_for(rows_of(tmp_path, "age"), wide)


def test_a_column_that_is_there_twice_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(FedportalError) as caught:
        data.features_for(rows_of(tmp_path, "age,area,texture,area"), THREE_COLUMNS)
    assert (caught.value.code, caught.value.context) == ("data_column_twice", {"column": "area"})


@pytest.mark.parametrize("source", ["arrays", "frame without names"])
def test_data_without_names_stay_as_they_stand(source: str) -> None:
    frame = Frame(**{"0": [7, 7], "1": [8, 8], "2": [9, 9], "y": ["B", "M"]})
    frame.columns = [0, 1, 2, "y"]
    arrays = (np.array([[7.0, 8, 9]] * 2), ["B", "M"])
    table = data.load(arrays if source == "arrays" else frame, "y")
    assert data.features_for(table, THREE_COLUMNS).tolist() == [[7, 8, 9]] * 2


def test_a_data_frame_is_taken_by_name() -> None:
    table = data.load(Frame(texture=[3, 3], y=["B", "M"], age=[1, 1], area=[2, 2]), "y")
    assert data.features_for(table, THREE_COLUMNS).tolist() == [[1, 2, 3]] * 2


def test_a_model_without_names_takes_columns_as_they_stand(tmp_path: Path) -> None:
    table = rows_of(tmp_path, "texture,age")
    assert data.features_for(table, BINARY).tolist() == [[3, 1]] * 2
    with pytest.raises(FedportalError) as caught:
        data.features_for(table, Architecture.parse({"kind": "linear", "inputs": 3}))
    assert caught.value.code == "data_shape"


# -- rows set aside


def split_of(target: list[object], seed: int = 0) -> np.ndarray:
    return data.held_out(table_of(*target), seed)


@given(
    st.lists(st.sampled_from(["B", "M"]), min_size=2, max_size=300).filter(lambda t: len(set(t)) == 2), st.integers()
)
def test_every_class_of_two_rows_stands_on_both_sides(target: list[str], seed: int) -> None:
    aside = split_of(list(target), seed)
    for value in ("B", "M"):
        rows = np.array(target) == value
        if rows.sum() >= 2:
            assert aside[rows].any()
            assert not aside[rows].all()
        else:
            assert not aside[rows].any()


def test_about_a_fifth_is_set_aside() -> None:
    assert 0.18 < split_of([0, 1] * 5000).mean() < 0.22


def test_measured_numbers_are_set_aside_too() -> None:
    assert 10 < split_of([i + 0.5 for i in range(100)]).sum() < 30


def test_the_same_rows_are_set_aside_at_every_start() -> None:
    target: list[object] = [0, 1, 1] * 100
    assert (split_of(target) == split_of(target)).all()
    assert (split_of(target, 1) != split_of(target, 2)).any()


def test_appending_rows_moves_none() -> None:
    before, after = split_of([0, 1] * 100), split_of([0, 1] * 150)
    assert (after[:200] == before).all()


def test_the_split_is_the_documented_one() -> None:
    """Golden: a client in another language sets the same rows aside."""
    assert np.flatnonzero(split_of([0, 1] * 20)).tolist() == GOLDEN_SPLIT


GOLDEN_SPLIT = [2, 4, 6, 32, 33]


def test_all_of_a_hundred_thousand_rows_are_read(tmp_path: Path) -> None:
    row = ",".join(f"{i}.{i:03d}" for i in range(30))
    path = csv_file(tmp_path, ",".join(f"c{i}" for i in range(30)) + ",y\n" + f"{row},M\n{row},B\n" * 50_000)
    table = data.load(path, "y")
    assert table.features.shape == (100_000, 30)
    assert (table.features[0] == table.features[-1]).all()
