"""The cards of runs, for all who follow them: one look at a run makes the next frame of its card for everybody."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Final, NamedTuple

from ironflow_nb.core.identity import RunId
from ironflow_nb.execution import Engine
from ironflow_nb.handles.card_frame import CardFrame, card_frame
from ironflow_nb.handles.run_picture import view_of
from ironflow_nb.handles.run_progress import Moment, earlier_durations, progress_since
from ironflow_nb.server.server_sent_events import sse_message
from ironflow_nb.server.server_threads import in_thread

EVERY_S: Final = 0.2
"""The shortest time between two frames."""


class _ShownCard(NamedTuple):
    """The latest frame of a card. The frame of the number `since` becomes this one by the change."""

    n: int
    frame: CardFrame
    moment: Moment
    looked_s: float
    earlier: Sequence[int]
    since: int | None = None
    change: bytes = b""


class CardFeed:
    """The latest frame of each run that somebody follows. All of it belongs to one loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._n_followers: Counter[RunId] = Counter()
        self._looks: dict[RunId, asyncio.Future[_ShownCard]] = {}
        self._numbers = count()

    @contextmanager
    def followed(self, run_ids: Sequence[RunId]) -> Iterator[None]:
        """Keep the latest frames of these runs meanwhile."""
        followed = list(run_ids)
        self._n_followers.update(followed)
        try:
            yield
        finally:
            self._n_followers.subtract(followed)
            for run_id in followed:
                if not self._n_followers[run_id]:
                    self._looks.pop(run_id, None)
            self._n_followers += Counter()  # it forgets those that nobody follows

    async def message(self, run_id: RunId, numbers: dict[RunId, int]) -> bytes:
        """Return what makes the frame that was sent last into the latest one; nothing if that was sent."""
        shown, before = await self._look(run_id), numbers.get(run_id)
        numbers[run_id] = shown.n
        if shown.n == before:
            return b""
        if before is not None and shown.since == before:
            return shown.change
        frame = await in_thread(shown.frame.whole, self._engine.clock.now())
        return sse_message({"run_id": run_id, "frame": frame}, name="card")

    async def _look(self, run_id: RunId) -> _ShownCard:
        """Return the latest frame of the run; all who ask within a short time get the same."""
        found, now_s = self._looks.get(run_id), asyncio.get_running_loop().time()
        before = None if found is None or not found.done() or found.exception() is not None else found.result()
        if found is None or (found.done() and (before is None or now_s - before.looked_s >= EVERY_S)):
            found = asyncio.ensure_future(in_thread(self._next, run_id, before, now_s))
            self._looks[run_id] = found
        return await asyncio.shield(found)  # a client that goes away takes it from nobody else

    def _next(self, run_id: RunId, before: _ShownCard | None, now_s: float) -> _ShownCard:
        moment, progress = progress_since(self._engine, run_id, None if before is None else before.moment)
        if before is not None and progress is None:
            return before._replace(looked_s=now_s)
        assert progress is not None
        if before is None:
            earlier = () if progress.run is None else earlier_durations(self._engine, progress.run)
            return _ShownCard(
                next(self._numbers), card_frame(view_of(run_id, progress, earlier)), moment, now_s, earlier
            )
        view = view_of(run_id, progress, before.earlier)
        if not view.delta(before.frame.view):
            return before._replace(moment=moment, looked_s=now_s)
        frame = card_frame(view)
        change = {"run_id": run_id, **frame.change(before.frame, self._engine.clock.now())}
        message = sse_message(change, name="card")
        return _ShownCard(next(self._numbers), frame, moment, now_s, before.earlier, before.n, message)
