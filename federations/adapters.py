"""Where allauth asks the portal: what its steps of a sign-in say, and how its secrets rest."""

from __future__ import annotations

import ipaddress
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect

from federations.services import single_sign_on, throttle
from federations.services.confirming import note_confirmed
from fedportal.common.sealing import seal, unseal
from fedwire.errors import FedportalError


class AccountAdapter(DefaultAccountAdapter):
    """The steps of a sign-in. The portal's own pages and letters say what happened."""

    def is_open_for_signup(self, request: Any) -> bool:
        return False  # there is one way to sign up, and it proves the address first

    def should_send_confirmation_mail(self, *args: Any, **kwargs: Any) -> bool:
        return False

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Nothing: letters are written by the services, in the unit of what they tell."""

    def add_message(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the pages say it."""

    def respond_email_verification_sent(self, request: Any, user: Any) -> HttpResponse:
        return _back(request, FedportalError("address_unproven"))

    def respond_user_inactive(self, request: Any, user: Any) -> HttpResponse:
        return _back(request, FedportalError("sign_in_failed"))

    def post_login(self, request: Any, user: Any, **kwargs: Any) -> HttpResponse:
        if not (kwargs.get("signal_kwargs") or {}).get("sociallogin"):
            note_confirmed(request.session)
        return super().post_login(request, user, **kwargs)

    def get_client_ip(self, request: Any) -> str:
        address = throttle.address_of(request)
        try:
            return str(ipaddress.ip_address(address))
        except ValueError:  # a socket in the file system has none
            return str(ipaddress.IPv6Address(0))


class SecondFactorAdapter(DefaultMFAAdapter):
    """Secrets of second factors rest encrypted."""

    def encrypt(self, text: str) -> str:
        return seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        return unseal(encrypted_text)


class SingleSignOnAdapter(DefaultSocialAccountAdapter):
    """Single sign-on opens accounts that exist; it makes none."""

    def list_apps(self, request: Any, provider: Any = None, client_id: Any = None) -> list[SocialApp]:
        return [single_sign_on.app()] if single_sign_on.is_configured() else []  # the environment alone decides

    def is_open_for_signup(self, request: Any, sociallogin: Any) -> bool:
        return False

    def pre_social_login(self, request: Any, sociallogin: Any) -> None:
        try:
            single_sign_on.admit(sociallogin)
        except FedportalError as error:
            raise ImmediateHttpResponse(_back(request, error)) from error

    def on_authentication_error(self, request: Any, provider: Any, *args: Any, **kwargs: Any) -> None:
        error = FedportalError("sso_refused", reason="its answer could not be used.")
        raise ImmediateHttpResponse(_back(request, error))


def _back(request: Any, error: FedportalError) -> HttpResponse:
    messages.error(request, f"{error.message} {error.next_step}")
    return redirect("/sign-in")
