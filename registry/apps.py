from importlib import import_module

from django.apps import AppConfig


class RegistryConfig(AppConfig):
    name = "registry"
    verbose_name = "Model registry"

    def ready(self) -> None:
        import_module("registry.wiring").connect()  # it needs the rows' classes, which are ready only now
