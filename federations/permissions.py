"""May this actor do this? The one place that answers, and the only module that imports guardian.

Each role of an organization is a group, `org_…:data_scientist`; people are in the groups of their memberships. What a
group may do on a federation, a model or a run is written as object grants (guardian's rows) from the tables in
`federations.roles`: by `write` when something is founded, joined, shared or started, and taken back by `withdraw`.
API, pages, sockets and command line ask `can`, `require` and `visible`. Django's superuser flag means nothing here:
portal staff act through the admin site.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models import BigIntegerField, Q, QuerySet
from django.db.models.functions import Cast
from guardian.models import GroupObjectPermission, UserObjectPermission

from federations import roles
from federations.models import ApiKey, Federation, Membership, Organization, Person, Role
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError

M = TypeVar("M", bound=models.Model)
# What strangers are told is missing.
_WHAT = {"apikey": "key", "person": "person"}


@dataclass(frozen=True)
class Actor:
    """Who acts: a person, for one of their organizations (or none), perhaps through a key."""

    person: Person
    organization: Organization | None
    key: ApiKey | None = None

    @property
    def public_id(self) -> str:
        """What the audit log calls the actor: `key_…` or `usr_…`."""
        return self.key.public_id if self.key is not None else self.person.public_id


class Refused(FedportalError):
    """`forbidden`, with what was asked of what, so that a page can name the people who may."""

    def __init__(self, actor: Actor, action: str, obj: models.Model) -> None:
        super().__init__("forbidden", action=roles.WORDS[action], who=who_may(action, obj, actor))
        self.asked = action
        self.about = obj


# --- questions -------------------------------------------------------------------------------------------------------


def can(actor: Actor, action: str, obj: models.Model) -> bool:
    """Whether `actor` may do `action` ("noun.verb") on `obj`, which for organization actions is an Organization."""
    return _usable(actor) and _in_scope(actor, action) and _has_right(actor, action, obj)


def require(actor: Actor, action: str, obj: models.Model) -> None:
    """Nothing if the actor may. Otherwise raises `not_found` when they may not even see `obj`, `scope_missing`,
    `organization_suspended`, or `forbidden` with a sentence that says who may."""
    if not _sees(actor, obj):
        raise FedportalError("not_found", what=what(obj))
    if not _usable(actor):
        raise FedportalError("organization_suspended")
    require_scope(actor, action)
    if not _has_right(actor, action, obj):
        raise Refused(actor, action, obj)


def require_scope(actor: Actor, action: str) -> None:
    """Raises `scope_missing` when the actor comes with a key that is not meant for this."""
    if not _in_scope(actor, action):
        raise FedportalError("scope_missing", scope=roles.scope_for(action))


def require_staff(person: Person) -> None:
    """Raises `forbidden` for anybody but the portal's staff. Asked by what the admin site does, and nowhere else."""
    if not (person.is_staff and person.is_active):
        raise FedportalError("forbidden", action="run the portal", who="The portal's staff may do this.")


def visible(actor: Actor, queryset: QuerySet[M]) -> QuerySet[M]:
    """Those rows the actor may see: by grant for federations, models and runs, by organization for everything else.

    Raises `scope_missing` for a key that is not meant for them.
    """
    noun = _noun(queryset.model)
    if not _usable(actor):
        return queryset.none()
    if noun in roles.OBJECTS:
        require_scope(actor, f"{noun}.view")
        return queryset.filter(_by_grant(actor, queryset.model, f"view_{noun}"))
    if noun == "organization":
        return queryset.filter(pk=actor.organization.pk) if actor.organization else queryset.none()
    return queryset.filter(organization=actor.organization) if actor.organization else queryset.none()


def holding(actor: Actor, action: str, queryset: QuerySet[M]) -> QuerySet[M]:
    """Those rows on which `can` would say yes to `action`, which is one of a federation, a model or a run."""
    noun, verb = action.split(".")
    if not _usable(actor) or not _in_scope(actor, action):
        return queryset.none()
    return queryset.filter(_by_grant(actor, queryset.model, f"{verb}_{noun}"))


def allowed(actor: Actor, actions: Iterable[str]) -> set[str]:
    """Those organization actions to which `can` would say yes for the actor's own organization. One query for all."""
    if actor.organization is None or not _usable(actor):
        return set()
    role = role_of(actor)
    return {action for action in actions if _in_scope(actor, action) and role in roles.ORGANIZATION[action]}


def role_of(actor: Actor) -> Role | None:
    """The person's role in the organization they act for; None if they are not in it (any more)."""
    if actor.organization is None:
        return None
    role = Membership.objects.filter(organization=actor.organization, person=actor.person).values_list(
        "role", flat=True
    )
    found = role.first()
    return Role(found) if found else None


def who_may(action: str, obj: models.Model | None = None, actor: Actor | None = None) -> str:
    """The sentence that says which roles would do, and of which organization if `obj` tells."""
    noun, verb = action.split(".")
    if noun == "organization":
        return _sentence(roles.ORGANIZATION[action], str(obj) if obj else "")
    relations = roles.OBJECTS[noun]
    owner = "owner" if verb in relations.get("owner", {}) else next(r for r in relations if verb in relations[r])
    of = getattr(obj, "organization", None)
    held = _relations_that_allow(noun, verb)
    if obj is not None and actor is not None and actor.organization is not None and of != actor.organization:
        # Someone else of one's own organization may do it only if the organization's relation allows it.
        for relation in held:
            if relation != "owner" and _organization_holds(actor.organization, f"{verb}_{noun}", obj):
                return _sentence(relations[relation][verb], actor.organization.name)
    return _sentence(relations[owner][verb], of.name if of else "")


def people_who_may(action: str, obj: models.Model, organization: Organization) -> QuerySet[Membership]:
    """The people of `organization` who may do `action` on `obj`, whether by role or by what their groups were granted.

    Show it to the organization's own people only.
    """
    noun, verb = action.split(".")
    of = Membership.objects.filter(organization=organization, person__is_active=True).select_related("person")
    if noun == "organization":
        return of.filter(role__in=roles.ORGANIZATION[action] if obj == organization else ())
    held = _grants(GroupObjectPermission, obj).filter(
        group__name__startswith=f"{organization.public_id}:", permission__codename=f"{verb}_{noun}"
    )
    found = {name.partition(":")[2] for name in held.values_list("group__name", flat=True)}
    return of.filter(role__in=found)


def what(obj: models.Model | type[models.Model]) -> str:
    """The word for such an object in "There is no such …"."""
    name = obj._meta.model_name or ""
    return _WHAT.get(name, name)


# --- grants ----------------------------------------------------------------------------------------------------------


def write(obj: models.Model, relation: str, organization: Organization) -> None:
    """Grant the organization's groups exactly what `relation` to `obj` gives them; what they had before is gone."""
    noun = _noun(type(obj))
    groups = groups_of(organization)
    permissions = _permissions(type(obj))
    rows = [
        GroupObjectPermission(
            group=groups[role],
            permission=permissions[f"{verb}_{noun}"],
            content_type_id=permissions[f"{verb}_{noun}"].content_type_id,
            object_pk=str(obj.pk),
        )
        for role in Role
        for verb in sorted(roles.verbs(noun, relation, role))
    ]
    with unit():
        withdraw(obj, organization)
        GroupObjectPermission.objects.bulk_create(rows)


def withdraw(obj: models.Model, organization: Organization) -> None:
    """Take every grant on `obj` from the organization's groups."""
    _grants(GroupObjectPermission, obj).filter(group__name__startswith=f"{organization.public_id}:").delete()


def write_guest(obj: models.Model, person: Person, verbs: Iterable[str]) -> None:
    """Grant a single person, whatever their organization, these verbs on `obj`; what they had as a guest is gone."""
    noun = _noun(type(obj))
    permissions = _permissions(type(obj))
    with unit():
        withdraw_guest(obj, person)
        UserObjectPermission.objects.bulk_create(
            UserObjectPermission(
                user=person,
                permission=permissions[f"{verb}_{noun}"],
                content_type_id=permissions[f"{verb}_{noun}"].content_type_id,
                object_pk=str(obj.pk),
            )
            for verb in sorted({*verbs, "view"})
        )


def withdraw_guest(obj: models.Model, person: Person) -> None:
    """End the person's being a guest of `obj`."""
    _grants(UserObjectPermission, obj).filter(user=person).delete()


def forget(obj: models.Model) -> None:
    """Take every grant on `obj` from everybody, before it is deleted."""
    _grants(GroupObjectPermission, obj).delete()
    _grants(UserObjectPermission, obj).delete()


def grants(obj: models.Model) -> dict[str, frozenset[str]]:
    """The whole map of one object: group name, or a guest's `usr_…` → verbs. For tests and the admin site."""
    noun = _noun(type(obj))
    found: dict[str, set[str]] = {}
    by_group = _grants(GroupObjectPermission, obj).values_list("group__name", "permission__codename")
    by_person = _grants(UserObjectPermission, obj).values_list("user__public_id", "permission__codename")
    for name, codename in [*by_group, *by_person]:
        found.setdefault(name, set()).add(codename.removesuffix(f"_{noun}"))
    return {name: frozenset(verbs) for name, verbs in found.items()}


def count_grants() -> int:
    """How many grants there are in all, of groups and of guests."""
    return int(GroupObjectPermission.objects.count() + UserObjectPermission.objects.count())


# --- groups ----------------------------------------------------------------------------------------------------------


def make_groups(organization: Organization) -> None:
    """The groups of a new organization, one for each role."""
    Group.objects.bulk_create(Group(name=f"{organization.public_id}:{role}") for role in Role)


def groups_of(organization: Organization) -> dict[str, Group]:
    """The organization's groups by role."""
    found = Group.objects.filter(name__startswith=f"{organization.public_id}:")
    return {group.name.partition(":")[2]: group for group in found}


def put_in_group(membership: Membership) -> None:
    """Put the person into the group of the membership's role and out of the organization's other groups."""
    leave_groups(membership)
    membership.person.groups.add(groups_of(membership.organization)[membership.role])


def leave_groups(membership: Membership) -> None:
    """Take the person out of all groups of the organization."""
    membership.person.groups.remove(*groups_of(membership.organization).values())


# --- what follows a federation's members -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Follower:
    within: Callable[[Federation], Iterable[Any]]
    relation: Callable[[Any, Organization], str | None]


_followers: list[_Follower] = []


def follow(
    *, within: Callable[[Federation], Iterable[Any]], relation: Callable[[Any, Organization], str | None]
) -> None:
    """Let upper floors keep grants true when members come and go.

    Whenever an organization's place in a federation changes, each object of `within(federation)` is settled: the
    organization gets the grants of `relation(obj, organization)`, or loses them when that is None.
    """
    _followers.append(_Follower(within, relation))


def settle(obj: models.Model, organization: Organization, relation: str | None) -> None:
    """Write the grants of `relation`, or withdraw them when it is None."""
    if relation is None:
        withdraw(obj, organization)
    else:
        write(obj, relation, organization)


def settle_followers(federation: Federation, organization: Organization) -> None:
    """Make the organization's grants on everything inside the federation true again. Call it inside the unit."""
    for follower in _followers:
        for obj in follower.within(federation):
            settle(obj, organization, follower.relation(obj, organization))


# --- inside ----------------------------------------------------------------------------------------------------------


def _usable(actor: Actor) -> bool:
    return actor.person.is_active and (actor.organization is None or actor.organization.suspended_at is None)


def _in_scope(actor: Actor, action: str) -> bool:
    if actor.key is None:
        return True
    return any(action in roles.SCOPES.get(scope, frozenset()) for scope in actor.key.scopes)


def _has_right(actor: Actor, action: str, obj: models.Model) -> bool:
    noun, verb = action.split(".")
    if noun == "organization":
        return obj == actor.organization and role_of(actor) in roles.ORGANIZATION[action]
    return _held(actor, type(obj), f"{verb}_{noun}").filter(object_pk=str(obj.pk)).exists() or (
        _guest(actor, type(obj), f"{verb}_{noun}").filter(object_pk=str(obj.pk)).exists()
    )


def _sees(actor: Actor, obj: models.Model) -> bool:
    noun = _noun(type(obj))
    if noun == "organization":
        return obj == actor.organization and role_of(actor) is not None
    if noun in roles.OBJECTS:
        return _has_right(actor, f"{noun}.view", obj)
    return actor.organization is not None and getattr(obj, "organization_id", None) == actor.organization.pk


def _by_grant(actor: Actor, model: type[models.Model], codename: str) -> Q:
    pk = Cast("object_pk", BigIntegerField())
    by_group = Q(pk__in=_held(actor, model, codename).annotate(pk_=pk).values("pk_"))
    if actor.key is not None:
        return by_group
    return by_group | Q(pk__in=_guest(actor, model, codename).annotate(pk_=pk).values("pk_"))


def _held(actor: Actor, model: type[models.Model], codename: str) -> QuerySet[GroupObjectPermission]:
    """Grants of the groups in which the person is for the organization they act for."""
    if actor.organization is None:
        return GroupObjectPermission.objects.none()
    return GroupObjectPermission.objects.filter(
        group__user=actor.person,
        group__name__startswith=f"{actor.organization.public_id}:",
        permission__codename=codename,
        content_type=_content_type(model),
    )


def _guest(actor: Actor, model: type[models.Model], codename: str) -> QuerySet[UserObjectPermission]:
    """Grants to the person as a guest. A key acts within its one organization, so it has none."""
    if actor.key is not None:
        return UserObjectPermission.objects.none()
    return UserObjectPermission.objects.filter(
        user=actor.person, permission__codename=codename, content_type=_content_type(model)
    )


def _grants(kind: Any, obj: models.Model) -> Any:
    return kind.objects.filter(content_type=_content_type(type(obj)), object_pk=str(obj.pk))


def _content_type(model: type[models.Model]) -> ContentType:
    return ContentType.objects.get_for_model(model)


def _permissions(model: type[models.Model]) -> Mapping[str, Permission]:
    found = Permission.objects.filter(content_type=_content_type(model))
    return {permission.codename: permission for permission in found}


def _noun(model: type[models.Model]) -> str:
    return model._meta.model_name or ""


def _relations_that_allow(noun: str, verb: str) -> list[str]:
    return [relation for relation, verbs in roles.OBJECTS[noun].items() if verb in verbs]


def _organization_holds(organization: Organization, codename: str, obj: models.Model) -> bool:
    held = _grants(GroupObjectPermission, obj)
    return bool(
        held.filter(group__name__startswith=f"{organization.public_id}:", permission__codename=codename).exists()
    )


def _sentence(allowed: Iterable[str], organization: str) -> str:
    names = [Role(role).label.lower() for role in Role if role in allowed]
    if len(names) == len(Role):
        listed = "Anyone"
    else:
        *others, last = (f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names)
        listed = " or ".join(filter(None, (", ".join(others), last))).capitalize()
    return f"{listed} of {organization} may do this." if organization else f"{listed} may do this."
