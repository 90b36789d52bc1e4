"""Addresses of the pages of this floor."""

from django.urls import path

from registry.web import comparing, describing, experimentform, experiments, gating, rolloutform, rollouts, views

urlpatterns = [
    path("models", views.index, name="models"),
    path("models/new", describing.new, name="model-new"),
    path("models/<str:model>", views.one, name="model"),
    path("models/<str:model>/compare", comparing.compare, name="model-compare"),
    path("models/<str:model>/describe", describing.describe, name="model-describe"),
    path("models/<str:model>/share", views.share, name="model-share"),
    path("models/<str:model>/unshare/<str:federation>", views.unshare, name="model-unshare"),
    path("models/<str:model>/initial", describing.initial, name="model-initial"),
    path("models/<str:model>/versions/<str:version>", views.version, name="model-version"),
    path("models/<str:model>/gate", gating.policy, name="model-gate"),
    path("models/<str:model>/versions/<str:version>/gate", gating.report, name="version-gate"),
    path("models/<str:model>/versions/<str:version>/gate/override", gating.override, name="gate-override"),
    path("models/<str:model>/versions/<str:version>/gate/withdraw", gating.withdraw, name="gate-withdraw"),
    path("models/<str:model>/versions/<str:version>/forms/<str:form>", views.make, name="model-form"),
    path("models/<str:model>/versions/<str:version>/send-back", rollouts.send_back, name="version-send-back"),
    path("experiments", experiments.index, name="experiments"),
    path("experiments/new", experimentform.new, name="experiment-new"),
    path("experiments/<str:experiment>", experiments.one, name="experiment"),
    path("experiments/<str:experiment>/join", experiments.join, name="experiment-join"),
    path("experiments/<str:experiment>/<str:act>", experiments.act, name="experiment-act"),
    path("rollouts", rollouts.index, name="rollouts"),
    path("rollouts/new", rolloutform.new, name="rollout-new"),
    path("rollouts/<str:rollout>", rollouts.one, name="rollout"),
    path("rollouts/<str:rollout>/progress", rollouts.progress, name="rollout-progress"),
    path("rollouts/<str:rollout>/<str:act>", rollouts.act, name="rollout-act"),
]
