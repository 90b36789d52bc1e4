"""Addresses of the JSON API of this floor."""

from django.urls import path

from registry.api import views

urlpatterns = [
    path("models", views.Models.as_view(), name="api-models"),
    path("models/<str:model>", views.OneModel.as_view(), name="api-model"),
    path("models/<str:model>/uploads", views.Uploads.as_view(), name="api-uploads"),
    path("models/<str:model>/versions", views.Versions.as_view(), name="api-versions"),
    path("models/<str:model>/versions/<str:version>", views.OneVersion.as_view(), name="api-version"),
    path("federations/<str:federation>/models", views.FederationModels.as_view(), name="api-federation-models"),
    path("federations/<str:federation>/models/<str:model>", views.OneShare.as_view(), name="api-share"),
]
