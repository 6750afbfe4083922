"""The events of a run as server-sent events: a reader that was cut off goes on after the last id that it has."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Final

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.status import ENDED
from ironflow_nb.server.event_feed import EventFeed
from ironflow_nb.server.refusals import refusal_of

MEDIA_TYPE: Final = "text/event-stream"
_KEEP_ALIVE_S: Final = 15.0
_PAGE: Final = 100


async def stream_of_events(feed: EventFeed, run_id: RunId, after: int) -> AsyncIterator[bytes]:
    """Yield the events after a position as they are recorded, and one named ``end`` when the run has ended."""
    yield b"retry: 1000\n\n"
    while True:
        try:
            page = await feed.new_page(run_id, after, _PAGE, _KEEP_ALIVE_S)
        except Exception as error:  # noqa: BLE001 -- the status was sent long ago
            yield _message(refusal_of(error).data, name="error")
            return
        if page is None:
            yield b": keep-alive\n\n"
            continue
        if page.events:
            after = page.events[-1]["position"]
            yield b"".join(_message(each, position=each["position"]) for each in page.events)
        if page.is_last and page.status in ENDED:
            yield _message({"run_id": run_id, "status": page.status.value}, name="end")
            return
        if feed.is_stopped:
            return


def _message(data: Any, *, position: int | None = None, name: str | None = None) -> bytes:
    lines = [] if position is None else [f"id: {position}"]
    lines += [] if name is None else [f"event: {name}"]
    return "\n".join([*lines, f"data: {json.dumps(data)}", "", ""]).encode()
