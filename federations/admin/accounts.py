"""How people sign in: allauth's tables, to look at. Its own pages would edit behind the services' back."""

from __future__ import annotations

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.models import UserSession
from django.contrib import admin

from federations.admin.looking import LookingOnly

# The provider of single sign-on stands in the environment, and tokens are not kept: these two stay empty.
for model in (EmailAddress, Authenticator, SocialAccount, SocialApp, SocialToken, UserSession):
    if admin.site.is_registered(model):
        admin.site.unregister(model)


@admin.register(EmailAddress)
class EmailAddressAdmin(LookingOnly):
    list_display = ("email", "user", "verified")
    list_select_related = ("user",)
    search_fields = ("email", "user__name", "user__public_id")
    list_filter = ("verified",)


@admin.register(Authenticator)
class AuthenticatorAdmin(LookingOnly):
    secrets = ("data",)
    list_display = ("user", "type", "created_at", "last_used_at")
    list_select_related = ("user",)
    search_fields = ("user__email", "user__public_id")
    list_filter = ("type", "created_at")


@admin.register(SocialAccount)
class SocialAccountAdmin(LookingOnly):
    secrets = ("extra_data",)
    list_display = ("user", "provider", "uid", "date_joined", "last_login")
    list_select_related = ("user",)
    search_fields = ("user__email", "user__public_id", "uid")
    list_filter = ("date_joined",)


@admin.register(UserSession)
class UserSessionAdmin(LookingOnly):
    secrets = ("session_key", "data")
    list_display = ("user", "ip", "user_agent", "created_at", "last_seen_at")
    list_select_related = ("user",)
    search_fields = ("user__email", "user__public_id", "ip")
    list_filter = ("created_at", "last_seen_at")
