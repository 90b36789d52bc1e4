"""What this floor's addresses read and answer, as JSON."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from federations import roles
from federations.models import AuditEntry, Device, Federation, Invitation, Member, Membership, Policy, Role
from federations.selectors import Place
from fedportal.common.api import Named, Text, Truth, Whole

ROLE_NAMES = [role.value for role in Role]

# --- what comes in ---------------------------------------------------------------------------------------------------


class NewFederation(serializers.Serializer[Any]):
    """POST /federations. `org_id` may be sent and must be the caller's own."""

    name = Text()
    description = Text(required=False, allow_blank=True, max_length=5000)
    org_id = Text(required=False)
    members_may_start_runs = Truth(required=False)


class FederationChange(serializers.Serializer[Any]):
    """PATCH /federations/{federation}."""

    name = Text(required=False)
    description = Text(required=False, allow_blank=True, max_length=5000)
    members_may_start_runs = Truth(required=False)


class NewInvitations(serializers.Serializer[Any]):
    """POST /federations/{federation}/invite."""

    org_ids = serializers.ListField(child=Text(), required=False)
    emails = serializers.ListField(child=Text(), required=False)


class Answer(serializers.Serializer[Any]):
    """POST …/join, …/decline, …/leave."""

    org_id = Text(required=False, allow_null=True)


class Joining(Answer):
    """POST …/join. `accept_agreement`: the id of the study agreement that you have read and accept thereby."""

    accept_agreement = Text(required=False, allow_null=True)


class NewColleague(serializers.Serializer[Any]):
    """POST /orgs/{org}/members."""

    email = Text()
    role = serializers.ChoiceField(ROLE_NAMES, default=Role.VIEWER.value)


class RoleChange(serializers.Serializer[Any]):
    """PATCH /orgs/{org}/members/{person}."""

    role = serializers.ChoiceField(ROLE_NAMES)


class PolicyChange(serializers.Serializer[Any]):
    """PATCH /orgs/{org}/policy. What is left out stays as it is."""

    total_epsilon_budget = serializers.FloatField(source="privacy_epsilon", required=False, allow_null=True)
    total_delta_budget = serializers.FloatField(source="privacy_delta", required=False, allow_null=True)
    least_records = Whole(required=False)
    least_devices = Whole(required=False)
    allowed_strategies = serializers.ListField(child=Text(), required=False)
    residency = Text(required=False, allow_blank=True)
    device_key_days = Whole(required=False, allow_null=True)
    auto_rollback_enabled = Truth(source="auto_rollback", required=False)
    rollback_error_rate = serializers.FloatField(required=False)


class NewKey(serializers.Serializer[Any]):
    """POST /api-keys. `device_limit`: how many devices a key with `devices:enroll` may register."""

    name = Text()
    scopes = serializers.ListField(child=serializers.ChoiceField(list(roles.SCOPES)), default=[roles.ANY_SCOPE])
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    device_limit = Whole(required=False, allow_null=True, min_value=1, max_value=1_000_000)


class RegistrationShape(serializers.Serializer[Any]):
    """POST /devices/register. `signature` is by the device's own Ed25519 key; see docs/protocol.md."""

    device_identifier = Text(trim_whitespace=False)
    public_key = Text(help_text="32 bytes, lower-case hexadecimal.")
    nonce = Text(help_text="16 random bytes, lower-case hexadecimal.")
    signature = Text(help_text="64 bytes, lower-case hexadecimal.")
    org_id = Text(required=False)
    platform = Text(required=False, allow_blank=True)
    os_version = Text(required=False, allow_blank=True)
    sdk_version = Text(required=False, allow_blank=True)
    capabilities = serializers.DictField(required=False)
    groups = serializers.ListField(child=Text(), required=False, max_length=20)


class HeartbeatShape(serializers.Serializer[Any]):
    """POST /devices/{device}/heartbeat."""

    platform = Text(required=False, allow_blank=True)
    os_version = Text(required=False, allow_blank=True)
    sdk_version = Text(required=False, allow_blank=True)
    capabilities = serializers.DictField(required=False)


class GroupsShape(serializers.Serializer[Any]):
    """PUT /devices/{device}/groups: exactly these."""

    groups = serializers.ListField(child=Text(), max_length=20)


class CertificateShape(serializers.Serializer[Any]):
    """PUT /devices/{device}/certificate."""

    certificate = Text(allow_blank=True, trim_whitespace=False)


# --- what goes out ---------------------------------------------------------------------------------------------------


class FederationShape(serializers.Serializer[Federation]):
    """A federation as the caller sees it. `status`: the place of the caller's organization in it."""

    id = serializers.CharField(source="public_id")
    name = serializers.CharField()
    description = serializers.CharField()
    org_id = serializers.CharField(source="organization.public_id")
    organization = Named()
    status = serializers.SerializerMethodField()
    role = serializers.SerializerMethodField()
    members = serializers.SerializerMethodField()
    members_may_start_runs = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    dissolved_at = serializers.DateTimeField(allow_null=True)

    def get_status(self, federation: Federation) -> str | None:
        return getattr(federation, "own_state", None)

    def get_role(self, federation: Federation) -> str:
        own = self.context["actor"].organization
        return "owner" if own is not None and federation.organization_id == own.pk else "member"

    def get_members(self, federation: Federation) -> int:
        return int(getattr(federation, "active_members", 0))


class MemberShape(serializers.Serializer[Member]):
    """An organization's place in a federation."""

    federation_id = serializers.CharField(source="federation.public_id")
    org_id = serializers.CharField(source="organization.public_id")
    name = serializers.CharField(source="organization.name")
    status = serializers.CharField(source="state")
    joined_at = serializers.DateTimeField(allow_null=True)


class PlaceShape(serializers.Serializer[Place]):
    """A line of the roster. An address that was invited has no `org_id` yet."""

    org_id = serializers.CharField(source="organization.public_id", default=None, allow_null=True)
    name = serializers.SerializerMethodField()
    email = serializers.CharField(source="invitation.email", default=None, allow_null=True)
    invitation_id = serializers.CharField(source="invitation.public_id", default=None, allow_null=True)
    role = serializers.CharField()
    status = serializers.SerializerMethodField()
    invited_at = serializers.DateTimeField(allow_null=True)
    joined_at = serializers.DateTimeField(allow_null=True)
    devices = serializers.IntegerField()
    present = serializers.IntegerField()
    last_seen_at = serializers.DateTimeField(allow_null=True)
    residency = serializers.CharField(allow_blank=True)
    agreement = serializers.SerializerMethodField()

    def get_agreement(self, place: Place) -> dict[str, Any] | None:
        """The newest version of the study agreement that it accepted."""
        if place.accepted_version is None:
            return None
        return {"version": place.accepted_version, "accepted_at": place.accepted_at}

    def get_name(self, place: Place) -> str:
        if place.organization is not None:
            return str(place.organization.name)
        return place.invitation.email if place.invitation else ""

    def get_status(self, place: Place) -> str:
        return str(place.state)


class InvitationShape(serializers.Serializer[Invitation]):
    """An invitation by letter."""

    id = serializers.CharField(source="public_id")
    kind = serializers.CharField()
    email = serializers.CharField()
    role = serializers.CharField()
    status = serializers.CharField(source="state")
    federation_id = serializers.CharField(source="federation.public_id", default=None, allow_null=True)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()


class WrittenShape(InvitationShape):
    """A fresh invitation. `link` is shown where no mail server is set up; otherwise only the letter holds it."""

    link = serializers.SerializerMethodField()

    def get_link(self, invitation: Invitation) -> str | None:
        return self.context["links"].get(invitation.pk)


class InvitedItem(serializers.Serializer[Any]):
    """Whom an invitation went to: an organization, or an address."""

    org_id = serializers.CharField(allow_null=True)
    name = serializers.CharField()
    status = serializers.CharField()
    email = serializers.CharField(allow_null=True)
    invitation_id = serializers.CharField(allow_null=True)
    link = serializers.CharField(allow_null=True)


class InvitedShape(serializers.Serializer[Any]):
    """Answer of POST /federations/{federation}/invite."""

    invited = InvitedItem(many=True)


class ColleagueShape(serializers.Serializer[Membership]):
    """A person in an organization."""

    id = serializers.CharField(source="person.public_id")
    email = serializers.CharField(source="person.email")
    name = serializers.CharField(source="person.name")
    role = serializers.CharField()
    joined_at = serializers.DateTimeField(source="created_at")


class TeamShape(serializers.Serializer[Any]):
    """The people of an organization, and those who are invited."""

    members = ColleagueShape(many=True)
    invitations = InvitationShape(many=True)
    total = serializers.IntegerField()


class PolicyShape(serializers.Serializer[Policy]):
    """An organization's policy. Rollback settings are kept; nothing uses them yet."""

    org_id = serializers.CharField(source="organization.public_id")
    total_epsilon_budget = serializers.FloatField(source="privacy_epsilon", allow_null=True)
    total_delta_budget = serializers.FloatField(source="privacy_delta", allow_null=True)
    least_records = serializers.IntegerField()
    least_devices = serializers.IntegerField()
    allowed_strategies = serializers.ListField(child=serializers.CharField())
    residency = serializers.CharField()
    device_key_days = serializers.IntegerField(allow_null=True)
    auto_rollback_enabled = serializers.BooleanField(source="auto_rollback")
    rollback_error_rate = serializers.FloatField()
    changed_at = serializers.SerializerMethodField()

    def get_changed_at(self, policy: Policy) -> str | None:
        return policy.changed_at.isoformat() if policy.pk else None


class KeyShape(serializers.Serializer[Any]):
    """A key, without its secret."""

    id = serializers.CharField(source="public_id")
    name = serializers.CharField()
    prefix = serializers.SerializerMethodField()
    scopes = serializers.ListField(child=serializers.CharField())
    person = serializers.CharField(source="person.public_id")
    device_limit = serializers.IntegerField(allow_null=True)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)

    def get_prefix(self, key: Any) -> str:
        return f"edg_{key.lookup}"


class NewKeyShape(KeyShape):
    """A fresh key. `key` is shown this once."""

    key = serializers.SerializerMethodField()

    def get_key(self, key: Any) -> str:
        return str(self.context["text"])


class KeyList(serializers.Serializer[Any]):
    keys = KeyShape(many=True)
    total = serializers.IntegerField()


class DeviceShape(serializers.Serializer[Device]):
    """A device. `present`: whether it was heard of a moment ago."""

    id = serializers.CharField(source="public_id")
    device_identifier = serializers.CharField(source="identifier")
    org_id = serializers.CharField(source="organization.public_id")
    status = serializers.CharField(source="state")
    present = serializers.SerializerMethodField()
    groups = serializers.SerializerMethodField()
    platform = serializers.CharField()
    os_version = serializers.CharField()
    sdk_version = serializers.CharField()
    capabilities = serializers.DictField()
    certificate = serializers.CharField()
    public_key = serializers.CharField()
    registered_at = serializers.DateTimeField()
    last_seen_at = serializers.DateTimeField(allow_null=True)

    def get_present(self, device: Device) -> bool:
        return bool(self.context["present"](device))

    def get_groups(self, device: Device) -> list[str]:
        return [group.name for group in device.groups.all()]


class DeviceList(serializers.Serializer[Any]):
    devices = DeviceShape(many=True)
    total = serializers.IntegerField()


class RegisteredShape(serializers.Serializer[Any]):
    """`device_key` is shown this once."""

    id = serializers.CharField()
    device_identifier = serializers.CharField()
    org_id = serializers.CharField()
    device_key = serializers.CharField()
    key_expires_at = serializers.DateTimeField(allow_null=True)
    server_time = serializers.DateTimeField()


class AliveShape(serializers.Serializer[Any]):
    """Answer to a heartbeat."""

    id = serializers.CharField()
    status = serializers.CharField()
    server_time = serializers.DateTimeField()


class AuditShape(serializers.Serializer[AuditEntry]):
    """An entry of the audit log with what is needed to verify it."""

    chain = serializers.CharField()
    organization = serializers.CharField(source="organization.public_id", default=None, allow_null=True)
    sequence = serializers.IntegerField()
    at = serializers.DateTimeField()
    actor = serializers.CharField()
    action = serializers.CharField()
    subject = serializers.CharField()
    details = serializers.DictField()
    previous_hash = serializers.CharField()
    hash = serializers.CharField()


class AuditList(serializers.Serializer[Any]):
    entries = AuditShape(many=True)
    total = serializers.IntegerField()


class PersonShape(serializers.Serializer[Any]):
    id = serializers.CharField(source="public_id")
    email = serializers.CharField()
    name = serializers.CharField()


class OwnOrganization(serializers.Serializer[Membership]):
    """An organization one is in."""

    id = serializers.CharField(source="organization.public_id")
    name = serializers.CharField(source="organization.name")
    role = serializers.CharField()


class WhoamiShape(serializers.Serializer[Any]):
    """Who asks, for which organization, and with which key."""

    person = PersonShape()
    organization = OwnOrganization(allow_null=True)
    organizations = OwnOrganization(many=True)
    key = KeyShape(allow_null=True)
