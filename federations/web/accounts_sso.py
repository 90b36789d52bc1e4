"""Single sign-on: to the provider, and back with what it says."""

from __future__ import annotations

from typing import Any

from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.internal import jwtkit
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from requests import RequestException

from federations.services import single_sign_on, throttle
from federations.web.accounts import safe_target
from federations.web.page import page
from fedwire.errors import FedportalError


class Provider(OpenIDConnectOAuth2Adapter):
    """The operator's provider. Its signature is always checked, also on what came over an encrypted connection."""

    def _decode_id_token(self, app: Any, id_token: str) -> dict[str, Any]:
        said: dict[str, Any] = jwtkit.verify_and_decode(
            credential=id_token,
            keys_url=self.openid_config["jwks_uri"],
            issuer=self.openid_config["issuer"],
            audience=app.client_id,
            lookup_kid=jwtkit.lookup_kid_jwk,
        )
        return said


@page(public=True)
def begin(request: Any) -> HttpResponse:
    """To the provider's page."""
    if not single_sign_on.is_configured() or request.user.is_authenticated:
        return redirect("/" if request.user.is_authenticated else "/sign-in")
    throttle.before_provider(throttle.address_of(request))  # each asks the provider, and keeps a session
    try:
        provider = get_adapter().get_provider(request, single_sign_on.PROVIDER)
        response: HttpResponse = provider.redirect(request, process="login", next_url=safe_target(request))
    except (RequestException, OAuth2Error, KeyError, ValueError):
        return _refused(request, "the provider does not answer.")
    return response


@page(public=True)
def arrive(request: Any, provider_id: str) -> HttpResponse:
    """Back from the provider: through all further steps of a sign-in."""
    if not single_sign_on.is_configured() or request.user.is_authenticated:
        return redirect("/" if request.user.is_authenticated else "/sign-in")
    throttle.before_provider(throttle.address_of(request))
    try:
        response: HttpResponse = OAuth2CallbackView.adapter_view(Provider(request, provider_id))(request)
    except (RequestException, KeyError, ValueError):
        return _refused(request, "the provider's answer could not be used.")
    return response


def _refused(request: Any, reason: str) -> HttpResponse:
    error = FedportalError("sso_refused", reason=reason)
    messages.error(request, f"{error.message} {error.next_step}")
    return redirect("/sign-in")
