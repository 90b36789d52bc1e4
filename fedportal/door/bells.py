"""Bells that come through Redis, when the portal runs as several processes."""

from __future__ import annotations

import asyncio
import json
import logging

import redis.asyncio
from redis.exceptions import RedisError

from fedportal.common import live

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


async def listen(url: str) -> None:
    """Ring in this process whatever is rung in any, for ever. A broker that is away is asked again every second.

    What is rung while nobody listens is made good by the hub, which looks for work once a second.
    """
    while True:
        try:
            await _listen_once(url)
        except (RedisError, OSError) as error:
            log.warning("no bells from the broker (%s); trying again", error)
        await asyncio.sleep(RETRY_SECONDS)


async def _listen_once(url: str) -> None:
    client = redis.asyncio.Redis.from_url(url, socket_connect_timeout=5, health_check_interval=15)
    try:
        pubsub = client.pubsub()
        await pubsub.subscribe(live.BELL_CHANNEL)
        while True:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=30.0)
            if message is not None:
                live.ring_here(_device_pks(message["data"]))
    finally:
        await client.aclose()


def _device_pks(data: bytes) -> list[int]:
    try:
        pks = json.loads(data)
    except ValueError:
        return []
    return [pk for pk in pks if isinstance(pk, int)] if isinstance(pks, list) else []
