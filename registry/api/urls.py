"""Addresses of the JSON API of this floor."""

from django.urls import path

from registry.api import experiments, files, gates, rollouts, views

urlpatterns = [
    path("models", views.Models.as_view(), name="api-models"),
    path("models/<str:model>", views.OneModel.as_view(), name="api-model"),
    path("models/<str:model>/uploads", views.Uploads.as_view(), name="api-uploads"),
    path("models/<str:model>/versions", views.Versions.as_view(), name="api-versions"),
    path("models/<str:model>/versions/<str:version>", views.OneVersion.as_view(), name="api-version"),
    path("models/<str:model>/gate", gates.Gate.as_view(), name="api-gate"),
    path("models/<str:model>/versions/<str:version>/gate", gates.VersionGate.as_view(), name="api-version-gate"),
    path("models/<str:model>/versions/<str:version>/gate/override", gates.Override.as_view()),
    path("models/<str:model>/versions/<str:version>/gate/override/withdraw", gates.Withdrawal.as_view()),
    path("models/<str:model>/versions/<str:version>/formats", files.Files.as_view(), name="api-formats"),
    path("models/<str:model>/versions/<str:version>/download-url", files.FileLink.as_view(), name="api-link"),
    path("models/<str:model>/rollouts", rollouts.Rollouts.as_view(), name="api-rollouts"),
    path("models/<str:model>/rollouts/active", rollouts.ActiveRollouts.as_view(), name="api-active-rollouts"),
    path("models/<str:model>/rollback", rollouts.ModelRollback.as_view(), name="api-model-rollback"),
    path("rollouts", rollouts.AllRollouts.as_view(), name="api-all-rollouts"),
    path("rollouts/<str:rollout>", rollouts.OneRollout.as_view(), name="api-rollout"),
    path("rollouts/<str:rollout>/advance", rollouts.Advance.as_view()),
    path("rollouts/<str:rollout>/set", rollouts.SetShare.as_view()),
    path("rollouts/<str:rollout>/pause", rollouts.Pause.as_view()),
    path("rollouts/<str:rollout>/resume", rollouts.Resume.as_view()),
    path("rollouts/<str:rollout>/complete", rollouts.Complete.as_view()),
    path("rollouts/<str:rollout>/rollback", rollouts.RollBack.as_view()),
    path("experiments", experiments.Experiments.as_view(), name="api-experiments"),
    path("experiments/offered", experiments.Offered.as_view(), name="api-experiments-offered"),
    path("experiments/<str:experiment>", experiments.OneExperiment.as_view(), name="api-experiment"),
    path("experiments/<str:experiment>/results", experiments.Results.as_view(), name="api-experiment-results"),
    path("experiments/<str:experiment>/join", experiments.Join.as_view()),
    path("experiments/<str:experiment>/start", experiments.Start.as_view()),
    path("experiments/<str:experiment>/stop", experiments.Stop.as_view()),
    path("experiments/<str:experiment>/promote", experiments.Promote.as_view()),
    path("devices/<str:device>/health", rollouts.Health.as_view(), name="api-device-health"),
    path("federations/<str:federation>/models", views.FederationModels.as_view(), name="api-federation-models"),
    path("federations/<str:federation>/models/<str:model>", views.OneShare.as_view(), name="api-share"),
]
