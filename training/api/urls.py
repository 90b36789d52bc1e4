"""Addresses of the JSON API of this floor."""

from django.urls import URLPattern, path

from training.api.device_runs import DeviceRun

urlpatterns: list[URLPattern] = [
    path("device/runs/<str:run>", DeviceRun.as_view(), name="api-device-run"),
]
