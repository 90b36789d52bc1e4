"""The portal hands out its own SDK: `pip install --find-links URL/sdk/ fedportal-sdk`, or the wheel's address directly.

The wheel is built when the portal is installed and lies in the folder `sdk` of the data folder.
"""

from __future__ import annotations

import re
from pathlib import Path

from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.urls import path
from django.utils.html import format_html, format_html_join
from django.views.decorators.http import require_safe

from fedwire.errors import FedportalError

_WHEEL = re.compile(r"fedportal_sdk-[0-9A-Za-z.+!_]+-py3-none-any\.whl")
NEXT_STEP = "Run any command of `python3 dev.py`, or `pip wheel ./sdk --no-deps` into `sdk` of the data folder."


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """A plain list of the wheels, newest first, in the form that pip reads."""
    found = wheels()
    if not found:
        return _missing()
    links = format_html_join("\n", '<a href="{}">{}</a><br>', ((wheel.name, wheel.name) for wheel in found))
    page = "<!doctype html>\n<html><head><title>fedportal-sdk</title></head><body>\n{}\n</body></html>\n"
    return HttpResponse(format_html(page, links))


@require_safe
def wheel(request: HttpRequest, name: str) -> HttpResponseBase:
    """One wheel."""
    for found in wheels():
        if found.name == name:
            return FileResponse(found.open("rb"), as_attachment=True, content_type="application/octet-stream")
    return _missing()


def wheels() -> list[Path]:
    """The wheels there are, the last built first."""
    folder = settings.FEDPORTAL_DATA_DIR / "sdk"
    found = [file for file in folder.glob("*.whl") if _WHEEL.fullmatch(file.name)] if folder.is_dir() else []
    return sorted(found, key=lambda file: (file.stat().st_mtime, file.name), reverse=True)


def _missing() -> JsonResponse:
    body = FedportalError("not_found", what="wheel of the SDK").body()
    return JsonResponse({**body, "next_step": NEXT_STEP}, status=404)


urlpatterns = [path("sdk/", index, name="sdk"), path("sdk/<str:name>", wheel, name="sdk-wheel")]
