"""The dashboard of a journal: its view, read in one transaction, and the object that displays it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar, cast

import msgspec

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import FAILURES, OWNED, RunKind, RunStatus, StepStatus
from ironflow_nb.core.wait_rules import WaitKind, is_shown
from ironflow_nb.errors import JournalCorrupt
from ironflow_nb.execution import REGISTRY, Engine
from ironflow_nb.handles.open_questions import questions_of
from ironflow_nb.history.lanes_frame import living_places
from ironflow_nb.history.lookup import When, instant_us, parse_statuses, row_limit, selection_of
from ironflow_nb.history.run_status import statuses_of
from ironflow_nb.history.run_tallies import ORDERS, RunFilter, RunTallies, run_tallies_of
from ironflow_nb.journal.breaker_rows import breakers_of
from ironflow_nb.journal.ports import QueueItem, QueueSelect, Reader, Select, StepTally
from ironflow_nb.triggers.schedule import schedule_state
from ironflow_nb.triggers.trigger_rows import triggers_of
from ironflow_nb.views.journal_text import journal_html, journal_text
from ironflow_nb.views.journal_view import (
    DeadLetterView,
    FlowSummary,
    JournalView,
    ProjectionView,
    QuestionSummary,
    RunSummary,
    ScheduleView,
    ThroughputView,
    failure_views,
    percentiles,
    span_of_bars,
)
from ironflow_nb.views.run_view import breaker_view, lane_views

T = TypeVar("T")

N_BARS: Final = 30
N_LISTED: Final = 20
"""The most rows of failures, questions, and dead letters."""
_DERIVED: Final = OWNED - {RunStatus.WAITING}
"""Recorded statuses of which another one may follow, if the owner is dead."""


class DashboardFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What a dashboard lists and counts; see `dashboard`. `of` is the kind and the name of a definition."""

    of: tuple[str, str] | None = None
    status: Collection[RunStatus] | None = None
    since: When = "7d"
    order: str = "newest"
    limit: int = 50


class _CountedEvents(Protocol):
    """What the registry has of a projection."""

    def lag_in(self, engine: Engine, reader: Reader) -> int:
        """Return the number of events that are still to be folded."""


class Dashboard:
    """What a journal shows now: its runs, their numbers and speed, failures, waits, lanes, breakers, schedules.

    It displays itself: in a notebook with the extension as a live card, elsewhere as a table of the moment.
    """

    def __init__(self, engine: Engine, chosen: DashboardFilter) -> None:
        self._engine = engine
        self._chosen = chosen

    @property
    def source(self) -> tuple[Engine, DashboardFilter]:
        """The engine that reads the journal, and what is listed."""
        return self._engine, self._chosen

    def view(self) -> JournalView:
        """Return what is shown now, as plain values."""
        return journal_view(self._engine, self._chosen)

    @property
    def text(self) -> str:
        """What is shown now, as text."""
        return journal_text(self.view())

    def __repr__(self) -> str:
        try:
            return self.text
        except Exception as error:  # noqa: BLE001 -- a repr never raises, also if the journal can't be read
            return plain(f"{self._engine.journal.location}: {error}")

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        try:
            return journal_bundle(self.view())
        except Exception:  # noqa: BLE001 -- as above
            return {"text/plain": repr(self)}


def dashboard(
    flow: object | None = None,
    *,
    status: str | Collection[str] | None = None,
    since: When = "7d",
    order: str = "newest",
    limit: int = 50,
    engine: Engine | None = None,
) -> Dashboard:
    """Return the dashboard of the journal, which displays itself: live in a notebook with the extension.

    Args:
        flow: only runs of a flow, a graph, a decider or the name of one; the part after the last dot is enough.
        status: list only runs of one status or several; the numbers above them are of all.
        since: list and count runs that began since then, and older ones that go on: a datetime, an ISO text, or a
            duration before now; None is the whole journal.
        order: of the list: newest, oldest, longest, shortest, flow, status.
        limit: the maximal number of runs in the list.
        engine: the journal to read; by default the current one.

    Raises:
        ValueError, TypeError: an argument is invalid.
        RunNotFound: no run of that name was recorded.
    """
    engine = engine or REGISTRY.engine()
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
    instant_us(since, engine.clock.now())
    chosen = DashboardFilter(
        of=_definition_of(engine, flow), status=parse_statuses(RunStatus, status), since=since, order=order,
        limit=row_limit(limit) or 0,
    )  # fmt: skip
    return Dashboard(engine, chosen)


def _definition_of(engine: Engine, flow: object | None) -> tuple[str, str] | None:
    if flow is None:
        return None
    with engine.reading() as reader:
        select = selection_of(engine, reader, flow=flow, run=None, since=None)
        of_name = Select(name=select.run_name, is_full_name=select.is_full_name, limit=1)
        found = reader.runs(of_name)
    if found:
        return found[0].kind, found[0].name
    kind, name = getattr(flow, "kind", None), getattr(flow, "name", flow)
    return str(kind or RunKind.FLOW), str(name)  # it may run later


def journal_bundle(view: JournalView) -> dict[str, str]:
    """Return the text and the tables of a view, for a notebook and what is saved of it."""
    return {"text/plain": journal_text(view), "text/html": journal_html(view)}


# -- the view ----------------------------------------------------------------------------------------------------


def journal_view(engine: Engine, chosen: DashboardFilter) -> JournalView:
    """Return the view of the journal, read in one transaction."""
    now = engine.clock.now()
    since = instant_us(chosen.since, now)
    with engine.reading() as reader:
        rows = run_tallies_of(reader)
        moves = _moved(engine, reader, rows)
        limits = RunFilter(of=chosen.of, since=since, order=chosen.order, limit=chosen.limit)
        counts = _Counts(rows, limits, moves)
        runs, n_found = _listed(reader, rows, _with_statuses(limits, chosen.status, moves), moves, now)
        dead = reader.work(QueueSelect(is_dead=True))
        asking = reader.work(QueueSelect(kind=WaitKind.APPROVAL))
        return JournalView(
            location=engine.journal.location,
            since_at=None if since is None else _rounded(since),
            n_by_status=counts.of_runs,
            n_found=n_found,
            p50_s=counts.percentiles[0],
            p95_s=counts.percentiles[1],
            throughput=_throughput(rows, limits, counts.began_at, now),
            n_waiting=len({item.run_id for item in asking}),
            n_dead=len(dead),
            n_processes=len(engine.access.living_owners(reader)),
            runs=runs,
            flows=counts.flows,
            failures=failure_views(rows.failures(limits))[:N_LISTED],
            lanes=lane_views(living_places(engine, reader, reader.lane_places())),
            breakers=tuple(map(breaker_view, breakers_of(reader).breakers())),
            schedules=_schedules(reader, now),
            waiting=_waiting(engine, reader, asking),
            dead_letters=_dead_letters(reader, dead),
            projections=_projections(engine, reader, rows),
        )


class _Moved(NamedTuple):
    """A run whose derived status is another one than the recorded one."""

    run: RunRow
    status: RunStatus


def _moved(engine: Engine, reader: Reader, rows: RunTallies) -> dict[RunId, _Moved]:
    ids = rows.with_status(_DERIVED)
    open_runs = _sound_runs(reader, ids)
    statuses = statuses_of(engine, reader, open_runs)
    return {run.run_id: _Moved(run, status) for run in open_runs if (status := statuses[run.run_id]) is not run.status}


def _sound_runs(reader: Reader, ids: Collection[str]) -> list[RunRow]:
    return _of_sound(lambda wanted: reader.runs(Select(run_ids=wanted)), ids) if ids else []


def _of_sound(read: Callable[[Collection[str]], T], ids: Collection[str]) -> T:
    """Return what is read of these runs, without those that have damaged rows: the doctor tells of them."""
    try:
        return read(ids)
    except JournalCorrupt as error:
        return read([run_id for run_id in ids if run_id not in (error.damaged or {})])


def _with_statuses(limits: RunFilter, wanted: Collection[RunStatus] | None, moves: Mapping[RunId, _Moved]) -> RunFilter:
    if wanted is None:
        return limits
    moved_in = [run_id for run_id, moved in moves.items() if moved.status in wanted and _is_within(moved.run, limits)]
    return msgspec.structs.replace(limits, statuses=wanted, moved_in=moved_in, moved_out=moves.keys())


def _is_within(run: RunRow, limits: RunFilter) -> bool:
    """Return True if the filter leaves the run, whatever its status; an open one is always recent enough."""
    return run.parent_run_id is None and limits.of in {None, (run.kind, run.name)}


class _Counts:
    """The numbers of runs by flow and status, with their durations."""

    def __init__(self, rows: RunTallies, limits: RunFilter, moves: Mapping[RunId, _Moved]) -> None:
        by_flow: dict[tuple[str, str], Counter[str]] = {}
        began: list[int] = []
        for kind, name, status, n, first in rows.by_status(limits):
            by_flow.setdefault((kind, name), Counter())[status] += n
            began.append(first)
        for moved in moves.values():
            counts = by_flow.get((moved.run.kind, moved.run.name))
            if counts is not None and _is_within(moved.run, limits) and counts[moved.run.status]:
                counts[moved.run.status] -= 1
                counts[moved.status] += 1
        durations = rows.durations(limits)
        self.percentiles = percentiles([duration for _, _, duration in durations])
        self.began_at = min(began, default=None)
        of_flow: dict[tuple[str, str], list[int]] = {}
        for kind, name, duration in durations:
            of_flow.setdefault((kind, name), []).append(duration)
        self.flows = tuple(
            _flow_summary(kind, name, counts, of_flow.get((kind, name), ()))
            for (kind, name), counts in sorted(by_flow.items())
        )
        whole = sum((counts for (kind, _), counts in by_flow.items() if kind != RunKind.DECIDER), Counter[str]())
        self.of_runs = _in_order(whole)


def _flow_summary(kind: str, name: str, counts: Counter[str], durations: Sequence[int]) -> FlowSummary:
    p50_s, p95_s = percentiles(durations)
    return FlowSummary(kind=kind, name=plain(name), n_by_status=_in_order(counts), p50_s=p50_s, p95_s=p95_s)


def _in_order(counts: Counter[str]) -> dict[str, int]:
    return {status.value: counts[status] for status in RunStatus if counts[status] > 0}


def _listed(
    reader: Reader, rows: RunTallies, wanted: RunFilter, moves: Mapping[RunId, _Moved], now: int
) -> tuple[tuple[RunSummary, ...], int]:
    ids, n_found = rows.listed(wanted, now)
    found = {run.run_id: run for run in _sound_runs(reader, ids)}
    tallies = _of_sound(reader.tallies, found) if found else {}
    errors = reader.values([run.error_id for run in found.values() if run.error_id is not None], content_limit=0)
    runs = [found[run_id] for run_id in ids if run_id in found]
    return tuple(
        _run_summary(
            run, moves[run.run_id].status if run.run_id in moves else run.status, tallies.get(run.run_id, ()),
            errors[run.error_id].preview if run.error_id in errors else None,
        )
        for run in runs
    ), n_found  # fmt: skip


def _run_summary(run: RunRow, status: RunStatus, tallies: Iterable[StepTally], error: str | None) -> RunSummary:
    counts = Counter[StepStatus]()
    for tally in tallies:
        counts[tally.status] += tally.n if is_shown(tally.name) else 0
    return RunSummary(
        run_id=run.run_id, kind=run.kind, name=plain(run.name), status=status.value, started_at=run.started_at,
        ended_at=run.ended_at, n_done=counts[StepStatus.COMPLETED], n_failed=sum(map(counts.__getitem__, FAILURES)),
        n_known=counts.total(), key=None if run.key is None else plain(run.key),
        error=None if error is None else plain(error),
    )  # fmt: skip


def _throughput(rows: RunTallies, limits: RunFilter, began_at: int | None, now: int) -> ThroughputView:
    """Return the ends of runs by time. The spans begin at whole multiples, so that they stay while time goes on."""
    if began_at is None:
        return ThroughputView()
    first = began_at if limits.since is None else max(began_at, limits.since)
    span_s = span_of_bars(max(now - first, 1) / 1e6, N_BARS - 1)
    span = span_s * 1_000_000
    last = now // span
    start = max(first // span, last - N_BARS + 1) * span
    bars: dict[str, list[int]] = {name: [0] * (last - start // span + 1) for name in ("completed", "failed", "other")}
    for number, status, n in rows.ends(limits, start, span):
        if number < len(bars["other"]):  # the clock may have been set back
            bars[status if status in bars else "other"][number] += n
    completed, failed, other = (tuple(each) for each in bars.values())
    return ThroughputView(began_at=start, span_s=span_s, n_completed=completed, n_failed=failed, n_other=other)


def _rounded(instant: int) -> int:
    """Return the instant to the minute, so that a view does not change with every look."""
    return instant // 60_000_000 * 60_000_000


def _schedules(reader: Reader, now: int) -> tuple[ScheduleView, ...]:
    return tuple(
        ScheduleView(
            name=plain(row.name), flow=plain(row.flow), rule=str(row.read_rule), state=schedule_state(row, now),
            next_at=row.next_at, last_at=row.last_at, n_missed=row.n_missed,
        )
        for row in triggers_of(reader).schedules()
    )  # fmt: skip


def _waiting(engine: Engine, reader: Reader, asking: Sequence[QueueItem]) -> tuple[QuestionSummary, ...]:
    ids = list(dict.fromkeys(item.run_id for item in asking))[:N_LISTED]
    runs = {run.run_id: run for run in _sound_runs(reader, ids)}
    return tuple(
        QuestionSummary(
            run_id=each.row.run_id, flow=plain(runs[each.row.run_id].name), step=each.row.step,
            question=plain(each.question.text), asked_at=each.row.started_at, due_at=each.row.due_at,
        )
        for each in questions_of(engine, reader, list(runs))
    )  # fmt: skip


def _dead_letters(reader: Reader, dead: Sequence[QueueItem]) -> tuple[DeadLetterView, ...]:
    newest = sorted(dead, key=lambda item: -(item.dead_at or 0))[:N_LISTED]
    runs = {run.run_id: run for run in _sound_runs(reader, {item.run_id for item in newest})}
    errors = reader.values([item.error_id for item in newest if item.error_id is not None], content_limit=0)
    return tuple(
        DeadLetterView(
            key=plain(item.key), kind=item.kind, dead_at=item.dead_at or 0,
            name=plain(runs[item.run_id].name if item.run_id in runs else item.key.partition(" ")[2]),
            error=errors[item.error_id].preview if item.error_id in errors else None,
            run_id=item.run_id if item.run_id in runs else None,
        )
        for item in newest
    )  # fmt: skip


def _projections(engine: Engine, reader: Reader, rows: RunTallies) -> tuple[ProjectionView, ...]:
    found = []
    for name, error in rows.projections():
        defined: Any = REGISTRY.find("projection", name)
        lag = None if defined is None else cast("_CountedEvents", defined).lag_in(engine, reader)
        found.append(ProjectionView(name=plain(name), lag=lag, error=None if error is None else plain(error)))
    return tuple(found)
