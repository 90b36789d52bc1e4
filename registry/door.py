"""What the door asks this floor: who may send a model file, and who may fetch one."""

from __future__ import annotations

import re
from functools import partial

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware

from federations import permissions
from federations.authentication import actor_from
from federations.permissions import Actor
from fedportal.common import blobs
from fedportal.door.hooks import DoorRequest, DownloadTicket, UploadTicket
from fedwire.errors import FedportalError
from fedwire.formats import ENDINGS, SAFETENSORS
from registry import deliverables
from registry.deliverables import Deliverable
from registry.models import StagedUpload
from registry.services import versions


def upload(request: DoorRequest) -> UploadTicket:
    """Leave to send the file of a staged upload: to the person who announced it, while they may push the model."""
    actor = _actor(request)
    found = StagedUpload.objects.filter(
        public_id=request.params["upload"], person=actor.person, organization=actor.organization
    )
    staged = found.select_related("model", "model__organization").first()
    if staged is None:
        raise FedportalError("not_found", what="upload")
    permissions.require(actor, "model.push", staged.model)
    return UploadTicket(
        staging_name=staged.public_id,
        expected_bytes=staged.size,
        sha256=staged.sha256,
        stored_sha256=staged.sha256 if staged.complete or staged.pushed_as_id else "",
        on_stored=partial(versions.receive, staged),
        adopt=False,
    )


def download(request: DoorRequest) -> DownloadTicket:
    """Leave to fetch a version in `?format=`, safetensors by default; pytorch is another word for state_dict.

    Raises `format_pending` while a worker makes the form, and what else `deliverables.find` raises.
    """
    form = request.query.get("format", SAFETENSORS)
    return _ticket(deliverables.find(_actor(request), request.params["model"], request.params["version"], form))


def linked(request: DoorRequest) -> DownloadTicket:
    """Leave to fetch what `?link=` was made for, with no key. Raises `link_invalid`, `link_expired`."""
    text = request.query.get("link", "")
    return _ticket(deliverables.opened(request.params["model"], request.params["version"], text))


def _ticket(file: Deliverable) -> DownloadTicket:
    version = file.version
    return DownloadTicket(
        path=blobs.path(file.blob),
        size=file.size,
        etag=file.blob,
        filename=f"{_file_name(version.model.name)}-{version.version}.{ENDINGS[file.form]}",
        headers={"x-version": version.version, "x-digest": version.digest},
    )


def _actor(request: DoorRequest) -> Actor:
    """Who asks. What a browser's session changes must come from our own pages."""
    session = settings.SESSION_COOKIE_NAME in request.cookies
    if session and not request.token and request.method not in ("GET", "HEAD"):
        _check_csrf(request)
    return actor_from(request.token, request.cookies)


def _check_csrf(request: DoorRequest) -> None:
    """Ask Django's own check, as it would be asked behind the door. Raises `forbidden`."""
    plain = HttpRequest()
    plain.method = request.method
    plain.COOKIES = dict(request.cookies)
    plain.META = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in request.headers.items()}
    plain.META["SERVER_NAME"], plain.META["SERVER_PORT"] = "localhost", "80"
    if settings.FEDPORTAL_PUBLIC_URL.startswith("https://"):
        plain.META["wsgi.url_scheme"] = "https"
    check = CsrfViewMiddleware(lambda _: HttpResponse())
    check.process_request(plain)
    if check.process_view(plain, _nothing, (), {}) is not None:
        raise FedportalError(
            "forbidden", action="send files from another site's page", who="Use the portal's own pages, or a key."
        )


def _nothing(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "model"
