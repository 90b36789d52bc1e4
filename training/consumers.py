"""Browsers that watch a run: a snapshot with its number at once, then every message after it.

Server → browser: {"kind": "snapshot", "sequence": n, "data": …}, then {"sequence": k, "kind": …, "at": …, "data": …}.
Messages may overtake one another or be lost on the way; whoever sees a gap sends {"ask": "since", "sequence": last}
and gets what is missing, or, when that is too much, a snapshot with "instead": true. Whoever has a snapshot already
connects with `?since=n` and gets what came after it in place of another. {"ask": "snapshot"} gets one at any time: whom
a round waits for changes with the clock, of which no message tells. Rights are looked at when the socket opens, and
again and again after that, so somebody who lost them is sent away within a second of the next message.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import DatabaseError
from django.db.models import Q

from federations import authentication, permissions
from federations.models import Person
from federations.permissions import Actor
from federations.services import sessions
from fedportal.common import clock
from fedwire.errors import FedportalError
from training import progress, selectors
from training.models import Run
from training.services import unusual

# Rights older than this are looked at again before a message leaves; idle sockets are looked at this often.
TRUST_SECONDS = 0.5
IDLE_SECONDS = 5.0
MOST_FRAME = 64 << 10
MOST_ASKS = 5  # per second
MOST_SOCKETS = 20  # per person in this process

NOT_SIGNED_IN, NOT_YOURS, TOO_MUCH, TRY_AGAIN = 4401, 4404, 4429, 1013
SNAPSHOT = -1  # in place of a number: everything
_sockets: Counter[int] = Counter()


class RunConsumer(AsyncWebsocketConsumer):
    """/ws/runs/<run_id>"""

    run: Run
    actor: Actor
    session_key = ""  # of whoever comes with a browser

    async def connect(self) -> None:
        """Accept whoever may see the run. The reasons for a refusal: 4401, 4404, 4429."""
        self._group = ""
        self._counted = 0
        self._asked: list[float] = []
        self._sending = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None
        await self.accept()
        try:
            self.actor = await self._who()
            self.run = await database_sync_to_async(selectors.find_run)(
                self.actor, self.scope["url_route"]["kwargs"]["run_id"]
            )
        except FedportalError as error:
            await self.close(NOT_SIGNED_IN if error.status == 401 else NOT_YOURS)
            return
        if _sockets[self.actor.person.pk] >= MOST_SOCKETS:
            await self.close(TOO_MUCH)
            return
        self._counted = self.actor.person.pk
        _sockets[self._counted] += 1
        self._checked_at = time.monotonic()
        # The group comes first: what happens while the snapshot is made is then sent after it.
        async with self._sending:
            self._group = progress.group(self.run.public_id)
            await self.channel_layer.group_add(self._group, self.channel_name)
            await self._catch_up(_since(self.scope["query_string"]))
        self._watch = asyncio.create_task(self._keep_checking())

    async def disconnect(self, code: int) -> None:
        """Leave nothing behind."""
        if self._watch is not None:
            self._watch.cancel()
        if self._group:
            await self.channel_layer.group_discard(self._group, self.channel_name)
        if self._counted:
            _sockets[self._counted] -= 1
            self._counted = 0

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """{"ask": "since", "sequence": n} or {"ask": "snapshot"}; anything else ends the connection."""
        sequence = _asked_for(text_data)
        now = time.monotonic()
        self._asked = [at for at in self._asked if now - at < 1.0]
        if sequence is None or len(self._asked) >= MOST_ASKS:
            await self.close(TOO_MUCH)
            return
        self._asked.append(now)
        if not await self._still_allowed():
            return
        async with self._sending:
            await self._catch_up(sequence)

    async def news(self, event: dict[str, Any]) -> None:
        """A message of the group."""
        if await self._still_allowed():
            async with self._sending:
                await self._send(event["message"])

    async def _who(self) -> Actor:
        """The actor behind the session, or behind a key in the Authorization header (the command line)."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self.scope["headers"]}
        token = authentication.token_of(headers.get("authorization", ""))
        person = self.scope.get("user")
        if token:
            if isinstance(person, Person):
                raise FedportalError("two_credentials")
            return await database_sync_to_async(authentication.actor_of_key)(token)
        if not isinstance(person, Person):
            raise FedportalError("not_authenticated")
        self.session_key = self.scope["session"].session_key or ""
        return await database_sync_to_async(authentication.actor_of_session)(person, self.scope["session"])

    async def _catch_up(self, sequence: int) -> None:
        """Send what came after `sequence`; a snapshot if that is asked for, or instead of too many messages."""
        missing = None
        if sequence != SNAPSHOT:
            missing = await database_sync_to_async(progress.since)(self.run.pk, sequence)
        if missing is None:
            await self._send_snapshot(instead=sequence != SNAPSHOT)
            return
        for message in missing:
            await self._send(message)

    async def _send_snapshot(self, *, instead: bool) -> None:
        data = await database_sync_to_async(selectors.snapshot)(self.run, self.actor)
        await self._send({"kind": "snapshot", "sequence": data["sequence"], "instead": instead, "data": data})

    async def _send(self, message: dict[str, Any]) -> None:
        seen = unusual.told(message, unusual.sight(self.actor, self.run))
        await self.send(text_data=json.dumps(seen, separators=(",", ":")))

    async def _still_allowed(self) -> bool:
        """Whether the actor may still see the run; otherwise the connection ends."""
        if time.monotonic() - self._checked_at < TRUST_SECONDS:
            return True
        if not await database_sync_to_async(_may_see)(self.actor, self.run, self.session_key):
            await self.close(NOT_YOURS)
            return False
        self._checked_at = time.monotonic()
        return True

    async def _keep_checking(self) -> None:
        try:
            while await self._still_allowed():
                await asyncio.sleep(IDLE_SECONDS)
        except DatabaseError:
            await self.close(TRY_AGAIN)  # who cannot be asked about does not stay


def _may_see(actor: Actor, run: Run, session_key: str) -> bool:
    """Asked of the rows as they are now: the person may have been put out, the browser signed out, the key revoked,
    the membership ended.

    A password that was changed ends what was opened with the old one.
    """
    person = Person.objects.filter(pk=actor.person.pk, is_active=True).first()
    if person is None or person.password != actor.person.password:
        return False
    key = actor.key
    if key is None and not sessions.is_open(session_key):
        return False
    if key is not None:
        usable = Q(expires_at__isnull=True) | Q(expires_at__gt=clock.now())
        key = type(key).objects.filter(usable, pk=key.pk, revoked_at__isnull=True).first()
        if key is None:
            return False
    organization = actor.organization
    if organization is not None:
        organization = type(organization).objects.filter(pk=organization.pk).first()
    return permissions.can(Actor(person, organization, key), "run.view", run)


def _asked_for(text: str | None) -> int | None:
    """The number in an `ask` for what came since, `SNAPSHOT` for the whole; None for anything else."""
    if text is None or len(text) > MOST_FRAME:
        return None
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if said == {"ask": "snapshot"}:
        return SNAPSHOT
    if not isinstance(said, dict) or said.get("ask") != "since":
        return None
    sequence = said.get("sequence")
    return sequence if type(sequence) is int and 0 <= sequence < 1 << 62 else None


def _since(query: bytes) -> int:
    """The number in `?since=n` of the address; `SNAPSHOT` without one."""
    found = re.fullmatch(rb"since=([0-9]{1,15})", query)
    return int(found[1]) if found else SNAPSHOT
