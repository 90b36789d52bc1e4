"""Addresses of the pages of this floor."""

from django.urls import path

from federations.web import accounts, federations, invitations, organization

urlpatterns = [
    path("sign-in", accounts.sign_in, name="sign-in"),
    path("sign-out", accounts.sign_out, name="sign-out"),
    path("sign-up", accounts.sign_up, name="sign-up"),
    path("password-reset", accounts.forgot, name="password-reset"),
    path("password-reset/<str:uid>/<str:token>", accounts.reset, name="password-reset-link"),
    path("organization", accounts.switch_organization, name="switch-organization"),
    path("invitations/<str:token>", invitations.invitation, name="invitation"),
    path("invitations/<str:invitation>/resend", federations.resend, name="invitation-resend"),
    path("invitations/<str:invitation>/revoke", federations.revoke, name="invitation-revoke"),
    path("federations", federations.index, name="federations"),
    path("federations/new", federations.new, name="federation-new"),
    path("federations/<str:federation>", federations.one, name="federation"),
    path("federations/<str:federation>/invite", federations.invite, name="federation-invite"),
    path("federations/<str:federation>/join", federations.join, name="federation-join"),
    path("federations/<str:federation>/decline", federations.decline, name="federation-decline"),
    path("federations/<str:federation>/leave", federations.leave, name="federation-leave"),
    path("federations/<str:federation>/members/<str:org>/<str:act>", federations.member, name="federation-member"),
    path("devices", organization.device_list, name="devices"),
    path("devices/<str:device>/groups", organization.device_groups, name="device-groups"),
    path("devices/<str:device>/<str:act>", organization.device_act, name="device-act"),
    path("team", organization.team, name="team"),
    path("team/<str:person>/role", organization.role, name="team-role"),
    path("team/<str:person>/remove", organization.dismiss, name="team-remove"),
    path("keys", organization.key_list, name="keys"),
    path("keys/<str:key>/revoke", organization.key_revoke, name="key-revoke"),
    path("audit", organization.audit, name="audit"),
]
