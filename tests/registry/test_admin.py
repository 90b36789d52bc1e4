"""The registry's tables in the admin site: searched and read, not written."""

from __future__ import annotations

import numpy as np
import pytest
from django.contrib import admin
from django.test import Client
from safetensors.numpy import save

from registry.models import Artifact, Model, ModelVersion, Share, StagedUpload
from registry.services import artifacts, models, versions
from tests.registry.conftest import House, pushed

TABLES = [Artifact, Model, ModelVersion, Share, StagedUpload]


@pytest.fixture
def operator(house: House) -> Client:
    staff = type(house.cast.olga).objects.create_superuser("staff@portal.example")
    browser = Client()
    browser.force_login(staff, backend="django.contrib.auth.backends.ModelBackend")
    return browser


@pytest.fixture
def rows(house: House) -> None:
    model = models.create(house.olga, name="radiology")
    version = pushed(house, model, save({"w": np.ones(2, np.float32)}))
    models.share(house.olga, model, house.federation)
    artifacts.wanted(house.olga, version, "state_dict")
    versions.begin_upload(house.olga, model, 100, "0" * 64)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_every_table_is_listed_searched_and_opened(operator: Client, rows: None, table: type) -> None:
    base = f"/admin/registry/{table.__name__.lower()}/"
    for path in (base, f"{base}?q=radiology", f"{base}{table.objects.first().pk}/change/"):  # type: ignore[attr-defined]
        assert operator.get(path).status_code == 200, path


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_nothing_is_added_or_deleted_by_hand(operator: Client, rows: None, table: type) -> None:
    base = f"/admin/registry/{table.__name__.lower()}/"
    pk = table.objects.first().pk  # type: ignore[attr-defined]
    assert operator.get(f"{base}add/").status_code == 403
    assert operator.post(f"{base}{pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin.site.is_registered(table)


def test_a_version_stays_as_it_is(operator: Client, rows: None) -> None:
    version = ModelVersion.objects.get()
    answer = operator.post(f"/admin/registry/modelversion/{version.pk}/change/", {"notes": "changed"})
    assert answer.status_code == 403
    version.refresh_from_db()
    assert version.notes == ""
