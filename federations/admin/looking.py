"""A table as operators see it: searched and read; what changes goes through services. Secrets are never shown."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model, QuerySet
from django.db.models.constants import LOOKUP_SEP
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from federations.services import confirming
from fedwire.errors import FedportalError


class Looking(admin.ModelAdmin):
    """A table to look at. `secrets` are columns that no page shows, and by which no list is filtered."""

    secrets: tuple[str, ...] = ()
    list_per_page = 100
    show_full_result_count = False

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        return [field.name for field in self.opts.fields if field.name not in self.secrets]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        return self.get_fields(request, obj)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        # Whoever may ask what a secret begins with can read it, letter by letter.
        model: Any = self.model
        for part in lookup.split(LOOKUP_SEP):
            if part in getattr(self.admin_site._registry.get(model), "secrets", ()):
                return False
            try:
                field = model._meta.get_field(part)
            except FieldDoesNotExist:  # the rest says how to compare
                break
            if field.related_model is None:
                break
            model = field.related_model
        return bool(super().lookup_allowed(lookup, value, request))

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        # The list needs it for its actions; a single row is viewed, and has no buttons to save it.
        return obj is None and bool(super().has_change_permission(request, obj))

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        # What the start page offers: to view, for nothing is changed in a form.
        return {**super().get_model_perms(request), "change": False}

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        title = f"Select {self.opts.verbose_name} to view"
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        """Nothing: no field can be edited."""


class LookingOnly(Looking):
    """A table without any action."""

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


# As many rows at once as a page can show for confirmation.
MOST_ROWS = 100
Act = Callable[[Any, HttpRequest, Any], object]
Action = Callable[[Any, HttpRequest, QuerySet[Any]], HttpResponse | None]


def asked(description: str, *, consequence: str, done: str) -> Callable[[Act], Action]:
    """Make an action of what is done to one row: it asks who one is, unless that was lately, and asks back first.

    The decorated method acts on one row through a service, which checks the right and writes the audit entry; after a
    confirmation it is called for each chosen row. `done` follows the number of rows in the message.
    """

    def decorate(act: Act) -> Action:
        @admin.action(description=description, permissions=["change"])
        @functools.wraps(act)
        def action(self: Any, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse | None:
            if not confirming.is_confirmed(request.session):
                messages.info(request, "Then choose the action again.")
                return redirect(f"/account/confirm?{urlencode({'next': request.get_full_path()})}")
            chosen = list(rows[: MOST_ROWS + 1])
            if len(chosen) > MOST_ROWS:
                messages.error(request, f"Choose at most {MOST_ROWS} rows at once.")
                return None
            if "confirmed" not in request.POST:
                return _ask(self, request, chosen, act.__name__, description, consequence)
            _do(request, chosen, functools.partial(act, self, request), done)
            return None

        return action

    return decorate


def _ask(
    table: Any, request: HttpRequest, chosen: list[Any], action: str, description: str, consequence: str
) -> HttpResponse:
    """The page that says what will happen, to what, and asks for a yes."""
    context = {
        **table.admin_site.each_context(request),
        "title": f"{description}?",
        "consequence": consequence,
        "rows": chosen,
        "action": action,
        "checkbox": ACTION_CHECKBOX_NAME,
        "opts": table.opts,
    }
    return TemplateResponse(request, "admin/asked.html", context)


def _do(request: HttpRequest, chosen: list[Any], act: Callable[[Any], object], done: str) -> None:
    """`act` on each row; says how many went well and what was wrong with the others."""
    count = 0
    for row in chosen:
        try:
            act(row)
            count += 1
        except FedportalError as error:
            messages.error(request, f"{row}: {error.message}")
    if count:
        messages.success(request, f"{count} {done}.")
