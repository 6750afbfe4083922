"""The cards of runs as server-sent events: whole frames first, then what changes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from ironflow_nb.core.identity import RunId
from ironflow_nb.server.card_feed import EVERY_S, CardFeed
from ironflow_nb.server.event_feed import EventFeed
from ironflow_nb.server.refusals import refusal_of
from ironflow_nb.server.server_sent_events import KEEP_ALIVE, KEEP_ALIVE_S, RETRY, sse_message

_AT_LEAST_EVERY_S: Final = 1.0
"""After this time a run is looked at without a commit: its age is shown, and its owner may have died."""


async def stream_of_cards(
    cards: CardFeed, feed: EventFeed, run_ids: Sequence[RunId], *, with_journal: bool
) -> AsyncIterator[bytes]:
    """Yield the frame of each card and what changes it, and the position of the journal when it has grown.

    A stream that begins again begins with whole frames, so nothing that was missed is missing.
    """
    yield RETRY
    loop, wanted, numbers = asyncio.get_running_loop(), list(run_ids), dict[RunId, int]()
    told, sent_s = -1, loop.time()
    with cards.followed(wanted), feed.listening():
        while not feed.is_stopped:
            changed = feed.changed  # before the reads: what is committed after them is told
            messages = []
            for run_id in list(wanted):
                try:
                    messages.append(await cards.message(run_id, numbers))
                except Exception as error:  # noqa: BLE001 -- the status was sent long ago
                    wanted.remove(run_id)
                    messages.append(sse_message({"run_id": run_id, **refusal_of(error).data}, name="error"))
            if with_journal and (position := feed.position) != told:
                told = position
                messages.append(sse_message({"position": position}, name="journal"))
            if loop.time() - sent_s > KEEP_ALIVE_S:
                messages.append(KEEP_ALIVE)
            if content := b"".join(messages):
                sent_s = loop.time()
                yield content
            await asyncio.sleep(EVERY_S)
            await feed.wait(changed, _AT_LEAST_EVERY_S - EVERY_S)
