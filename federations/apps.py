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
        hooks.register_download(routes.TASK_STATE, desk.state_ticket)
        letters = import_module("federations.services.letters")
        tasks = import_module("federations.tasks")
        letters.on_letter(tasks.ring_for)
        sweeping.register(letters.send_due)
        deliveries = import_module("federations.services.deliveries")
        deliveries.on_delivery(tasks.ring_for_delivery)
        notifications = import_module("federations.services.notifications")
        notifications.on_news(tasks.ring_for_news)
        deliveries.on_switched_off(notifications.tell_switched_off)
        spreading = import_module("federations.services.spreading")
        sweeping.register(spreading.spread_due)
        sweeping.register(spreading.forget_old)
        sweeping.register(deliveries.send_due)
        sweeping.register(deliveries.forget_old)
        heartbeats = import_module("federations.services.heartbeats")
        heartbeats.on_beat(tasks.ring_for_life)
        sweeping.register(heartbeats.ask)
        import_module("federations.services.health").register()
        sweeping.register(import_module("federations.services.invitations").sweep)
        sweeping.register(import_module("federations.services.agreements").sweep)
        sweeping.register(import_module("federations.services.throttle").sweep)
        sweeping.register(import_module("federations.services.sessions").sweep)
