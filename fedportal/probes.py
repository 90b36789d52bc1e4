"""For load balancers and supervisors: `/health` (this process answers) and `/ready` (it can serve requests).

Answered before everything else, whatever the Host header says and over plain http too, and without any detail.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from fedportal.common import health


def probes(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware, the first of all."""

    def respond(request: HttpRequest) -> HttpResponse:
        if request.path not in ("/health", "/ready") or request.method not in ("GET", "HEAD"):
            return get_response(request)
        good = request.path == "/health" or health.is_ready()
        response = HttpResponse(
            "ok\n" if good else "not ready\n", status=200 if good else 503, content_type="text/plain"
        )
        response["Cache-Control"] = "no-store"
        return response

    return respond
