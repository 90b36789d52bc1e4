"""Addresses of the pages of this floor."""

from django.urls import path

from training.web import home, starting, views

urlpatterns = [
    path("", home.home, name="home"),
    path("runs", views.index, name="runs"),
    path("runs/new", starting.new, name="run-new"),
    path("runs/<str:run>", views.one, name="run"),
    path("runs/<str:run>/<str:verb>", views.control, name="run-control"),
]
