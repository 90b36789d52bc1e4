"""Addresses of the pages of this floor."""

from django.urls import path

from training.web import budget, home, inference, leakage, page_of_run, starting, views

urlpatterns = [
    path("", home.home, name="home"),
    path("first-steps/hide", home.hide_steps, name="hide-steps"),
    path("budget", budget.budget, name="budget"),
    path("federations/<str:federation>/inference", inference.index, name="inferences"),
    path("federations/<str:federation>/inference/consent", inference.give, name="inference-consent"),
    path("federations/<str:federation>/inference/withdraw", inference.withdraw, name="inference-withdraw"),
    path("inference/<str:plan>", inference.one, name="inference"),
    path("inference/<str:plan>/start", inference.start, name="inference-start"),
    path("inference/<str:plan>/cancel", inference.cancel, name="inference-cancel"),
    path("runs", views.index, name="runs"),
    path("runs/new", starting.new, name="run-new"),
    path("runs/new/fragment", starting.fragment, name="run-fragment"),
    path("runs/<str:run>", page_of_run.one, name="run"),
    path("runs/<str:run>/leakage", leakage.leakage, name="run-leakage"),
    path("runs/<str:run>/<str:verb>", page_of_run.control, name="run-control"),
]
