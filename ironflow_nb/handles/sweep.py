"""A sweep: one run for each row, some at a time, each recognised by its row when the sweep is repeated."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from msgspec.structs import replace

from ironflow_nb.core.durations import wait_limit_s
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.join import Attach, Begin, Continue, Joining, OnRerun
from ironflow_nb.core.plain_text import are, counted
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import CLOSED, ENDED, ContinuationReason, RunStatus
from ironflow_nb.errors import DuplicateKey, IronflowError, ResultTimeout, RunFinished
from ironflow_nb.execution import (
    REGISTRY,
    Engine,
    FlowCall,
    RunPolicy,
    RunRequest,
    Session,
    StopRequest,
    Wakeup,
    begin,
    decide,
    key_of_call,
    run_in_background,
    say,
    say_opaque,
)
from ironflow_nb.handles.run import Run, awaited
from ironflow_nb.handles.sweep_rows import Faults, GivenRow, GivenRows, Key, SweptRow, given_rows, key_text
from ironflow_nb.history.run_status import run_and_status, statuses_of
from ironflow_nb.journal.ports import Select

if TYPE_CHECKING:
    import pandas as pd

LOOK_S: Final = 0.1
"""How often runs that wait, or go on elsewhere, are looked at."""
NAMED: Final = 5
"""The rows that a line names."""
FOREVER_S: Final = 1e12


class Sweepable(Protocol):
    """A flow or graph."""

    name: str
    receiver: tuple[Any, ...]

    def prepared_request(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[RunRequest, FlowCall]:
        """Return the request to the engine, once everything that the run needs is there."""

    def refuse_secrets(self, given: Any, what: str) -> None:
        """Check that what is kept in the clear has none of the definition's secrets."""

    def call_by_name(self, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and keyword arguments of a call with these arguments."""


class Sweep:
    """The runs of many rows, which go on in the background.

    Iterating yields the run of each row once it was begun, `runs` has those that were begun by now, and `frame()` the
    inputs, the status and the results of all rows. To interrupt `wait()` interrupts the sweep: no row begins any more,
    and those at work stop at their next step. The cell run again goes on with it.
    """

    def __init__(self, engine: Engine, name: str, given: GivenRows, rows: Sequence[SweptRow], concurrency: int) -> None:
        self.name = name
        self._engine = engine
        self._given = given
        self._rows = rows
        self._concurrency = concurrency
        self._lock = engine.threads.lock()
        self._wakeup = engine.threads.wakeup()
        self._todo: deque[SweptRow] = deque()
        self._at_work: dict[int, SweptRow] = {}
        self._is_coordinated = False
        self._is_stopping = False
        self._waiting: list[Wakeup] = []

    # -- looking -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def runs(self) -> list[Run[Any]]:
        """The runs of the rows that were begun, in the order of the rows."""
        return [Run(self._engine, row.run_id) for row in self._rows if row.run_id is not None]

    def statuses(self) -> list[RunStatus]:
        """Return the status of each row; one that was not begun is pending."""
        return [status for _, status in self.states()]

    def states(self) -> list[tuple[RunRow | None, RunStatus]]:
        """Return the run and the status of each row, of one moment."""
        ids = [row.run_id for row in self._rows if row.run_id is not None]
        known = set(self._engine.sessions)  # before reading: one that ends is written before it is forgotten
        with self._engine.reading() as reader:
            found = {run.run_id: run for run in reader.runs(Select(run_ids=ids))} if ids else {}
            statuses = statuses_of(self._engine, reader, list(found.values()))
        return [self._state(row, found, statuses, known) for row in self._rows]

    def _state(
        self, row: SweptRow, found: dict[RunId, RunRow], statuses: dict[RunId, RunStatus], known: set[RunId]
    ) -> tuple[RunRow | None, RunStatus]:
        if row.run_id in found:
            return found[row.run_id], statuses[row.run_id]
        if row.error is not None:
            return None, RunStatus.FAILED
        if row.run_id is not None and row.run_id not in known and row.number not in self._at_work:
            return None, RunStatus.CANCELLED  # its run was deleted
        return None, RunStatus.PENDING if row.run_id is None else RunStatus.RUNNING

    @property
    def counts(self) -> Counter[RunStatus]:
        """How many rows have each status."""
        return Counter(self.statuses())

    @property
    def is_over(self) -> bool:
        """True if no row is at work or to begin here."""
        return not self._is_coordinated

    def frame(self) -> pd.DataFrame:
        """Return one row each, as it is now: the inputs, `status`, the results, `error`, `duration_s` and `run_id`.

        Results that are all dicts have a column for each of their keys, others one column `result`. Inputs keep their
        names: another column of the same name is called ``run_status``, ``result_score``. The index is that of the
        frame that was given.
        """
        from ironflow_nb.handles.sweep_frame import frame_of_sweep

        return frame_of_sweep(self._engine, self._given, self._rows, self.states())

    @property
    def failed(self) -> pd.DataFrame:
        """The rows of `frame` whose runs have failed."""
        is_failed = [status is RunStatus.FAILED for status in self.statuses()]
        return self.frame()[is_failed]

    # -- waiting and stopping ------------------------------------------------------------------------------------

    def wait(self, timeout_s: float | None = None) -> Self:
        """Wait until no row is at work any more, whether completed, failed or stopped.

        Raises:
            ResultTimeout: some are after `timeout_s`; they go on.
        """
        timeout_s = wait_limit_s(timeout_s)
        if not self._wait(lambda: self.is_over, timeout_s):
            raise ResultTimeout(f"{self!r} did not end within {timeout_s:g} s; it goes on", name=self.name)
        return self

    def __await__(self) -> Generator[Any, Any, Self]:
        """Wait as `wait` does, on a loop: ``await sweep``."""
        return self._wait_async().__await__()

    async def _wait_async(self) -> Self:
        try:
            return await awaited(self._engine, self.name, self.wait)
        except BaseException as error:
            if not isinstance(error, Exception):
                self._interrupt(type(error).__name__)
            raise

    def _wait(self, is_done: Callable[[], bool], timeout_s: float | None = None) -> bool:
        clock, wakeup = self._engine.clock, self._engine.threads.wakeup()
        ends_s = None if timeout_s is None else clock.monotonic() + timeout_s
        self._waiting.append(wakeup)
        try:
            while not is_done():
                left_s = None if ends_s is None else ends_s - clock.monotonic()
                if left_s is not None and left_s <= 0:
                    return False
                clock.wait(wakeup, left_s)
        except BaseException as error:
            if not isinstance(error, Exception):
                self._interrupt(type(error).__name__)
            raise
        finally:
            self._waiting.remove(wakeup)
        return True

    def pause(self) -> Self:
        """Begin no further row, and pause those at work before their next step; return at once."""
        for row in self._stop():
            if row.run_id is not None:
                with suppress(RunFinished):
                    Run(self._engine, row.run_id).pause()
        return self

    def _interrupt(self, why: str) -> None:
        rows = self._stop()
        for row in rows:
            session = None if row.run_id is None else self._engine.sessions.get(row.run_id)
            if session is not None and session.is_open:
                session.stop(StopRequest.INTERRUPT, why)
        named = ", ".join(str(row.number) for row in rows[:NAMED])
        more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
        at_work = f"; row{'' if len(rows) == 1 else 's'} {named}{more} {are(len(rows))} at work" if rows else ""
        say(f"{self.name}: the sweep is interrupted{at_work}. The cell run again, or retry(), goes on with it")

    def _stop(self) -> list[SweptRow]:
        """Begin no further row; return those at work."""
        with self._lock:
            self._is_stopping = True
            self._todo.clear()
            rows = list(self._at_work.values())
        self._wakeup.set()
        return rows

    def retry(self) -> Self:
        """Go on with every row that has failed, was stopped or never begun; return at once."""
        again = [
            row
            for row, status in zip(self._rows, self.statuses(), strict=True)
            if (status in ENDED - CLOSED or status is RunStatus.PENDING) and row.number not in self._at_work
        ]
        for row in again:
            row.error = None
            if row.run_id is not None:
                row.request = replace(row.request, run_id=row.run_id, reason=ContinuationReason.RESUME)
        self.coordinate(again)
        return self

    # -- the runs ------------------------------------------------------------------------------------------------

    def coordinate(self, rows: Sequence[SweptRow]) -> None:
        """Begin these rows on a thread beside the caller, at most `concurrency` at a time."""
        with self._lock:
            self._is_stopping = False
            self._todo.extend(rows)
            if self._is_coordinated or not (self._todo or self._at_work):
                self._wakeup.set()
                return
            self._is_coordinated = True
        context = copy_context()
        self._engine.threads.spawn("ironflow-sweep", partial(context.run, self._coordinate))

    def watch(self, row: SweptRow, run_id: RunId) -> None:
        """Follow a run that goes on elsewhere."""
        row.run_id = run_id
        self._at_work[row.number] = row

    def _coordinate(self) -> None:
        try:
            while True:
                looks_again = self._look()
                while (row := self._next()) is not None:
                    self._begin(row)
                    looks_again |= row.run_id is not None and self._engine.sessions.get(row.run_id) is None
                if self._is_done():
                    break
                # Rows wait to begin, and a run that has begun to wait makes room for one without telling so.
                self._engine.clock.wait(self._wakeup, LOOK_S if looks_again or self._todo else None)
        finally:
            self._is_coordinated = False
            self._wake_waiting()

    def _wake_waiting(self) -> None:
        for wakeup in list(self._waiting):
            wakeup.set()

    def _is_done(self) -> bool:
        """Return True if no row is at work or to begin; then another thread may coordinate further ones."""
        with self._lock:
            self._is_coordinated = bool(self._todo or self._at_work)
            return not self._is_coordinated

    def _look(self) -> bool:
        """Forget the runs that have ended; return True if the others are to be looked at again soon."""
        looks_again = False
        for row in list(self._at_work.values()):
            assert row.run_id is not None
            session = self._engine.sessions.get(row.run_id)
            if session is not None and session.is_open:
                self._follow(row, session)
                looks_again |= _is_waiting(session)
            elif self._has_ended(row, row.run_id):
                row.session = None
                with self._lock:
                    self._at_work.pop(row.number, None)
            else:
                looks_again = True
        return looks_again

    def _has_ended(self, row: SweptRow, run_id: RunId) -> bool:
        # What this process has committed of the end of a run need not be read again.
        written = None if row.session is None else row.session.writer.row
        if written is not None and written.status in ENDED:
            return True
        try:
            return run_and_status(self._engine, run_id)[1] in ENDED
        except IronflowError:  # the journal can't be read any more: nothing can be followed in it
            return True

    def _next(self) -> SweptRow | None:
        """Return the next row, if it may begin."""
        with self._lock:
            n_at_work = sum(map(self._is_at_work, self._at_work.values()))
            if self._is_stopping or not self._todo or n_at_work >= self._concurrency:
                return None
            row = self._todo.popleft()
            self._at_work[row.number] = row
            return row

    def _is_at_work(self, row: SweptRow) -> bool:
        """Return True if the run does something here: one that only waits makes room for another."""
        session = None if row.run_id is None else self._engine.sessions.get(row.run_id)
        return session is not None and session.is_open and not _is_waiting(session)

    def _begin(self, row: SweptRow) -> None:
        try:
            begun = begin(self._engine, row.request)
            row.run_id = begun.run_id
            if isinstance(begun, Session):
                self._follow(row, begun)
                run_in_background(self._engine, begun, row.body)
        except Exception as error:  # noqa: BLE001 -- of one row; the others go on
            row.error = error
            with self._lock:
                self._at_work.pop(row.number, None)
            self._wakeup.set()
        self._wake_waiting()

    def _follow(self, row: SweptRow, session: Session) -> None:
        """Have this thread woken when this continuation of the run ends; one that was parked has several."""
        row.session = session
        if row.followed is not session.completion:
            row.followed = session.completion
            with session.lock:
                session.completion.when_done(self._wakeup.set)

    # -- showing -------------------------------------------------------------------------------------------------

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        from ironflow_nb.handles.sweep_picture import bundle_of_counts

        return bundle_of_counts(self.name, lambda: self.counts)

    def __iter__(self) -> Iterator[Run[Any]]:
        """Yield the run of each row, in their order, once it was begun; not of rows that were stopped before.

        Raises:
            Exception: what a row failed with before it had a run.
        """
        for row in self._rows:
            self._wait(partial(self._is_settled, row))
            if row.run_id is not None:
                yield Run(self._engine, row.run_id)
            elif row.error is not None:
                raise row.error

    def _is_settled(self, row: SweptRow) -> bool:
        return row.run_id is not None or row.error is not None or self.is_over

    def __repr__(self) -> str:
        from ironflow_nb.handles.sweep_picture import text_of

        try:
            return text_of(self.name, self.counts)
        except Exception as error:  # noqa: BLE001 -- a repr never raises, also if the journal can't be read
            return f"<sweep of {self.name}: {type(error).__name__}>"


def _is_waiting(session: Session) -> bool:
    row = session.writer.row
    return row is not None and row.status is RunStatus.WAITING


def _is_being_interrupted(engine: Engine, run_id: RunId) -> bool:
    """Return True if the run is ending here: it is continued after that."""
    session = engine.sessions.get(run_id)
    return session is not None and session.is_being_interrupted


def begin_sweep(definition: Sweepable, rows: object, *, concurrency: int, key: Key) -> Sweep:
    """Look at all rows, then begin those that have no completed run; see `Runnable.sweep`."""
    if type(concurrency) is not int or concurrency < 1:
        raise ValueError(f"concurrency is a whole number, at least 1, not {concurrency!r}")
    if not (key is None or isinstance(key, str) or callable(key)):
        raise TypeError(f"key is the name of a parameter or a function, not {key!r}")
    engine, given = REGISTRY.engine(), given_rows(definition.name, rows)
    swept = _requested(engine, definition, given, key)
    engine.flush()
    sweep = Sweep(engine, definition.name, given, swept, concurrency)
    sweep.coordinate(_to_begin(engine, sweep, swept))
    return sweep


def _requested(engine: Engine, definition: Sweepable, given: GivenRows, key: Key) -> list[SweptRow]:
    """Return what each row asks for.

    Raises:
        InputInvalid: some can't be called.
    """
    faults, keys = Faults(definition.name), dict[str, int]()
    swept: list[SweptRow] = []
    for number, row in enumerate(given.rows):
        try:
            inputs, request, body = _request(definition, row)
            digested = engine.digester.arguments(request.name, request.arguments)
            request = replace(request, policy=_policy(request, key, inputs, number, keys))
            definition.refuse_secrets(request.policy.key, "the key of the row")
        except Exception as error:  # noqa: BLE001 -- whatever is wrong with it is told with all the others
            faults.add(number, error)
            continue
        if digested.opaque and not swept:
            say_opaque(request.name, digested.opaque[0])
        call = key_of_call(engine, request, digested.digest)
        swept.append(SweptRow(number, inputs, replace(request, call=call), body))
    faults.refuse()
    return swept


def _request(definition: Sweepable, row: GivenRow) -> tuple[Mapping[str, Any], RunRequest, FlowCall]:
    if row.by_name is not None:
        return row.by_name, *definition.prepared_request(*definition.call_by_name(row.by_name))
    request, body = definition.prepared_request(definition.receiver + row.in_order, {})
    names = [name for name in request.arguments if not name.startswith("<")][len(definition.receiver) :]
    return dict(zip(names, row.in_order, strict=False)), request, body


def _policy(request: RunRequest, key: Key, inputs: Mapping[str, Any], number: int, keys: dict[str, int]) -> RunPolicy:
    """Return how the run of the row is joined: by its key, or by its arguments at any age."""
    policy = request.policy
    if key is not None:
        text = key_text(key, inputs)
        if (other := keys.setdefault(text, number)) != number:
            raise ValueError(f"its key {text!r} is that of row {other}")
        return replace(policy, key=text)
    if policy.on_rerun is OnRerun.NEW:
        return policy
    return replace(policy, on_rerun=OnRerun.REUSE, reuse_within_s=FOREVER_S, continue_within_s=FOREVER_S)


def _to_begin(engine: Engine, sweep: Sweep, rows: Sequence[SweptRow]) -> list[SweptRow]:
    """Return the rows to begin or to continue, and say what is there already.

    Raises:
        InputInvalid: a key was begun with other arguments.
    """
    faults, joinings = Faults(sweep.name), list[Joining]()
    with engine.access.current() as reader:
        for row in rows:
            try:
                assert row.request.call is not None
                joinings.append(decide(engine, reader, row.request, row.request.call))
            except DuplicateKey as error:
                faults.add(row.number, error)
    faults.refuse()
    todo: list[SweptRow] = []
    n_reused = n_continued = n_joined = n_built_on = 0
    for row, joining in zip(rows, joinings, strict=True):
        match joining:
            case Attach(run=run) if run.status in CLOSED:
                row.run_id = run.run_id
                n_reused += 1
            case Attach(run=run) if not _is_being_interrupted(engine, run.run_id):
                sweep.watch(row, run.run_id)
                n_joined += 1
            case Attach(run=run) | Continue(run=run):
                row.run_id = run.run_id
                row.request = replace(row.request, run_id=run.run_id, reason=ContinuationReason.RESUME)
                todo.append(row)
                n_continued += 1
            case Begin():
                todo.append(row)
                n_built_on += joining.takes_over
    parts = [
        (n_reused, "completed before and reused"), (n_continued, "continued"), (n_joined, "at work already"),
        (n_built_on, "built on completed runs, after an edit"), (len(todo) - n_continued - n_built_on, "new"),
    ]  # fmt: skip
    if len(todo) - n_continued - n_built_on < len(rows):
        told = ", ".join(f"{n} {words}" for n, words in parts if n)
        anew = f"{sweep.name}.options(fresh=True).sweep(...)"
        say(f"{sweep.name}: {counted(len(rows), 'row')}: {told}. To start anew: {anew}")
    return todo
