"""The portal as one ASGI application: the door, then sockets, then Django.

`uvicorn fedportal.asgi:application --loop uvloop --http httptools` serves it in production, in as many processes as
wanted; `fedportal.embedded` serves it in one process together with its worker.
"""

from __future__ import annotations

import os

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fedportal.settings")
# Django must be set up before anything that holds models is imported.
django_application = get_asgi_application()

from training.routing import websocket_urlpatterns  # noqa: E402

from fedportal.door.front import Door  # noqa: E402

application = Door(
    ProtocolTypeRouter(
        {
            "http": django_application,
            "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
        }
    )
)
