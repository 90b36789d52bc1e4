"""A table as operators see it: searched and read; what changes goes through services. Secrets are never shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin, messages
from django.db.models import Model
from django.http import HttpRequest

from fedwire.errors import FedportalError


class Looking(admin.ModelAdmin):
    """A table to look at. `secrets` are columns that no page shows."""

    secrets: tuple[str, ...] = ()
    list_per_page = 100
    show_full_result_count = False

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        return [field.name for field in self.opts.fields if field.name not in self.secrets]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        return self.get_fields(request, obj)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        # Needed for actions; every field of the form is read-only.
        return bool(super().has_change_permission(request, obj))

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        """Nothing: no field can be edited."""


class LookingOnly(Looking):
    """A table without any action."""

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def each(request: HttpRequest, rows: Iterable[Any], act: Callable[[Any], object], done: str) -> None:
    """`act` on each row; says how many went well and what was wrong with the others."""
    count = 0
    for row in rows:
        try:
            act(row)
            count += 1
        except FedportalError as error:
            messages.error(request, f"{row}: {error.message}")
    if count:
        messages.success(request, f"{count} {done}.")
