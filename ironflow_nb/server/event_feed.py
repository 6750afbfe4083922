"""What is new in the journal, for requests that wait: it is looked at once for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Final, NamedTuple

from ironflow_nb.core.durations import EPOCH
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.status import ENDED, RunStatus
from ironflow_nb.execution import Engine, logger
from ironflow_nb.history.run_status import statuses_of
from ironflow_nb.journal.event_columns import event_data
from ironflow_nb.journal.ports import EventRow, Select
from ironflow_nb.server.server_sent_events import sse_message
from ironflow_nb.server.server_threads import in_thread

_LOOK_S: Final = 0.05
_LOOKS_AT_OWNERS: Final = 20
"""The looks after which the runs are looked at, though nothing was committed: an owner may have died."""


class EventPage(NamedTuple):
    """Events of a run after a position, and the status of the run when they were read.

    `text` is what all who follow the run are sent.
    """

    events: list[dict[str, Any]]
    status: RunStatus
    is_last: bool
    text: bytes = b""


class EndOfWait:
    """What ends the wait of one request, from any thread.

    `answer` is what the request is answered, if that is known by the end.
    """

    def __init__(self) -> None:
        self.answer: object = None
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self._loop.create_future()

    def come(self) -> None:
        """End the wait."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(_resolve, self.future)


class EventFeed:
    """Tells requests when something was committed, and when a run has ended. All of it belongs to one loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._position = -1
        self._n_listeners = 0
        self._n_looks = 0
        self._ends: dict[RunId, set[asyncio.Future[None]]] = {}
        self._pages: dict[tuple[RunId, int, int], asyncio.Future[EventPage]] = {}
        self.changed = asyncio.Event()
        """Set at the next commit, or when the server stops."""
        self._is_wanted = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.is_stopped = False

    async def run(self) -> None:
        """Look as long as somebody waits."""
        self._loop = asyncio.get_running_loop()
        while not self.is_stopped:
            if not (self._n_listeners or self._ends):
                self._position = -1  # who comes next is told at the first look
                self._pages.clear()
                await self._is_wanted.wait()
            self._is_wanted.clear()
            await self._look()
            await asyncio.sleep(_LOOK_S)

    def stop(self) -> None:
        """Have all requests stop waiting. From any thread."""
        self.is_stopped = True
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        self._is_wanted.set()
        self._tell()
        for futures in self._ends.values():
            _resolve(*futures)

    async def _look(self) -> None:
        self._n_looks += 1
        before = self._position
        try:
            self._position, ended = await in_thread(self._read, list(self._ends))
        except Exception as error:  # noqa: BLE001 -- all who wait rest on this: the next look, or the request, tells
            logger().debug("looking at the journal for those who wait: %s", error)
            return
        if self._position != before:
            self._tell()
        for run_id in ended:
            _resolve(*self._ends.get(run_id, ()))

    def _read(self, waited_for: Collection[RunId]) -> tuple[int, list[RunId]]:
        with self._engine.journal.reading() as reader:
            position = reader.last_position()
            if not waited_for or (position == self._position and self._n_looks % _LOOKS_AT_OWNERS):
                return position, []
            statuses = statuses_of(self._engine, reader, reader.runs(Select(run_ids=waited_for)))
        return position, [run_id for run_id, status in statuses.items() if status in ENDED]

    def _tell(self) -> None:
        """Wake those who wait for something new."""
        self._pages.clear()
        self.changed, changed = asyncio.Event(), self.changed
        changed.set()

    @property
    def position(self) -> int:
        """The position of the journal at the last look."""
        return self._position

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Have `changed` set at each commit meanwhile."""
        self._n_listeners += 1
        self._is_wanted.set()
        try:
            yield
        finally:
            self._n_listeners -= 1

    async def wait(self, changed: asyncio.Event, timeout_s: float) -> bool:
        """Wait for that commit, at most for that time; return whether it came."""
        if timeout_s <= 0 or self.is_stopped:
            return changed.is_set()
        try:
            await asyncio.wait_for(changed.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    # -- the end of a run ----------------------------------------------------------------------------------------

    async def ended(self, run_id: RunId, end: EndOfWait, timeout_s: float) -> None:
        """Wait until the run has ended, or perhaps has; at most for that time, and not while the server stops."""
        future = end.future
        self._ends.setdefault(run_id, set()).add(future)
        self._is_wanted.set()
        try:
            if not self.is_stopped:
                with suppress(TimeoutError):
                    await asyncio.wait_for(future, timeout_s)
        finally:
            waiting = self._ends[run_id]
            waiting.discard(future)
            if not waiting:
                del self._ends[run_id]

    # -- the events of a run -------------------------------------------------------------------------------------

    async def page(self, run_id: RunId, after: int, limit: int) -> EventPage:
        """Return events of the run after the position; requests for the same ones share one read."""
        found = self._pages.get((run_id, after, limit))
        if found is None or (found.done() and found.exception() is not None):
            found = asyncio.ensure_future(in_thread(_page_to_send, self._engine, run_id, after, limit))
            self._pages[run_id, after, limit] = found
        return await asyncio.shield(found)  # a client that goes away takes it from nobody else

    async def new_page(self, run_id: RunId, after: int, limit: int, timeout_s: float) -> EventPage | None:
        """Return the next events of the run, or that it has ended; None if nothing comes within that time."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        with self.listening():
            while True:
                changed = self.changed  # before the read: what is committed after it is told
                page = await self.page(run_id, after, limit)
                if page.events or page.status in ENDED or self.is_stopped:
                    return page
                if not await self.wait(changed, until - loop.time()):
                    return None


def _resolve(*futures: asyncio.Future[None]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def read_page(engine: Engine, run_id: RunId, after: int, limit: int) -> EventPage:
    """Return events of the run after the position, and its status at that moment."""
    with engine.reading() as reader:
        rows = reader.events(Select(run_ids=[run_id], after=after, limit=limit))
        statuses = statuses_of(engine, reader, reader.runs(Select(run_ids=[run_id])))
    # A run that is gone has ended for those who follow it.
    return EventPage([_event(row) for row in rows], statuses.get(run_id, RunStatus.CANCELLED), len(rows) < limit)


def _page_to_send(engine: Engine, run_id: RunId, after: int, limit: int) -> EventPage:
    page = read_page(engine, run_id, after, limit)
    return page._replace(text=b"".join(sse_message(each, position=each["position"]) for each in page.events))


def _event(row: EventRow) -> dict[str, Any]:
    return {
        "position": row.position,
        "version": row.version,
        "at": (EPOCH + timedelta(microseconds=row.at)).isoformat(),
        "type": row.type,
        "step": row.step,
        "attempt": row.attempt,
        "data": event_data(row.data),
    }
