"""A federation of one organization whose devices train on rows in memory: what benchmarks of learning begin with."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fedportal_sdk import FederatedClient
from fedportal_sdk.portal import Portal as Owner
from tests.bench.rounds import MODEL, gather
from tests.running import Portal

Rows = tuple[Any, Any]  # features [n, d] and labels [n]


@contextmanager
def federation(architecture: dict[str, Any], parts: Sequence[Rows]) -> Iterator[tuple[Owner, Portal]]:
    """A portal in a process of its own, its owner with a shared model, and a waiting device for each of the parts."""
    with ExitStack() as stack:
        portal = stack.enter_context(Portal())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedportal-bench-")))
        key = portal.found("acme", "olga@acme.example")["api_key"]
        owner = Owner(portal.url, key, home=folder)
        owner.found_federation("benchmark")
        owner.create_model(MODEL, architecture=architecture)
        owner.push_initial(MODEL)
        owner.share(MODEL, "benchmark")
        stack.enter_context(_taking_part(portal, key, parts, architecture["classes"], folder))
        gather(owner, len(parts))
        yield owner, portal


@contextmanager
def _taking_part(portal: Portal, key: str, parts: Sequence[Rows], classes: int, folder: Path) -> Iterator[None]:
    """Every device in a thread of its own."""
    clients = [
        FederatedClient(key, f"device-{number:03d}", portal.url, folder / str(number)) for number in range(len(parts))
    ]

    def take_part(client: FederatedClient, rows: Rows) -> None:
        client.register()
        client.train(MODEL, rows, forever=True, labels=list(range(classes)))

    threads = [threading.Thread(target=take_part, args=pair, daemon=True) for pair in zip(clients, parts, strict=True)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for client in clients:
            client.stop()
        for thread in threads:
            thread.join(30)
