"""Addresses of the JSON API of this floor."""

from django.urls import path

from federations.api import agreements, devices, federations, organizations, roots, schema, webhooks

__all__ = ["schema", "urlpatterns"]  # the description of keys and sessions registers itself when it is imported

urlpatterns = [
    path("whoami", organizations.Whoami.as_view()),
    path("orgs/<str:org>/members", organizations.Team.as_view()),
    path("orgs/<str:org>/members/<str:person>", organizations.Colleague.as_view()),
    path("orgs/<str:org>/policy", organizations.OrganizationPolicy.as_view()),
    path("orgs/<str:org>/audit", organizations.AuditLog.as_view()),
    path("api-keys", organizations.Keys.as_view()),
    path("api-keys/<str:key>/revoke", organizations.KeyRevoke.as_view()),
    path("webhooks", webhooks.Webhooks.as_view()),
    path("webhooks/<str:webhook>", webhooks.OneWebhook.as_view()),
    path("webhooks/<str:webhook>/test", webhooks.WebhookTest.as_view()),
    path("webhooks/<str:webhook>/renew", webhooks.WebhookRenew.as_view()),
    path("webhooks/<str:webhook>/enable", webhooks.WebhookEnable.as_view()),
    path("webhooks/<str:webhook>/disable", webhooks.WebhookDisable.as_view()),
    path("webhooks/<str:webhook>/deliveries", webhooks.Deliveries.as_view()),
    path("webhooks/<str:webhook>/deliveries/<str:delivery>/redeliver", webhooks.Redeliver.as_view()),
    path("federations", federations.Federations.as_view()),
    path("federations/<str:federation>", federations.OneFederation.as_view()),
    path("federations/<str:federation>/invite", federations.Invite.as_view()),
    path("federations/<str:federation>/join", federations.Join.as_view()),
    path("federations/<str:federation>/decline", federations.Decline.as_view()),
    path("federations/<str:federation>/leave", federations.Leave.as_view()),
    path("federations/<str:federation>/members", federations.Members.as_view()),
    path("federations/<str:federation>/members/<str:org>/suspend", federations.MemberSuspend.as_view()),
    path("federations/<str:federation>/members/<str:org>/reinstate", federations.MemberReinstate.as_view()),
    path("federations/<str:federation>/members/<str:org>/remove", federations.MemberRemove.as_view()),
    path("federations/<str:federation>/roots", roots.Roots.as_view()),
    path("federations/<str:federation>/roots/accept", roots.RootsAccept.as_view()),
    path("federations/<str:federation>/agreements", agreements.Agreements.as_view()),
    path(
        "federations/<str:federation>/agreements/<str:agreement>/accept",
        agreements.AgreementAccept.as_view(),
    ),
    path("federations/<str:federation>/invitations", federations.Invitations.as_view()),
    path("invitations/<str:invitation>/resend", federations.InvitationResend.as_view()),
    path("invitations/<str:invitation>/revoke", federations.InvitationRevoke.as_view()),
    path("devices", devices.Devices.as_view()),
    path("devices/register", devices.Register.as_view()),
    path("devices/<str:device>", devices.OneDevice.as_view()),
    path("devices/<str:device>/revoke", devices.Revoke.as_view()),
    path("devices/<str:device>/retire", devices.Retire.as_view()),
    path("devices/<str:device>/reset", devices.Reset.as_view()),
    path("devices/<str:device>/renew", devices.Renew.as_view()),
    path("devices/<str:device>/quarantine", devices.Quarantine.as_view()),
    path("devices/<str:device>/restore", devices.Restore.as_view()),
    path("devices/<str:device>/groups", devices.Groups.as_view()),
    path("devices/<str:device>/certificate", devices.Certificate.as_view()),
    path("devices/<str:device>/heartbeat", devices.Heartbeat.as_view()),
]
