from importlib import import_module

from django.apps import AppConfig

from fedportal.door import hooks
from fedwire import routes


class FederationsConfig(AppConfig):
    name = "federations"
    verbose_name = "Federations"

    def ready(self) -> None:
        # Models can be imported only now.
        desk = import_module("federations.services.desk")
        hooks.register_desk(desk)
        hooks.register_upload(routes.TASK_UPDATE, desk.update_ticket)
        hooks.register_download(routes.TASK_MODEL, desk.model_ticket)
