"""The portal's own doors behind a real port, so that the command line comes to them as it does in life.

A test's database belongs to the test's thread. So requests go there, while the command runs in a thread of its own.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from click.testing import CliRunner, Result
from django.test import Client

from fedportal_sdk.cli.main import main
from tests.sdk.server import Reply, Seen, serving

_Asked = tuple[Seen, "queue.Queue[Reply]"]


def invoke(client: Client, key: str, words: list[str]) -> Result:
    """What `fedportal …` says with this API key, its requests being answered by `client` in this thread."""
    asked: queue.Queue[_Asked | None] = queue.Queue()
    found: list[Result] = []

    def answer(number: int, seen: Seen) -> Reply:
        back: queue.Queue[Reply] = queue.Queue()
        asked.put((seen, back))
        return back.get(timeout=60)

    with serving(answer) as server:
        environment = {"FEDPORTAL_URL": server.url, "FEDPORTAL_API_KEY": key}
        thread = threading.Thread(target=_run, args=(words, environment, found.append, lambda: asked.put(None)))
        thread.start()
        while (one := asked.get(timeout=60)) is not None:
            seen, back = one
            back.put(_reply(client, seen))
        thread.join()
    return found[0]


def _run(words: list[str], environment: dict[str, str], put: Callable[[Result], None], end: Callable[[], None]) -> None:
    try:
        put(CliRunner().invoke(main, words, env=environment))
    finally:
        end()


def _reply(client: Client, seen: Seen) -> Reply:
    answer = client.generic(
        seen.method, seen.path, seen.body, content_type=seen.headers.get("content-type", "application/json")
    )
    return Reply(answer.status_code, answer.content, {"Content-Type": answer.headers.get("Content-Type", "")})
