"""What a device answers, read within this portal's limits; the reading itself is in `fedwire.answers`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings

from fedwire import answers
from fedwire.answers import MAX_BYTES, content_of, digest, parse

__all__ = ["MAX_BYTES", "check", "content_of", "digest", "parse"]


def check(
    answer: dict[str, Any],
    *,
    kind: str,
    max_samples: object = None,
    least_records: object = None,
    needed: Sequence[str] = (),
    individual: bool = False,
) -> dict[str, Any]:
    """The known fields of `answer`, as `fedwire.answers.check` says. `max_samples` may lower the portal's limit."""
    limit = settings.FEDPORTAL_MAX_SAMPLES
    if isinstance(max_samples, int):
        limit = min(limit, max_samples)
    return answers.check(
        answer, kind=kind, limit=limit, least_records=least_records, needed=needed, individual=individual
    )
