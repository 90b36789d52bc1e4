"""Addresses of the pages of this floor."""

from django.urls import path

from registry.web import views

urlpatterns = [
    path("models", views.index, name="models"),
    path("models/new", views.new, name="model-new"),
    path("models/<str:model>", views.one, name="model"),
    path("models/<str:model>/share", views.share, name="model-share"),
    path("models/<str:model>/unshare/<str:federation>", views.unshare, name="model-unshare"),
    path("models/<str:model>/initial", views.initial, name="model-initial"),
    path("models/<str:model>/versions/<str:version>", views.version, name="model-version"),
]
