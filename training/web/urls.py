"""Addresses of the pages of this floor."""

from django.urls import path

from training.web import budget, home, leakage, page_of_run, starting, views

urlpatterns = [
    path("", home.home, name="home"),
    path("first-steps/hide", home.hide_steps, name="hide-steps"),
    path("budget", budget.budget, name="budget"),
    path("runs", views.index, name="runs"),
    path("runs/new", starting.new, name="run-new"),
    path("runs/new/fragment", starting.fragment, name="run-fragment"),
    path("runs/<str:run>", page_of_run.one, name="run"),
    path("runs/<str:run>/leakage", leakage.leakage, name="run-leakage"),
    path("runs/<str:run>/<str:verb>", page_of_run.control, name="run-control"),
]
