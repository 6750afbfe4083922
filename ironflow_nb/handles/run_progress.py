"""The progress of a run: everything that its picture shows, read from the journal in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from msgspec.structs import replace

from ironflow_nb.core.breaker_rules import BreakerState
from ironflow_nb.core.event_codec import decode_as
from ironflow_nb.core.events import ItemsCounted, RunContinued, RunStarted, StepReused, StepStarted, WaitStarted
from ironflow_nb.core.identity import Digest, RunId, StepRef
from ironflow_nb.core.lane_rules import LanePlace
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import FAILURES, OWNED, RunStatus, StepStatus
from ironflow_nb.core.wait_rules import is_shown
from ironflow_nb.execution import Engine, Session, continuations, definition_prefix, unused_steps
from ironflow_nb.handles.open_questions import OpenQuestion, questions_of
from ironflow_nb.history.lanes_frame import living_places
from ironflow_nb.history.run_status import looked_at, statuses_of, unwritten
from ironflow_nb.journal.breaker_rows import breakers_of
from ironflow_nb.journal.ports import Reader, Select, SiteTally, StepTally, StoredDefinition
from ironflow_nb.telemetry.telemetry_rows import OpenProgress, TelemetryReader

_CHILDREN: Final = 5
"""The number of child runs that a node lists: the newest."""

_EARLIER: Final = 5
"""The number of earlier runs that tell how long a run takes: the newest that completed at the first go."""

_UNDONE: Final = FAILURES | {StepStatus.UNKNOWN, StepStatus.RUNNING, StepStatus.RETRYING}
"""The statuses of steps that a continuation of the run does again, unless the flow lived with their failure."""

Place: TypeAlias = tuple[str, str]
"""The name and the call site of a step."""


class ChildRun(NamedTuple):
    """The progress of a child run."""

    run_id: RunId
    status: RunStatus
    n_done: int
    n_failed: int

    def __str__(self) -> str:
        return f"run {self.run_id}: {self.status}, {self.progress}"

    @property
    def progress(self) -> str:
        """Its finished part, in words."""
        done = f"{self.n_done} step{'' if self.n_done == 1 else 's'} done"
        return f"{done}, {self.n_failed} failed" if self.n_failed else done


class Definitions(NamedTuple):
    """The definition of a run, None if it is not recorded, and by its id's beginning each other that has call sites."""

    latest: StoredDefinition | None = None
    older: Mapping[str, StoredDefinition] = {}


class ShownWait(NamedTuple):
    """A wait of the run that goes on, and what it asks, None if it asks nothing."""

    row: StepRow
    began: WaitStarted
    question: OpenQuestion | None

    @property
    def place(self) -> Place:
        """The name and the call site of the wait."""
        return self.row.name, self.began.site


class Progress(NamedTuple):
    """The recorded progress of a run and of its children; `totals` are those of maps, by name and site.

    `lanes` are all places in the lanes that the run waits for, `breakers` those that it waits for.

    `continued_at`, `ended_at` and `now` are microseconds UTC, the first two those of the latest continuation. Only a
    run that has not ended has `now`, which is rounded as its elapsed time is shown, and what was `reported`.
    """

    run: RunRow | None
    status: RunStatus
    definitions: Definitions = Definitions()
    tallies: Sequence[SiteTally] = ()
    totals: Mapping[Place, int] = {}
    children: Mapping[Place, Sequence[ChildRun]] = {}
    continued_at: int | None = None
    ended_at: int | None = None
    n_reused: int = 0
    now: int | None = None
    reported: Sequence[OpenProgress] = ()
    waits: Sequence[ShownWait] = ()
    lanes: Sequence[LanePlace] = ()
    breakers: Sequence[BreakerState] = ()

    @property
    def questions(self) -> list[tuple[Place, OpenQuestion]]:
        """What the run asks, in the order in which it was asked, with the place of each question."""
        return [(wait.place, wait.question) for wait in self.waits if wait.question is not None]

    @property
    def places(self) -> set[Place]:
        """Names and call sites of all steps that are recorded or expected."""
        return {tally.place for tally in self.tallies} | set(self.totals)


class Moment(NamedTuple):
    """The state of a run at one moment; while it is equal, nothing has happened."""

    run_id: RunId
    position: int
    status: RunStatus
    n_reused: int
    now: int | None = None
    """The time, if the run has not ended: rounded, microseconds UTC."""
    reported: Sequence[OpenProgress] = ()
    """How far its running attempts, and its flow, say that they are."""


def progress_of(engine: Engine, run_id: RunId) -> Progress:
    """Return the progress of the run. Recorded times, ids and random numbers are left out.

    Of a completed run, steps that it did not use are left out, such as failures from before an edit.

    Raises:
        RunNotFound: it does not exist.
    """
    progress = progress_since(engine, run_id, None)[1]
    assert progress is not None
    return progress


def progress_since(engine: Engine, run_id: RunId, moment: Moment | None) -> tuple[Moment, Progress | None]:
    """Return the moment that the journal shows now, and how far the run is if that is another one than before."""
    while True:
        session = engine.sessions.get(run_id)  # before reading: one that ends is written before it is forgotten
        with engine.journal.reading() as reader:
            found = reader.runs(Select(run_ids=[run_id]))
            run, status = looked_at(engine, reader, found)[0] if found else unwritten(engine, run_id, session)
            if found and run is not found[0]:
                continue  # it has ended since this transaction began, so its steps are to be read again
            n_reused = session.replayer.n_reused if session is not None else 0 if run is None else run.n_reused
            time, reported = None, []
            if run is not None and status in OWNED:
                began_at = _continued_at(reader, run) or run.started_at
                time = _rounded_now(engine, began_at)
                open_now = reader.extension(TelemetryReader).open_progress(run_id)
                # What the flow said in an earlier continuation is no news.
                reported = [each for each in open_now if each.name or each.at >= began_at]
            now = Moment(run_id, reader.last_position(), status, n_reused, time, reported)
            if now == moment:
                return now, None
            if run is None or not found:
                return now, Progress(run, status, _definitions(reader, run, session, set()), n_reused=n_reused)
            return now, _read(engine, reader, run, session, now)


def _rounded_now(engine: Engine, began_at: int) -> int:
    """Return the time by the clock, rounded to a step that grows with the duration of the run."""
    return began_at + rounded_age_s(max(engine.access.clock.now() - began_at, 0) // 1_000_000) * 1_000_000


def rounded_age_s(age_s: int) -> int:
    """Return the age in whole seconds, less precise the older it is: it changes about 20 times while it doubles."""
    step_s = max(1, (1 << age_s.bit_length()) // 40)
    return age_s // step_s * step_s


def _read(engine: Engine, reader: Reader, run: RunRow, session: Session | None, moment: Moment) -> Progress:
    status = moment.status
    is_completed, goes_on = status is RunStatus.COMPLETED, status in OWNED
    unused = unused_steps(reader, run) if is_completed else ()
    began_at = run.session_version
    found = reader.sites(run.run_id, without=unused, continued_at=began_at if goes_on else 0, began_at=began_at)
    tallies = [tally for tally in found if is_shown(tally.name)]
    if goes_on:
        in_flight = _in_flight_before(session, began_at)
        tallies = [each for tally in tallies for each in _to_be_reached(tally, in_flight[tally.place])]
    totals = totals_of(reader, run, since=run.session_version if is_completed else 0)
    places = {tally.place for tally in tallies} | set(totals)
    return Progress(
        run=run,
        status=status,
        definitions=_definitions(reader, run, session, places),
        tallies=tallies,
        totals=totals,
        children=_children(engine, reader, tallies),
        continued_at=_continued_at(reader, run),
        ended_at=None if goes_on else run.ended_at or _last_sign_at(reader, run),
        n_reused=moment.n_reused,
        now=moment.now,
        reported=moment.reported,
        waits=_waits(engine, reader, run, tallies),
        lanes=_lanes(engine, reader, run, tallies) if goes_on else (),
        breakers=_breakers(reader, tallies) if goes_on else (),
    )


def _waits(engine: Engine, reader: Reader, run: RunRow, tallies: Iterable[SiteTally]) -> list[ShownWait]:
    """Return the open waits of the run, in the order in which they began."""
    if not any(tally.status is StepStatus.WAITING for tally in tallies):
        return []
    events = reader.events(Select(run_ids=[run.run_id], name=WaitStarted.__name__))
    began = {row.step: decode_as(WaitStarted, row.data) for row in events}  # the latest attempt of each
    rows = reader.steps(Select(run_ids=[run.run_id], step_statuses={StepStatus.WAITING}, is_latest=True))
    asked = {each.row.step: each for each in questions_of(engine, reader, [run.run_id], rows)}
    found = [ShownWait(row, began[row.step], asked.get(row.step)) for row in rows if row.step in began]
    if run.status not in OWNED:  # nobody waits, but a question may still be answered
        found = [wait for wait in found if wait.question is not None]
    return sorted(found, key=lambda wait: wait.row.started_at)


def _lanes(engine: Engine, reader: Reader, run: RunRow, tallies: Iterable[SiteTally]) -> list[LanePlace]:
    """Return all places in the lanes that the run, or a step of it, waits for."""
    if run.status is not RunStatus.PENDING and not any(reason.startswith("lane") for reason in _reasons(tallies)):
        return []
    places = reader.lane_places()
    wanted = {place.lane_key for place in places if place.run_id == run.run_id and place.held_since is None}
    return living_places(engine, reader, [place for place in places if place.lane_key in wanted])


def _reasons(tallies: Iterable[SiteTally]) -> set[str]:
    """Return for what the steps wait that are not allowed to begin yet."""
    return {tally.reason for tally in tallies if tally.status is StepStatus.PENDING and tally.reason}


def _breakers(reader: Reader, tallies: Iterable[SiteTally]) -> list[BreakerState]:
    """Return the breakers that steps of the run wait for."""
    waited_for = _reasons(tallies)
    if not any(reason.startswith("breaker ") for reason in waited_for):
        return []
    return [state for state in breakers_of(reader).breakers() if f"breaker {state.name}" in waited_for]


def earlier_durations(engine: Engine, run: RunRow) -> list[int]:
    """Return how long the newest earlier runs of the flow took that completed at the first go, in microseconds."""
    select = Select(kind=run.kind, name=run.name, is_full_name=True, statuses={RunStatus.COMPLETED}, limit=_EARLIER)
    with engine.reading() as reader:
        earlier = [each for each in reader.runs(select) if each.n_sessions == 1 and not each.n_reused]
    return [each.ended_at - each.started_at for each in earlier if each.ended_at is not None]


def _in_flight_before(session: Session | None, began_at: int) -> Counter[Place]:
    """Count the bodies of this process that an earlier continuation has begun and that still run."""
    attempts = () if session is None else session.in_flight()
    began = (attempt for attempt in attempts if attempt.row is not None and attempt.row.version < began_at)
    return Counter((attempt.spec.name, attempt.call.site or "") for attempt in began)


def _to_be_reached(tally: SiteTally, n_in_flight: int) -> Iterator[SiteTally]:
    """Yield the tally without the steps that an earlier continuation left undone, and these steps as pending.

    They are tried again when the flow calls them.
    """
    n = tally.n_recorded_before - n_in_flight if tally.status in _UNDONE else 0
    if n > 0:
        yield replace(tally, status=StepStatus.PENDING, n=n, duration_s=None, n_lived_with=0)
    if n < tally.n:
        yield tally if n <= 0 else replace(tally, n=tally.n - n, n_tried_again=0)


def _continued_at(reader: Reader, run: RunRow) -> int | None:
    if run.n_sessions == 1:
        return None
    began = reader.events(Select(run_ids=[run.run_id], name=RunContinued.__name__, limit=1))
    return began[-1].at if began else None


def _last_sign_at(reader: Reader, run: RunRow) -> int:
    """Return the time of the last event of a run without a recorded end."""
    head = reader.head(run.run_id)
    return run.updated_at if head is None else head[1]


def totals_of(reader: Reader, run: RunRow, *, since: int, until: int | None = None) -> Counter[Place]:
    """Return the numbers of items of maps and loops, if they were known between these versions.

    If a later continuation has begun a series again, its number there counts; otherwise the earlier number, unless
    the run has completed without it.
    """
    latest: dict[tuple[str, str, int], ItemsCounted] = {}
    for row in reader.events(Select(run_ids=[run.run_id], name=ItemsCounted.__name__, until_version=until)):
        counted = decode_as(ItemsCounted, row.data)
        if row.version >= since:
            latest[counted.name, counted.branch, counted.nth] = counted
    totals: Counter[Place] = Counter()
    for counted in latest.values():
        totals[counted.name, counted.site] += counted.n_items
    return totals


def _children(engine: Engine, reader: Reader, tallies: Iterable[SiteTally]) -> dict[Place, Sequence[ChildRun]]:
    """Return how far the newest children of each place are."""
    ids: dict[Place, list[RunId]] = {}
    for tally in tallies:
        if tally.child_run_id is not None:
            ids.setdefault(tally.place, []).append(tally.child_run_id)
    wanted = [child for children in ids.values() for child in children[-_CHILDREN:]]
    if not wanted:
        return {}
    runs = {run.run_id: run for run in reader.runs(Select(run_ids=wanted))}
    statuses, counted = statuses_of(engine, reader, list(runs.values())), reader.tallies(list(runs))
    return {
        place: [_child(child, statuses[child], counted.get(child, ())) for child in children if child in runs]
        for place, children in ids.items()
    }


def _child(run_id: RunId, status: RunStatus, tallies: Iterable[StepTally]) -> ChildRun:
    counts = Counter[StepStatus]()
    for tally in tallies:
        counts[tally.status] += tally.n if is_shown(tally.name) else 0
    return ChildRun(run_id, status, counts[StepStatus.COMPLETED], sum(map(counts.__getitem__, FAILURES)))


def sites_of(reader: Reader, run: RunRow) -> dict[StepRef, str]:
    """Return where each step of the run was called last."""
    sites: dict[StepRef, str] = {}
    kinds: tuple[type[StepReused | StepStarted | WaitStarted], ...] = (StepReused, StepStarted, WaitStarted)
    for kind in kinds:  # a step that was taken over from another run may have begun anew since
        for row in reader.events(Select(run_ids=[run.run_id], name=kind.__name__)):
            if row.step is not None:
                sites[row.step] = decode_as(kind, row.data).site
    return sites


# -- definitions -------------------------------------------------------------------------------------------------


def definitions_of(engine: Engine, reader: Reader, run: RunRow, places: Iterable[Place]) -> Definitions:
    """Return the definition of the run, and the older ones that the call sites of these places speak of."""
    return _definitions(reader, run, engine.sessions.get(run.run_id), places)


def _definitions(reader: Reader, run: RunRow | None, session: Session | None, places: Iterable[Place]) -> Definitions:
    if run is None:
        return Definitions()
    latest = reader.definition(run.definition_id)
    if latest is None and session is not None:
        latest = session.definition.current()  # it is written after the first step
    wanted = {site.partition(":")[0] for _, site in places if site} - {definition_prefix(run.definition_id)}
    ids = [each for each in _ids(reader, run) if definition_prefix(each) in wanted] if wanted else []
    found = {definition_prefix(each): reader.definition(each) for each in ids}
    return Definitions(latest, {prefix: each for prefix, each in found.items() if each is not None})


def _ids(reader: Reader, run: RunRow) -> list[Digest]:
    """Return the ids of the definitions that the run had, oldest first."""
    [started] = reader.events(Select(run_ids=[run.run_id], name=RunStarted.__name__))
    began = decode_as(RunStarted, started.data)
    return list(dict.fromkeys([began.definition, *(event.definition for _, event in continuations(reader, run))]))
