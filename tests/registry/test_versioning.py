"""Semantic versions."""

from __future__ import annotations

import pytest

from fedwire.errors import FedportalError
from registry.versioning import FIRST, Version, parse


def test_versions_are_ordered_by_value() -> None:
    texts = ["10.0.0", "2.0.0", "2.10.0", "2.9.9", "2.9.10"]
    assert [str(version) for version in sorted(map(parse, texts))] == ["2.0.0", "2.9.9", "2.9.10", "2.10.0", "10.0.0"]


def test_bumps() -> None:
    assert str(FIRST) == "1.0.0"
    assert str(Version(1, 4, 2).bumped("major")) == "2.0.0"
    assert str(Version(1, 4, 2).bumped("minor")) == "1.5.0"
    assert str(Version(1, 4, 2).bumped("patch")) == "1.4.3"


@pytest.mark.parametrize(
    "text",
    ["", "1", "1.0", "1.0.0.0", "v1.0.0", "1.0.0-beta", "01.0.0", "1.0.0 ", "1.0.0\n", "-1.0.0", "1.0.٣", "latest",
     "1.0.9999999999", "../1.0.0"],
)  # fmt: skip
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(FedportalError) as refused:
        parse(text)
    assert refused.value.code == "version_invalid"
