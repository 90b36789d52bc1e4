"""News for browsers, and bells for waiting devices: what must reach other processes right after a commit.

Two channels, both best effort because the rows are the truth: `publish` sends a message to the browsers that watch a
group; `ring_devices` wakes devices that wait for work. In one process both go straight to the server's event loop; with
several processes they go through Redis.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import redis
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings

log = logging.getLogger(__name__)

BELL_CHANNEL = "fedportal:bell"
_loop: asyncio.AbstractEventLoop | None = None
_listeners: list[Callable[[Sequence[int]], None]] = []
_redis: redis.Redis | None = None


def attach_loop(loop: asyncio.AbstractEventLoop | None) -> None:
    """Tell this module the server's event loop (in embedded mode the layer lives on it and is not thread-safe)."""
    global _loop
    _loop = loop


def on_bell(listener: Callable[[Sequence[int]], None]) -> None:
    """Call `listener(device_pks)` whenever devices are rung in this process. It must be thread-safe and quick."""
    _listeners.append(listener)


def publish(group: str, message: dict[str, Any]) -> None:
    """Send `message` to the browsers watching `group`. Call it after commit only. Never raises."""
    layer = get_channel_layer()
    if layer is None:
        return
    event = {"type": "news", "message": message}
    try:
        if not settings.FEDPORTAL_REDIS_URL and group not in layer.groups:
            return  # nobody watches; whoever comes now reads the rows
        if _loop is not None and _loop.is_running():
            asyncio.run_coroutine_threadsafe(layer.group_send(group, event), _loop)
        elif settings.FEDPORTAL_REDIS_URL:
            async_to_sync(layer.group_send)(group, event)
    except Exception:
        log.warning("news for %s did not leave", group, exc_info=True)


def round_trip(seconds: float = 2.0) -> float | None:
    """How long a message through the channel layer takes, there and back; None when it does not come back."""
    layer = get_channel_layer()
    if layer is None:
        return None

    async def send_and_receive() -> float:
        begun = time.monotonic()
        async with asyncio.timeout(seconds):
            channel = await layer.new_channel()
            await layer.send(channel, {"type": "probe"})
            await layer.receive(channel)
        return time.monotonic() - begun

    try:
        if _loop is not None and _loop.is_running():
            return asyncio.run_coroutine_threadsafe(send_and_receive(), _loop).result(seconds + 1)
        return float(async_to_sync(send_and_receive)())
    except Exception:
        log.warning("the channel layer does not answer", exc_info=True)
        return None


def ring_devices(device_pks: Iterable[int]) -> None:
    """Wake the waiting devices with these primary keys. Call it after commit only. Never raises."""
    pks = list(device_pks)
    if not pks:
        return
    if settings.FEDPORTAL_REDIS_URL:
        _ring_through_redis(pks)
    else:
        ring_here(pks)


def ring_here(device_pks: Sequence[int]) -> None:
    """Wake those of the devices that wait in this process."""
    for listener in _listeners:
        listener(device_pks)


def _ring_through_redis(pks: list[int]) -> None:
    global _redis
    try:
        if _redis is None:
            _redis = redis.Redis.from_url(settings.FEDPORTAL_REDIS_URL, socket_timeout=2, socket_connect_timeout=2)
        _redis.publish(BELL_CHANNEL, json.dumps(pks))
    except redis.RedisError:
        log.warning("the bell for %d devices did not ring; they will ask by themselves", len(pks), exc_info=True)
