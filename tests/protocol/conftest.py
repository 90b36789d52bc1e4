"""One real portal for all tests of the protocol, with a handle to offer tasks; a fresh device for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.protocol.wire import Device
from tests.running import Portal

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def portal() -> Iterator[Portal]:
    with Portal(module="tests.driving") as running:
        yield running


@pytest.fixture
def own_portal() -> Iterator[Portal]:
    """A portal that the test may stop or kill."""
    with Portal(module="tests.driving") as running:
        yield running


@pytest.fixture
def device(portal: Portal) -> Device:
    return enrol(portal)


@pytest.fixture
def other_device(portal: Portal) -> Device:
    return enrol(portal, organization="rival")


def enrol(portal: Portal, organization: str = "metro") -> Device:
    """A device that exists from now on."""
    return Device(portal, portal.do("enrol", organization=organization, first=next(_numbers))[0])
