"""The events of a run as server-sent events: a reader that was cut off goes on after the last id that it has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.status import ENDED
from ironflow_nb.server.event_feed import EventFeed
from ironflow_nb.server.refusals import refusal_of
from ironflow_nb.server.server_sent_events import KEEP_ALIVE, KEEP_ALIVE_S, RETRY, sse_message

_PAGE: Final = 100


async def stream_of_events(feed: EventFeed, run_id: RunId, after: int) -> AsyncIterator[bytes]:
    """Yield the events after a position as they are recorded, and one named ``end`` when the run has ended."""
    yield RETRY
    while True:
        try:
            page = await feed.new_page(run_id, after, _PAGE, KEEP_ALIVE_S)
        except Exception as error:  # noqa: BLE001 -- the status was sent long ago
            yield sse_message(refusal_of(error).data, name="error")
            return
        if page is None:
            yield KEEP_ALIVE
            continue
        if page.events:
            after = page.events[-1]["position"]
            yield page.text
        if page.is_last and page.status in ENDED:
            yield sse_message({"run_id": run_id, "status": page.status.value}, name="end")
            return
        if feed.is_stopped:
            return
