"""Single sign-on: a provider says who somebody is, and the account with this proven address opens.

It makes no accounts: who belongs to an organization is decided by invitations, not by a directory. The link is made
once, by the provider's own name for the person; after that the addresses may differ.
"""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount, SocialApp
from django.conf import settings
from django.db import IntegrityError, transaction

from federations.models import Person
from federations.services import audit, letters, people
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError

# Its name in addresses.
PROVIDER = "sso"


def is_configured() -> bool:
    """Whether the operator has named a provider."""
    return bool(settings.FEDPORTAL_OIDC_URL)


def app() -> SocialApp:
    """The provider as allauth wants it; it stands in no table."""
    return SocialApp(
        provider="openid_connect",
        provider_id=PROVIDER,
        name=settings.FEDPORTAL_OIDC_NAME,
        client_id=settings.FEDPORTAL_OIDC_CLIENT_ID,
        secret=settings.FEDPORTAL_OIDC_CLIENT_SECRET,
        settings={"server_url": settings.FEDPORTAL_OIDC_URL, "oauth_pkce_enabled": True},
    )


def admit(login: Any) -> None:
    """Let allauth's `login` open the account it is linked to, or link it to the one with the same proven address.

    Raises `sso_refused`.
    """
    if login.state.get("process", "login") != "login":
        raise FedportalError("sso_refused", reason="this is not how accounts are linked.")
    if login.is_existing:
        SocialAccount.objects.filter(pk=login.account.pk).update(extra_data={})
        return
    person = _person_with(_proven_address(login))
    if SocialAccount.objects.filter(user=person).exists():
        raise FedportalError("sso_refused", reason="your account is linked to another person of the provider.")
    with unit():
        try:
            with transaction.atomic():
                login.account.user = person
                login.account.extra_data = {}  # who it is says its uid; the rest is nobody's business
                login.account.save()
        except IntegrityError as error:
            raise FedportalError("sso_refused", reason="somebody else signs in with this account.") from error
        audit.record(None, person, "person.sso_linked", person.public_id)
        _tell(person, "sso_linked")
    login.user = person


def is_linked(person: Person) -> bool:
    """Whether single sign-on opens this person's account."""
    return bool(SocialAccount.objects.filter(user=person).exists())


def unlink(person: Person) -> None:
    """Single sign-on opens the account no more, until it is linked anew. Nothing when it is not linked."""
    with unit():
        if SocialAccount.objects.filter(user=person).delete()[0]:
            audit.record(None, person, "person.sso_unlinked", person.public_id)
            _tell(person, "sso_unlinked")


def _tell(person: Person, kind: str) -> None:
    link, provider = f"{settings.FEDPORTAL_PUBLIC_URL}/account", settings.FEDPORTAL_OIDC_NAME
    letters.write(person.email, kind, link=link, person=person.name, provider=provider)


def _proven_address(login: Any) -> str:
    """The address that the provider has proven. Raises `sso_refused`."""
    said = login.account.extra_data
    said = said.get("userinfo") or said.get("id_token") or said
    if said.get("email_verified") is not True:
        raise FedportalError("sso_refused", reason="the provider has not proven your email address.")
    try:
        return people.checked_address(str(said.get("email", "")))
    except FedportalError as error:
        raise FedportalError("sso_refused", reason="the provider names no email address.") from error


def _person_with(address: str) -> Person:
    proven = EmailAddress.objects.filter(email=address, verified=True).select_related("user").first()
    person: Person | None = proven.user if proven else None
    if person is None or person.email != address or not person.is_active:
        reason = f"no account here has the proven address {address}."
        raise FedportalError("sso_refused", reason=reason)
    return person
