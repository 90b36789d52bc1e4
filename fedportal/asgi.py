"""The portal as one ASGI application: the door, then sockets, then Django.

`python -m fedportal.serve` serves it in production, in as many processes as wanted; `python -m fedportal.embedded`
serves it in one process together with its worker.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.wsgi import get_wsgi_application
from django.urls import re_path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fedportal.settings")
# Django must be set up before anything that holds models is imported.
django_application = get_wsgi_application()

from fedportal.door.front import Door  # noqa: E402
from fedportal.door.pages import Pages  # noqa: E402
from training.routing import websocket_urlpatterns  # noqa: E402


async def nowhere(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """Refuse a socket to an address that has none."""
    await receive()
    await send({"type": "websocket.close", "code": 4404})


sockets = URLRouter([*websocket_urlpatterns, re_path("", nowhere)])
application = Door(
    ProtocolTypeRouter(
        {
            "http": Pages(django_application),
            "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(sockets)),
        }
    )
)
