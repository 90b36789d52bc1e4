"""Addresses of the JSON API of this floor."""

from django.urls import URLPattern, path

from training.api import inference, views
from training.api.audits import Held, Leakage
from training.api.device_runs import DeviceRun
from training.api.federated import FederatedSessions, OneFederatedSession
from training.api.privacy import Budget, Label

urlpatterns: list[URLPattern] = [
    path("device/runs/<str:run>", DeviceRun.as_view(), name="api-device-run"),
    path("federations/<str:federation>/inference", inference.Plans.as_view(), name="api-inferences"),
    path("federations/<str:federation>/inference/consent", inference.Consent.as_view(), name="api-inference-consent"),
    path("inference/<str:plan>", inference.OnePlan.as_view(), name="api-inference"),
    path("inference/<str:plan>/start", inference.Start.as_view()),
    path("inference/<str:plan>/cancel", inference.Cancel.as_view()),
    path("federated/sessions", FederatedSessions.as_view(), name="api-federated-sessions"),
    path("federated/sessions/<str:run>", OneFederatedSession.as_view(), name="api-federated-session"),
    path("orgs/<str:org>/budget", Budget.as_view(), name="api-budget"),
    path("training/strategies", views.Strategies.as_view(), name="api-strategies"),
    path("training/sessions", views.Sessions.as_view(), name="api-sessions"),
    path("training/sessions/preview", views.Preview.as_view(), name="api-session-preview"),
    path("training/sessions/<str:run>", views.OneSession.as_view(), name="api-session"),
    path("training/sessions/<str:run>/snapshot", views.Snapshot.as_view(), name="api-session-snapshot"),
    path("training/sessions/<str:run>/label", Label.as_view(), name="api-session-label"),
    path("training/sessions/<str:run>/rounds", views.Rounds.as_view(), name="api-session-rounds"),
    path("training/sessions/<str:run>/events", views.Events.as_view(), name="api-session-events"),
    path("training/sessions/<str:run>/leakage", Leakage.as_view(), name="api-session-leakage"),
    path("training/sessions/<str:run>/held", Held.as_view(), name="api-session-held"),
    path("training/sessions/<str:run>/pause", views.Pause.as_view(), name="api-session-pause"),
    path("training/sessions/<str:run>/resume", views.Resume.as_view(), name="api-session-resume"),
    path("training/sessions/<str:run>/schedule", views.Schedule.as_view(), name="api-session-schedule"),
    path("training/sessions/<str:run>/stop", views.Stop.as_view(), name="api-session-stop"),
    path("training/sessions/<str:run>/keep", views.Keep.as_view(), name="api-session-keep"),
    path("training/sessions/<str:run>/publish-best", views.PublishBest.as_view(), name="api-session-publish-best"),
    # Names of models come last: `sessions` and `strategies` are reserved words.
    path("training/<str:model>/status", views.ModelStatus.as_view(), name="api-training-status"),
    path("training/<str:model>/stop", views.ModelStop.as_view(), name="api-training-stop"),
]
