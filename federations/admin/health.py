"""The operators' health page: what was looked at, what it means, and what to do."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from fedportal.common import health
from fedportal.common.health import Level


def page(request: HttpRequest) -> HttpResponse:
    """All checks, the worst first."""
    order = [Level.BAD, Level.WARN, Level.OK]
    results = sorted(health.report(), key=lambda result: order.index(result.finding.level))
    worst = results[0].finding.level if results else Level.OK
    context = {**admin.site.each_context(request), "title": "Health", "results": results, "worst": worst}
    return TemplateResponse(request, "admin/health.html", context)


page.methods = ("GET",)  # type: ignore[attr-defined]  # for the table of addresses in the tests
