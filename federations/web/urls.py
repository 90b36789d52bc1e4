"""Addresses of the pages of this floor."""

from django.urls import path

from federations.web import accounts, invitations

urlpatterns = [
    path("sign-in", accounts.sign_in, name="sign-in"),
    path("sign-out", accounts.sign_out, name="sign-out"),
    path("sign-up", accounts.sign_up, name="sign-up"),
    path("password-reset", accounts.forgot, name="password-reset"),
    path("password-reset/<str:uid>/<str:token>", accounts.reset, name="password-reset-link"),
    path("organization", accounts.switch_organization, name="switch-organization"),
    path("invitations/<str:token>", invitations.invitation, name="invitation"),
]
