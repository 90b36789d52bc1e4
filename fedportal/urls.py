"""Every address Django answers. The hot path (waiting, uploads, downloads) is answered before, in `fedportal.door`."""

from urllib.parse import urlencode

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.templatetags.static import static
from django.urls import include, path
from drf_spectacular.views import SpectacularSwaggerSplitView

from federations.admin import health
from fedportal.described import Description


def operators_sign_in(request: HttpRequest) -> HttpResponse:
    """Operators sign in where everybody does: there tries are limited."""
    return redirect(f"/sign-in?{urlencode({'next': request.GET.get('next', '/admin/')})}")


def operators_password(request: HttpRequest) -> HttpResponse:
    """And change their password where everybody does: there tries are limited, and a letter tells of it."""
    return redirect("/account/password")


def favicon(request: HttpRequest) -> HttpResponse:
    """Where browsers look for an icon when a page names none, as the answers of the API and the SDK's list."""
    return redirect(static("icon.svg"))


# For the table of addresses in the tests.
operators_sign_in.methods = ("GET",)  # type: ignore[attr-defined]
operators_password.methods = ("GET",)  # type: ignore[attr-defined]
favicon.methods = ("GET",)  # type: ignore[attr-defined]
health_page = admin.site.admin_view(health.page)
health_page.methods = health.page.methods  # type: ignore[attr-defined]

urlpatterns = [
    path("api/v1/", include("federations.api.urls")),
    path("api/v1/", include("registry.api.urls")),
    path("api/v1/", include("training.api.urls")),
    path("api/schema", Description.as_view(), name="schema"),
    # Page and script apart: the policy of every page allows no inline script.
    path(
        "api/docs",
        SpectacularSwaggerSplitView.as_view(url_name="schema", template_name="api_docs.html"),
        name="api-docs",
    ),
    path("favicon.ico", favicon),
    path("admin/login/", operators_sign_in),
    path("admin/password_change/", operators_password),
    path("admin/password_change/done/", operators_password),
    path("admin/health", health_page, name="health"),
    path("admin/", admin.site.urls),
    path("", include("fedportal.sdk_delivery")),
    path("", include("federations.web.urls")),
    path("", include("registry.web.urls")),
    path("", include("training.web.urls")),
]

# What is shown when no view answers, or when one fails.
handler400 = "federations.web.errors.bad_request"
handler403 = "federations.web.errors.forbidden"
handler404 = "federations.web.errors.missing"
handler500 = "federations.web.errors.broken"
