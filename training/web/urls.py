"""Addresses of the pages of this floor."""

from django.urls import path

from training.web import views

urlpatterns = [
    path("runs", views.index, name="runs"),
    path("runs/new", views.new, name="run-new"),
    path("runs/<str:run>", views.one, name="run"),
    path("runs/<str:run>/<str:verb>", views.control, name="run-control"),
]
