"""One table of moves for everything that moves."""

from __future__ import annotations

from enum import StrEnum

import pytest

from fedwire import routes, states

KINDS: dict[str, type[StrEnum]] = {
    "run": states.RunState,
    "round": states.RoundState,
    "assignment": states.AssignmentState,
    "member": states.MemberState,
    "invitation": states.InvitationState,
    "device": states.DeviceState,
    "rollout": states.RolloutState,
    "experiment": states.ExperimentState,
    "installation": states.InstallationState,
    "task": states.TaskState,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_knows_every_state_and_leads_only_to_known_ones(kind: str) -> None:
    known = set(KINDS[kind])
    assert states.MOVES[kind].keys() == known
    assert set().union(*states.MOVES[kind].values()) <= known
    assert all(state not in followers for state, followers in states.MOVES[kind].items())


@pytest.mark.parametrize("kind", KINDS)
def test_every_state_can_be_reached_from_the_first(kind: str) -> None:
    reached, edge = set(), {next(iter(KINDS[kind]))}
    while edge:
        reached |= edge
        edge = set().union(*(states.MOVES[kind][state] for state in edge)) - reached
    first_states = {"device": {"active"}, "task": {"open"}}.get(kind, set())
    assert reached | first_states == set(KINDS[kind])


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("run", "completed", "running"),
        ("run", "pending", "completed"),
        ("round", "done", "open"),
        ("assignment", "submitted", "late"),
        ("member", "left", "active"),
        ("member", "declined", "active"),
        ("invitation", "revoked", "accepted"),
        ("device", "revoked", "active"),
        ("task", "answered", "open"),
        ("task", "nonsense", "open"),
    ],
)
def test_forbidden_moves(kind: str, old: str, new: str) -> None:
    assert not states.may_move(kind, old, new)


def test_allowed_moves_and_ends() -> None:
    assert states.may_move("run", "running", "paused")
    assert states.may_move("assignment", "expired", "late")
    assert states.is_final("run", "stopped")
    assert not states.is_final("run", "paused")


def test_words_are_for_people() -> None:
    assert states.word("assignment", "submitted") == "sent"
    assert states.word("assignment", "expired") == "dropped"
    assert states.word("device", "active") == "active"
    assert all(states.WORDS[kind].keys() <= states.MOVES[kind].keys() for kind in states.WORDS)


def test_words_in_addresses_are_reserved_as_names() -> None:
    parts = {
        part
        for name, value in vars(routes).items()
        if name.isupper() and isinstance(value, str)
        for part in value.split("/")
    }
    standing = {"rounds", "sessions", "strategies", "latest", "versions", "models", "members", "invite", "join"}
    assert standing <= routes.RESERVED_NAMES | parts
    assert {"catalog", "latest", "rounds", "sessions"} <= routes.RESERVED_NAMES
