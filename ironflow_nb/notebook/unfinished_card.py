"""The card of unfinished runs, which is shown when the extension is loaded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import Final

from ironflow_nb.core.durations import spoken
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import OWNED, RunStatus, StepStatus
from ironflow_nb.durable_cells.cell import KIND
from ironflow_nb.errors import IronflowError
from ironflow_nb.execution import FOREIGN, REGISTRY, Engine, advice, logger, own_runs
from ironflow_nb.handles.open_questions import asked_now
from ironflow_nb.history.frames import count_steps
from ironflow_nb.history.run_status import statuses_of
from ironflow_nb.journal.ports import QueueSelect, Select

SHOWN: Final = 5
WITHIN_S: Final = 30 * 86400.0
_QUEUED: Final = ("effect", "timer", "schedule", "event")


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A run that can be continued."""

    run: RunRow
    status: RunStatus
    n_finished: int
    age_s: float
    is_own: bool = True


def show_unfinished() -> None:
    """Show the interrupted and waiting runs of the default journal, if there are any."""
    engine = REGISTRY.engine()
    try:
        found, queued = unfinished(engine), [*_questions(engine), *waiting_work(engine)]
    except IronflowError as error:
        logger().warning("%s", error)
        return
    if found:
        _display(as_text(found), as_html(found))
    if queued:
        lines = [f"ironflow: {line}" for line in queued]
        _display("\n".join(lines), "".join(f"<div>{escape(line)}</div>" for line in lines))


def _display(text: str, html: str) -> None:
    from IPython.display import display

    display({"text/plain": plain(text), "text/html": plain(html)}, raw=True)  # type: ignore[no-untyped-call]


def _questions(engine: Engine) -> list[str]:
    """Return a line for each of the newest open questions; reads only."""
    asked = asked_now(engine)
    lines = [f"{run.name} asks {each.question}: {each.expression}" for each, run, _ in asked[-SHOWN:]]
    return lines if len(asked) <= SHOWN else [*lines, f"%ironflow waiting lists all {len(asked)} questions"]


def waiting_work(engine: Engine) -> list[str]:
    """Return a line for each decider, flow or graph that is not defined here and has work; reads only.

    That are effects and timers, and schedules and events that start a run.
    """
    with engine.reading() as reader:
        pending = [work for work in reader.work(QueueSelect(is_dead=False)) if work.kind in _QUEUED]
        runs = {run.run_id: run for run in reader.runs(Select(run_ids={work.run_id for work in pending}))}
    counts: dict[str, Counter[str]] = {}
    for work in pending:
        run = runs.get(work.run_id)
        kind, _, name = work.key.partition(" ") if run is None else (run.kind, "", run.name)
        if REGISTRY.find(kind, name) is None:
            counts.setdefault(name, Counter())[work.kind] += 1
    return [f"{_count_words(counts[name])} of {name} {_wait_words(counts[name])}" for name in sorted(counts)]


def _count_words(counts: Counter[str]) -> str:
    return " and ".join(f"{counts[kind]} {kind}{'s'[: counts[kind] != 1]}" for kind in _QUEUED if counts[kind])


def _wait_words(counts: Counter[str]) -> str:
    return "waits for its notebook" if counts.total() == 1 else "wait for their notebook"


def unfinished(engine: Engine) -> list[Unfinished]:
    """Return the interrupted, waiting and pending runs of the last 30 days, newest first; reads only."""
    now = engine.clock.now()
    recorded = OWNED | {RunStatus.INTERRUPTED}
    with engine.reading() as reader:
        rows = reader.runs(Select(statuses=recorded, since=now - round(WITHIN_S * 1e6)))
        statuses = statuses_of(engine, reader, [row for row in rows if row.parent_run_id is None])
        wanted = {RunStatus.INTERRUPTED, RunStatus.WAITING, RunStatus.PENDING}
        rows = [row for row in rows if statuses.get(row.run_id) in wanted]
        tallies = reader.tallies([row.run_id for row in rows])
        own = own_runs(engine.signer, reader, rows)
        ages = {row.run_id: (now - (reader.head(row.run_id) or (0, row.updated_at))[1]) / 1e6 for row in rows}
    n_finished = {row.run_id: count_steps(tallies.get(row.run_id, ()), StepStatus.COMPLETED) for row in rows}
    return [
        Unfinished(row, statuses[row.run_id], n_finished[row.run_id], ages[row.run_id], row.run_id in own)
        for row in rows
    ]


def as_text(found: list[Unfinished]) -> str:
    """Return the card as plain text."""
    lines = [_headline(found)]
    lines += [f"  {item.run.run_id}  {item.run.name}  {_run_words(item)}" for item in found[:SHOWN]]
    return "\n".join([*lines, _advice(found)])


def as_html(found: list[Unfinished]) -> str:
    """Return the card as HTML that sanitisers leave unchanged."""
    rows = "".join(
        f"<tr><td><code>{escape(item.run.run_id)}</code></td><td><b>{escape(item.run.name)}</b></td>"
        f"<td>{escape(_run_words(item))}</td></tr>"
        for item in found[:SHOWN]
    )
    return f"<div><b>{escape(_headline(found))}</b><table>{rows}</table><div>{escape(_advice(found))}</div></div>"


def _headline(found: list[Unfinished]) -> str:
    more = f", of which the newest {SHOWN} are" if len(found) > SHOWN else ""
    return f"ironflow: {len(found)} unfinished {'run' if len(found) == 1 else 'runs'}{more}"


def _run_words(item: Unfinished) -> str:
    foreign = "" if item.is_own else f", {FOREIGN}"
    if item.run.kind == KIND:
        return f"a cell, {item.status.value} {spoken(max(item.age_s, 0))} ago{foreign}"
    steps = "1 finished step is safe" if item.n_finished == 1 else f"{item.n_finished} finished steps are safe"
    return f"{item.status.value} {spoken(max(item.age_s, 0))} ago, {steps}{foreign}"


def _advice(found: list[Unfinished]) -> str:
    own = [item.run for item in found if item.is_own]
    if not own:
        return f"Nothing of them is executed; {advice(REGISTRY.engine().journal.location)}."
    first = own[0]
    if first.kind == KIND:
        return f"Run the cell {first.name} again; the cells before it are restored."
    return (
        f"Run the cells that define {first.name} and call it again: it continues. "
        f"Or continue it in the background: %ironflow resume {first.run_id[:6]}"
    )
