"""What every page tells the browser: load nothing from elsewhere, run nothing inline, cache no tenant pages."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "form-action 'self'",
    )
)
PUBLIC = ("/static/", "/sdk/")


def security_headers(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: a Content-Security-Policy on everything, `no-store` on everything that is not public."""

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        if not request.path.startswith(PUBLIC):
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    return respond
