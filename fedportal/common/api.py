"""What every JSON address has in common: strict bodies, pages of lists, and errors from the catalogue."""

from __future__ import annotations

import logging
import secrets
from typing import Any, TypeVar

from django.core import exceptions as django_errors
from django.db import DataError, IntegrityError, OperationalError, models
from django.http import Http404
from rest_framework import exceptions, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fedwire.errors import FedportalError

log = logging.getLogger(__name__)
M = TypeVar("M", bound=models.Model)

DEFAULT_LIMIT, MAX_LIMIT = 50, 200


class Door(APIView):
    """The base of all JSON views: parse, call one service, render."""

    @property
    def actor(self) -> Any:
        """Who asks (`federations.permissions.Actor`); on addresses of devices the Device."""
        return self.request.auth

    def body(self, shape: type[serializers.Serializer[Any]], **context: Any) -> dict[str, Any]:
        """The request's JSON, checked against `shape`; unknown fields are ignored.

        Raises `field_invalid`, naming the first field that is wrong, or `bad_request` if the body is not an object.
        """
        return checked(shape, self.request.data, **context)


def checked(shape: type[serializers.Serializer[Any]], data: Any, **context: Any) -> dict[str, Any]:
    """`data` as `shape` understands it. Raises `field_invalid` or `bad_request`."""
    if not isinstance(data, dict):
        raise FedportalError("bad_request", reason="The body is not a JSON object.")
    serializer = shape(data=data, context=context)
    if not serializer.is_valid():
        raise from_validation(serializer.errors)
    return dict(serializer.validated_data)


def limit_offset(request: Request, queryset: models.QuerySet[M]) -> tuple[list[M], int]:
    """One page of `queryset` by `?limit=` (50, at most 200) and `?offset=`, and the number of all rows.

    Raises `field_invalid` for anything but whole numbers.
    """
    limit = _whole(request, "limit", DEFAULT_LIMIT, 1)
    offset = _whole(request, "offset", 0, 0)
    total = queryset.count()
    return list(queryset[offset : offset + min(limit, MAX_LIMIT)]), total


class Text(serializers.CharField):
    """Text only: numbers and truth values are not turned into text, NUL and lone surrogates are refused."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


class Whole(serializers.IntegerField):
    """A whole number only, written as one."""

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("invalid")
        return int(super().to_internal_value(data))


class Truth(serializers.BooleanField):
    """`true` or `false` only."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class Named(serializers.Serializer[Any]):
    """An id with its name."""

    id = serializers.CharField(source="public_id")
    name = serializers.CharField()


def exception_handler(error: Exception, context: dict[str, Any]) -> Response:
    """Every error as the catalogue's JSON. What nobody foresaw is logged under a reference, answered as `internal`."""
    found = as_fedportal_error(error)
    response = Response(found.body(), status=found.status)
    if found.status == status.HTTP_401_UNAUTHORIZED:
        response["WWW-Authenticate"] = "Bearer"
    if found.code in ("too_many_tries", "too_many_letters"):
        response["Retry-After"] = str(found.context.get("seconds", 60))
    return response


def as_fedportal_error(error: Exception) -> FedportalError:
    """The error of the catalogue that says what `error` means."""
    if isinstance(error, FedportalError):
        return error
    if isinstance(error, exceptions.ValidationError):
        return from_validation(error.detail)
    if isinstance(error, exceptions.MethodNotAllowed):
        return FedportalError("method_not_allowed", method=str(error.detail).split('"')[1])
    for kinds, code, values in _KNOWN:
        if isinstance(error, kinds):
            return FedportalError(code, **values)
    if isinstance(error, (exceptions.ParseError, exceptions.UnsupportedMediaType)):
        return FedportalError("bad_request", reason=str(error.detail))
    reference = secrets.token_hex(6)
    log.error("%s: %s", reference, error, exc_info=error)
    return FedportalError("internal", reference=reference)


def from_validation(detail: Any) -> FedportalError:
    """`field_invalid` for the first of a serializer's complaints."""
    field, reason = "", detail
    while isinstance(reason, (dict, list)) and reason:
        if isinstance(reason, dict):
            name = next(iter(reason))
            field = field if name == "non_field_errors" else f"{field}.{name}".strip(".")
            reason = reason[name]
        else:
            reason = next(item for item in reason if item)
    return FedportalError("field_invalid", field=field or "body", reason=str(reason))


_KNOWN: tuple[tuple[tuple[type[Exception], ...], str, dict[str, Any]], ...] = (
    ((exceptions.NotAuthenticated, exceptions.AuthenticationFailed), "not_authenticated", {}),
    ((exceptions.NotFound, Http404), "not_found", {"what": "address"}),
    (
        (exceptions.PermissionDenied, django_errors.PermissionDenied),
        "forbidden",
        {"action": "do this", "who": "Ask an admin of your organization."},
    ),
    # DATA_UPLOAD_MAX_MEMORY_SIZE
    ((django_errors.RequestDataTooBig,), "body_too_large", {"limit": 1 << 20}),
    ((django_errors.SuspiciousOperation,), "bad_request", {"reason": "The request is malformed."}),
    ((IntegrityError,), "conflict", {}),
    ((DataError,), "bad_request", {"reason": "A value does not fit."}),
    # The database is away, or ended one of two that waited for each other.
    ((OperationalError,), "unavailable", {}),
    ((RecursionError,), "bad_request", {"reason": "The body is nested too deeply."}),
)


def _whole(request: Request, name: str, default: int, least: int) -> int:
    text = request.query_params.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10) or int(text) < least:
        raise FedportalError("field_invalid", field=name, reason=f"it must be a whole number from {least}.")
    return int(text)
