"""Who may do what: the literal tables. `federations.permissions` asks them, docs/permissions.md is printed from them.

Three questions, three tables. ORGANIZATION: what a role may do in its own organization. OBJECTS: what it may do on a
federation, a model or a run, by the organization's relation to it; these rows become object grants when something is
founded, joined, shared or started. SCOPES: what a key may do at most, whatever its person may.
"""

from __future__ import annotations

from collections.abc import Mapping

from federations.models import Role

OWNER, ADMIN, SCIENTIST = Role.OWNER, Role.ADMIN, Role.DATA_SCIENTIST
OPERATOR, PRIVACY, AUDITOR, VIEWER = Role.DEVICE_OPERATOR, Role.PRIVACY_OFFICER, Role.AUDITOR, Role.VIEWER
EVERYONE = frozenset(Role)

Roles = frozenset[Role]

# organization.verb → the roles that may, in their own organization
ORGANIZATION: Mapping[str, Roles] = {
    "organization.view": EVERYONE,
    "organization.view_devices": EVERYONE,
    "organization.make_key": EVERYONE,  # a key of one's own, with no more rights than oneself
    "organization.view_audit": frozenset({OWNER, ADMIN, PRIVACY, AUDITOR}),
    "organization.manage_people": frozenset({OWNER, ADMIN}),
    "organization.manage_keys": frozenset({OWNER, ADMIN}),
    "organization.manage_webhooks": frozenset({OWNER, ADMIN}),
    "organization.manage_devices": frozenset({OWNER, ADMIN, OPERATOR}),
    "organization.enroll_devices": frozenset({OWNER, ADMIN, OPERATOR, SCIENTIST}),
    # Sends versions to the organization's own devices: of models that it owns or that are shared with it.
    "organization.deploy": frozenset({OWNER, ADMIN, OPERATOR}),
    # What versions of the organization's own models must pass before they go to devices, whoever has these.
    "organization.set_gates": frozenset({OWNER, ADMIN}),
    # Lets one version that did not pass go all the same, and answers for it with a reason.
    "organization.override_gates": frozenset({OWNER}),
    "organization.found_federation": frozenset({OWNER, ADMIN}),
    "organization.answer_invitation": frozenset({OWNER, ADMIN}),
    "organization.accept_agreement": frozenset({OWNER, ADMIN, PRIVACY}),
    "organization.create_model": frozenset({OWNER, SCIENTIST}),
    "organization.set_policy": frozenset({OWNER, PRIVACY}),
    # Reads what the portal holds of the organization's own devices, and the models that they began with.
    "organization.audit_leakage": frozenset({OWNER, PRIVACY}),
    # Lets the plans of a federation run on the organization's own devices, which return summaries.
    "organization.consent_inference": frozenset({OWNER, PRIVACY}),
    "organization.manage": frozenset({OWNER}),
}

# noun → relation of the organization to the object → verb → the roles that may
OBJECTS: Mapping[str, Mapping[str, Mapping[str, Roles]]] = {
    "federation": {
        "owner": {
            "view": EVERYONE,
            "view_roster": EVERYONE,
            "manage": frozenset({OWNER, ADMIN}),
            "invite": frozenset({OWNER, ADMIN}),
            "share": frozenset({OWNER, SCIENTIST}),
            "train": frozenset({OWNER, SCIENTIST}),
        },
        "member": {
            "view": EVERYONE,
            "view_roster": EVERYONE,
            "share": frozenset({OWNER, SCIENTIST}),
        },
        # A member of a federation whose owner lets members start runs.
        "trainer": {
            "view": EVERYONE,
            "view_roster": EVERYONE,
            "share": frozenset({OWNER, SCIENTIST}),
            "train": frozenset({OWNER, SCIENTIST}),
        },
        # Invited: sees what it is invited to, not who is in it.
        "invited": {"view": EVERYONE},
    },
    "model": {
        "owner": {
            "view": EVERYONE,
            "pull": frozenset({OWNER, SCIENTIST, OPERATOR}),
            "push": frozenset({OWNER, SCIENTIST}),
            "share": frozenset({OWNER, SCIENTIST}),
            "train": frozenset({OWNER, SCIENTIST}),
            "manage": frozenset({OWNER, SCIENTIST}),
        },
        "member": {
            "view": EVERYONE,
            "pull": frozenset({OWNER, SCIENTIST, OPERATOR}),
            "train": frozenset({OWNER, SCIENTIST}),  # where the federation allows it
        },
    },
    "run": {
        "starter": {"view": EVERYONE, "control": frozenset({OWNER, SCIENTIST})},
        "owner": {"view": EVERYONE, "control": frozenset({OWNER, SCIENTIST})},
        "member": {"view": EVERYONE},
    },
}

# Relation to a run → whose flagged updates people see there who see the run: a flag says something of one
# organization's data, so it is for that organization and for those who answer for the run.
EVERY_FLAG = "see which updates of this run stand out, of every organization"
OWN_FLAGS = "see which updates of this run stand out, of one's own organization"
FLAGS: Mapping[str, str] = {"starter": EVERY_FLAG, "owner": EVERY_FLAG, "member": OWN_FLAGS}

_READ_FEDERATIONS = frozenset({"organization.view", "federation.view", "federation.view_roster"})
_READ_MODELS = frozenset({"organization.view", "federation.view", "model.view", "model.pull"})
_READ_RUNS = frozenset({"organization.view", "federation.view", "model.view", "run.view"})
_READ_TEAM = frozenset({"organization.view", "organization.view_devices", "organization.view_audit"})

ANY_SCOPE = "*"
# What a person answers for: no scope that a machine is given for its work has it, or the key that pushes a version
# could also let it through the gate it failed. Only a key that may all its person may has it.
UNSCOPED = frozenset({"organization.override_gates", "organization.consent_inference"})
# scope of a key → all it may ask for; `*` allows everything its person may do
SCOPES: Mapping[str, frozenset[str]] = {
    "federations:read": _READ_FEDERATIONS,
    "federations:write": _READ_FEDERATIONS
    | {
        "federation.manage",
        "federation.invite",
        "organization.found_federation",
        "organization.answer_invitation",
        "organization.accept_agreement",
    },
    "models:read": _READ_MODELS,
    "models:write": _READ_MODELS
    | {"model.push", "model.share", "model.manage", "federation.share", "organization.create_model"}
    | {"organization.deploy", "organization.set_gates"},
    "runs:read": _READ_RUNS,
    "runs:write": _READ_RUNS | {"run.control", "model.train", "federation.train", "organization.audit_leakage"},
    "team:read": _READ_TEAM,
    "team:write": _READ_TEAM
    | {
        "organization.manage_people",
        "organization.manage_keys",
        "organization.manage_webhooks",
        "organization.make_key",
        "organization.manage_devices",
        "organization.set_policy",
        "organization.manage",
    },
    "devices:enroll": frozenset({"organization.enroll_devices"}),
    ANY_SCOPE: frozenset(ORGANIZATION)
    | {f"{noun}.{verb}" for noun, relations in OBJECTS.items() for verbs in relations.values() for verb in verbs},
}

# What a scope lets a key do, for whoever makes one.
SCOPE_WORDS: Mapping[str, str] = {
    "devices:enroll": "Register devices. The one to put on machines: it can do nothing else.",
    "federations:read": "See your federations, their members and who is invited.",
    "federations:write": "Found federations, invite, join and leave them, and change them.",
    "models:read": "See and download models that your organization owns or that are shared with it.",
    "models:write": "Describe models, upload versions, share them, send them to your devices, and set their gates.",
    "runs:read": "See runs, their rounds and results.",
    "runs:write": "Start, pause, resume and stop runs, and audit what they give away.",
    "team:read": "See people, devices and the audit log.",
    "team:write": "Change people, roles, devices and the policy, and make and revoke keys.",
    ANY_SCOPE: "Everything that you may do. For your own command line; never put it on a device.",
}

# What an action is called in "You may not … here."
WORDS: Mapping[str, str] = {
    "organization.view": "see this organization",
    "organization.view_devices": "see the devices",
    "organization.make_key": "make keys of one's own",
    "organization.view_audit": "read the audit log",
    "organization.manage_people": "manage people",
    "organization.manage_keys": "manage other people's keys",
    "organization.manage_webhooks": "manage webhooks",
    "organization.manage_devices": "manage devices",
    "organization.enroll_devices": "register devices",
    "organization.deploy": "send models to the devices",
    "organization.set_gates": "set what versions must pass before they go to devices",
    "organization.override_gates": "let a version go to devices that did not pass its gate",
    "organization.found_federation": "found a federation",
    "organization.answer_invitation": "answer invitations for the organization",
    "organization.accept_agreement": "accept a study agreement for the organization",
    "organization.create_model": "create models",
    "organization.set_policy": "change the policy",
    "organization.audit_leakage": "audit what runs give away of the organization's rows",
    "organization.consent_inference": "consent to inference on the organization's devices",
    "organization.manage": "rename the organization or hand it over",
    "federation.view": "see this federation",
    "federation.view_roster": "see who is in this federation",
    "federation.manage": "manage this federation",
    "federation.invite": "invite to this federation",
    "federation.share": "share models with this federation",
    "federation.train": "start runs in this federation",
    "model.view": "see this model",
    "model.pull": "pull this model",
    "model.push": "push versions of this model",
    "model.share": "share this model",
    "model.train": "train this model",
    "model.manage": "change this model",
    "run.view": "see this run",
    "run.control": "pause, resume or stop this run, make its rounds wait or not, or keep what came of it",
}

# What a role is for, in one sentence.
ABOUT: Mapping[str, str] = {
    OWNER: "Answers for the organization: may do everything, and alone renames it or hands it over.",
    ADMIN: "Looks after people, keys, devices, their models and federations; does not train or set the policy.",
    SCIENTIST: "Makes models, shares them and starts runs; may register devices.",
    OPERATOR: "Registers devices and looks after them; pulls models and sends them there.",
    PRIVACY: "Sets the policy, accepts study agreements, audits runs and reads the audit log; does not train.",
    AUDITOR: "Reads everything, the audit log too, and changes nothing; keys of their own only read too.",
    VIEWER: "Sees federations, models, runs and devices, and changes nothing; keys of their own only see too.",
}

# Lower number, higher role; nobody gives a role above their own.
RANK: Mapping[str, int] = {
    OWNER: 0,
    ADMIN: 1,
    SCIENTIST: 2,
    OPERATOR: 2,
    PRIVACY: 2,
    AUDITOR: 2,
    VIEWER: 3,
}


def may_invite(author: str, role: str) -> bool:
    """Whether a person with the role `author` may invite a colleague as `role`, or with "" guests to a federation."""
    if not role:
        return author in OBJECTS["federation"]["owner"]["invite"]
    return author in ORGANIZATION["organization.manage_people"] and RANK[role] >= RANK[author]


def verbs(noun: str, relation: str, role: str) -> frozenset[str]:
    """What `role` may do on a `noun` to which its organization has `relation`. Raises KeyError for an unknown one."""
    return frozenset(verb for verb, roles in OBJECTS[noun][relation].items() if role in roles)


def rows(noun: str, relation: str) -> list[tuple[str, str, Roles]]:
    """The lines of a table of OBJECTS, in words: what one may, the action by its name ("" for what goes with seeing),
    and the roles that may. Raises KeyError for an unknown noun or relation."""
    of = OBJECTS[noun][relation]
    found = [(WORDS[f"{noun}.{verb}"], f"{noun}.{verb}", allowed) for verb, allowed in of.items()]
    return [*found, (FLAGS[relation], "", of["view"])] if noun == "run" else found


def actions_of(role: str) -> frozenset[str]:
    """All that `role` may do somewhere: in its organization, or on an object to which that has some relation."""
    own = {action for action, allowed in ORGANIZATION.items() if role in allowed}
    return frozenset(own) | {
        f"{noun}.{verb}" for noun, relations in OBJECTS.items() for how in relations for verb in verbs(noun, how, role)
    }


def scopes_of(role: str) -> tuple[str, ...]:
    """The scopes that are of use to `role`: of one that writes it may do something that only reading does not allow.

    To make keys of one's own, which everybody may, is no reason for a key that changes people and devices.
    """
    may = actions_of(role) - {"organization.make_key"}
    return tuple(
        scope for scope, actions in SCOPES.items() if may & (actions - SCOPES.get(_reading(scope), frozenset()))
    )


def _reading(scope: str) -> str:
    """The scope that only reads what this one writes; "" for others."""
    noun, _, how = scope.partition(":")
    return f"{noun}:read" if how == "write" else ""


def scope_for(action: str) -> str:
    """The smallest scope that allows `action`."""
    fitting = [scope for scope, actions in SCOPES.items() if action in actions]
    return min(
        fitting, key=lambda scope: (scope == ANY_SCOPE, not scope.startswith(_noun_of(action)), len(SCOPES[scope]))
    )


def _noun_of(action: str) -> str:
    return action.partition(".")[0]
