from importlib import import_module

from django.apps import AppConfig


class TrainingConfig(AppConfig):
    name = "training"
    verbose_name = "Training"

    def ready(self) -> None:
        import_module("training.wiring").connect()  # it needs the rows' classes, which are ready only now
