"""What loading the extension shows: runs that can be continued, open questions, and what waits for its notebook."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from html import escape
from itertools import chain
from typing import TYPE_CHECKING, Final

from ironflow_nb.core.durations import spoken
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import CLOSED, OWNED, RunKind, RunStatus, StepStatus
from ironflow_nb.core.wait_rules import WaitKind
from ironflow_nb.durable_cells.cell import KIND
from ironflow_nb.durable_cells.notebook_file import is_default_name
from ironflow_nb.errors import IronflowError
from ironflow_nb.execution import FOREIGN, REGISTRY, Engine, advice, logger, own_runs
from ironflow_nb.handles.open_questions import question_views
from ironflow_nb.history.frames import count_steps, error_text
from ironflow_nb.history.run_status import statuses_of
from ironflow_nb.journal.ports import QueueSelect, Reader, Select
from ironflow_nb.notebook.live_pictures import can_show_card

if TYPE_CHECKING:
    from ironflow_nb.notebook.journal_card import JournalOutput
    from ironflow_nb.views.unfinished_view import UnfinishedRun, UnfinishedView

SHOWN: Final = 5
_LOOKED_AT: Final = 1000
WITHIN_S: Final = 30 * 86400.0
FAILED_WITHIN_S: Final = 7 * 86400.0
"""How long a failed run is shown, if its flow has not run since: as long as an equal call would continue it."""
_QUEUED: Final = ("effect", "timer", "schedule", "event")
_WANTED: Final = frozenset({RunStatus.INTERRUPTED, RunStatus.WAITING, RunStatus.PENDING, RunStatus.FAILED})


SILENT_ATTRIBUTE: Final = "_ironflow_is_silent"
"""Set on a shell that only loads definitions: what somebody has to look after is not shown there."""


def show_unfinished() -> JournalOutput[UnfinishedView] | None:
    """Show what somebody has to look after in the default journal, if there is anything; return its card, if any."""
    engine = REGISTRY.engine()
    try:
        view = unfinished(engine)
    except IronflowError as error:
        logger().warning("%s", error)
        return None
    if not view:
        return None
    if (view.runs or view.questions) and can_show_card():
        from ironflow_nb.notebook.journal_card import show_card

        return show_card(engine, partial(look_again, engine, view), partial(_bundle, engine))
    from IPython.display import display

    display(_bundle(engine, view), raw=True)  # type: ignore[no-untyped-call]
    return None


def look_again(engine: Engine, first: UnfinishedView) -> UnfinishedView:
    """Return the runs of the first view as they are now, and the open questions."""
    return unfinished(engine, [each.run_id for each in first.runs], n_more=first.n_more)


def _bundle(engine: Engine, view: UnfinishedView) -> dict[str, str]:
    return {"text/plain": plain(as_text(engine, view)), "text/html": plain(as_html(engine, view))}


# -- what there is -----------------------------------------------------------------------------------------------------


def unfinished(engine: Engine, run_ids: Collection[RunId] | None = None, *, n_more: int = 0) -> UnfinishedView:
    """Return what somebody has to look after; reads only.

    That are interrupted, waiting and pending runs of the last 30 days, and those that failed in the last seven, unless
    their flow has run since. Later, `run_ids` are looked at again, whatever has become of them.
    """
    from ironflow_nb.views.unfinished_view import UnfinishedView

    with engine.reading() as reader:
        if run_ids is None:
            rows, statuses = _found(engine, reader)
            rows, n_more = rows[:SHOWN], max(len(rows) - SHOWN, 0)
        else:
            rows = reader.runs(Select(run_ids=run_ids))
            statuses = statuses_of(engine, reader, rows)
        runs = _run_views(engine, reader, rows, statuses)
        notes = waiting_work(reader)
        n_questions = len(reader.work(QueueSelect(kind=WaitKind.APPROVAL)))
    return UnfinishedView(
        runs=runs, n_more=n_more, questions=tuple(question_views(engine, SHOWN)), notes=tuple(notes),
        n_more_questions=max(n_questions - SHOWN, 0),
    )  # fmt: skip


def _found(engine: Engine, reader: Reader) -> tuple[list[RunRow], dict[RunId, RunStatus]]:
    now = engine.clock.now()
    recorded = OWNED | {RunStatus.INTERRUPTED, RunStatus.FAILED}
    since = now - round(WITHIN_S * 1e6)
    # One status after the other, for which there is an index: of a million runs that wait only the newest are read.
    found = [reader.runs(Select(statuses={status}, since=since, limit=_LOOKED_AT)) for status in recorded]
    rows = sorted(chain.from_iterable(found), key=lambda row: -row.started_at)
    rows = [row for row in rows if row.parent_run_id is None and _is_recent(row, now)]
    statuses = statuses_of(engine, reader, rows)
    rows = [row for row in rows if statuses[row.run_id] in _WANTED]
    return [row for row in rows if statuses[row.run_id] is not RunStatus.FAILED or _is_newest(reader, row)], statuses


def _is_recent(row: RunRow, now: int) -> bool:
    is_failed = row.status is RunStatus.FAILED
    return not is_failed or (row.kind in {RunKind.FLOW, RunKind.GRAPH} and now - row.updated_at < FAILED_WITHIN_S * 1e6)


def _is_newest(reader: Reader, row: RunRow) -> bool:
    newest = reader.runs(Select(kind=row.kind, name=row.name, is_full_name=True, limit=1))
    return not newest or newest[0].run_id == row.run_id


def _run_views(
    engine: Engine, reader: Reader, rows: Sequence[RunRow], statuses: dict[RunId, RunStatus]
) -> tuple[UnfinishedRun, ...]:
    from ironflow_nb.views.run_view import RunAction, allowed_actions
    from ironflow_nb.views.unfinished_view import UnfinishedRun

    tallies = reader.tallies([row.run_id for row in rows])
    own = own_runs(engine.signer, reader, rows)

    def view_of(row: RunRow) -> UnfinishedRun:
        of_run, is_own = tallies.get(row.run_id, ()), row.run_id in own
        done = [each for each in of_run if each.status is StepStatus.COMPLETED]
        allowed = allowed_actions(row, statuses[row.run_id], (), ()) if is_own else ()
        return UnfinishedRun(
            run_id=row.run_id, name=plain(_name_of(reader, row)), kind=row.kind, status=statuses[row.run_id],
            active_at=(reader.head(row.run_id) or (0, row.updated_at))[1],
            n_safe=count_steps(of_run, StepStatus.COMPLETED), safe_s=sum(each.duration_s or 0.0 for each in done),
            error=plain(error_text(reader, row.error_id) or "") if row.status is RunStatus.FAILED else "",
            is_own=is_own, is_defined=row.kind in {RunKind.GRAPH, KIND} or REGISTRY.find_of(row) is not None,
            actions=tuple(each for each in allowed if each in {RunAction.RESUME, RunAction.CANCEL}),
        )  # fmt: skip

    return tuple(map(view_of, rows))


def _name_of(reader: Reader, row: RunRow) -> str:
    """Return the name of the run; of a cell that has only an id its first line."""
    if row.kind != KIND or not is_default_name(row.name):
        return row.name
    definition = reader.definition(row.definition_id)
    lines = [] if definition is None else [line for line in definition.source.splitlines() if line.strip()]
    return f"`{lines[0].strip()}`" if lines else row.name


def waiting_work(reader: Reader) -> list[str]:
    """Return a line for each decider, flow or graph that is not defined here and has work; reads only.

    That are effects and timers, and schedules and events that start a run.
    """
    pending = [work for kind in _QUEUED for work in reader.work(QueueSelect(is_dead=False, kind=kind))]
    runs = {run.run_id: run for run in reader.runs(Select(run_ids={work.run_id for work in pending}))}
    counts: dict[str, Counter[str]] = {}
    for work in pending:
        run = runs.get(work.run_id)
        kind, _, name = work.key.partition(" ") if run is None else (run.kind, "", run.name)
        if REGISTRY.find(kind, name) is None:
            counts.setdefault(name, Counter())[work.kind] += 1
    return [plain(f"{_count_words(counts[name])} of {name} {_wait_words(counts[name])}") for name in sorted(counts)]


def _count_words(counts: Counter[str]) -> str:
    return " and ".join(f"{counts[kind]} {kind}{'s'[: counts[kind] != 1]}" for kind in _QUEUED if counts[kind])


def _wait_words(counts: Counter[str]) -> str:
    return "waits for its notebook" if counts.total() == 1 else "wait for their notebook"


# -- as text -----------------------------------------------------------------------------------------------------------


def as_text(engine: Engine, view: UnfinishedView) -> str:
    """Return all of it as plain text."""
    lines = []
    if view.runs:
        now = engine.clock.now()
        lines += [_headline(view)]
        lines += [f"  {each.run_id}  {each.name}  {_run_words(each, now)}" for each in view.runs]
        lines += _advice(engine, view)
    return "\n".join([*lines, *(f"ironflow: {line}" for line in _lines(view))])


def as_html(engine: Engine, view: UnfinishedView) -> str:
    """Return all of it as HTML that sanitisers leave unchanged."""
    lines = "".join(f"<div>{escape(f'ironflow: {line}')}</div>" for line in _lines(view))
    if not view.runs:
        return lines
    now = engine.clock.now()
    rows = "".join(
        f"<tr><td><code>{escape(each.run_id)}</code></td><td><b>{escape(each.name)}</b></td>"
        f"<td>{escape(_run_words(each, now))}</td></tr>"
        for each in view.runs
    )
    advised = "".join(f"<div>{escape(line)}</div>" for line in _advice(engine, view))
    return f"<div><b>{escape(_headline(view))}</b><table>{rows}</table>{advised}</div>{lines}"


def _lines(view: UnfinishedView) -> list[str]:
    """Return the open questions, and what else waits."""
    asked = [each.text for each in view.questions]
    if view.n_more_questions:
        asked.append(f"%ironflow waiting lists all {view.n_more_questions + len(asked)} questions")
    return [*asked, *view.notes]


def _headline(view: UnfinishedView) -> str:
    n_all = sum(each.status not in CLOSED for each in view.runs) + view.n_more
    more = f", of which the newest {len(view.runs)} are" if view.n_more else ""
    return f"ironflow: {n_all} unfinished {'run' if n_all == 1 else 'runs'}{more}"


def _run_words(each: UnfinishedRun, now: int) -> str:
    foreign = "" if each.is_own else f", {FOREIGN}"
    status = f"{each.status.value} {spoken(max(now - each.active_at, 0) / 1e6)} ago"
    if each.kind == KIND:
        return f"a cell, {status}{foreign}"
    steps = "1 finished step is safe" if each.n_safe == 1 else f"{each.n_safe} finished steps are safe"
    work = f" ({spoken(each.safe_s)} of work)" if each.n_safe else ""
    error = f": {each.error}" if each.error else ""
    return f"{status}, {steps}{work}{foreign}{error}"


def _advice(engine: Engine, view: UnfinishedView) -> list[str]:
    own = [each for each in view.runs if each.is_own and each.status in _WANTED]
    if not any(each.is_own for each in view.runs):
        return [f"Nothing of them is executed; {advice(engine.journal.location)}."]
    if not own:
        return []
    first = own[0]
    if first.kind == KIND:
        return [f"Run the cell {first.name} again; the cells before it are restored."]
    undefined = [f"Not defined here yet: {', '.join(view.undefined)}."] if view.undefined else []
    again = f"Run the cells that define {first.name} and call it again: it continues."
    return [*undefined, f"{again} Or continue it in the background: %ironflow resume {first.run_id[:6]}"]
