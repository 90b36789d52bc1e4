"""What the door asks this floor: who may fetch a file that an audit attacks."""

from __future__ import annotations

from federations.authentication import actor_from
from fedportal.common import blobs
from fedportal.door.hooks import DoorRequest, DownloadTicket
from training import selectors
from training.services import audits


def held(request: DoorRequest) -> DownloadTicket:
    """Leave to fetch a file that the portal holds of the run's rounds or of the organization's own devices."""
    actor = actor_from(request.token, request.cookies)
    run = selectors.find_run(actor, request.params["run"])
    blob = audits.file_of(actor, run, request.params["digest"])
    return DownloadTicket(path=blobs.path(blob), size=blobs.size(blob), etag=blob)
