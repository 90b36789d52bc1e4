from importlib import import_module

from django.apps import AppConfig

from fedportal.common import sweeping
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
        letters = import_module("federations.services.letters")
        letters.on_letter(import_module("federations.tasks").ring_for)
        sweeping.register(letters.send_due)
        sweeping.register(import_module("federations.services.invitations").sweep)
        sweeping.register(import_module("federations.services.agreements").sweep)
        sweeping.register(import_module("federations.services.throttle").sweep)
