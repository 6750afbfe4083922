"""Lookup of runs and steps: by reference, and by the filters of the frames; damaged runs are skipped."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from operator import index
from typing import Any, Final, TypeAlias, TypeVar

from msgspec.structs import replace

from ironflow_nb.core.durations import seconds
from ironflow_nb.core.identity import RunId, StepRef, parse_step_ref, run_id_prefix
from ironflow_nb.core.option_values import a_text
from ironflow_nb.core.plain_text import plain, short_repr
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import RunKind
from ironflow_nb.errors import AmbiguousRun, AmbiguousStep, JournalCorrupt, RunNotFound, StepNotFound
from ironflow_nb.execution import Engine, logger
from ironflow_nb.journal.ports import EventColumns, Reader, Select, StepTally

_LISTED: Final = 8
_NEWEST: Final = 100
"""The runs whose steps are looked through for a name."""


def resolve_run(reader: Reader, text: str) -> RunRow:
    """Return the run with this id, or with this prefix if no other run has it.

    Raises:
        RunNotFound: no run has it; the message lists the newest ones.
        AmbiguousRun: several runs have it; the message lists them.
    """
    prefix = run_id_prefix(text) if isinstance(text, str) else None
    found = [] if prefix is None else reader.runs(Select(run_prefix=prefix, limit=_LISTED + 1))
    if len(found) == 1:
        return found[0]
    if found:
        raise AmbiguousRun(
            f"several runs begin with {short_repr(text)}: {_run_list(found)}; give more characters", prefix=text
        )
    newest = reader.runs(Select(limit=3))
    known = f"the newest are {_run_list(newest)}" if newest else "the journal has no runs"
    raise RunNotFound(f"no run begins with {short_repr(text)}; {known}", prefix=text)


def _run_list(runs: list[RunRow]) -> str:
    shown = plain(", ".join(f"{run.run_id} ({run.name})" for run in runs[:_LISTED]))
    return f"{shown}, ..." if len(runs) > _LISTED else shown


def resolve_step(rows: Iterable[StepRow], reference: object, run_id: str) -> StepRef:
    """Return the step of a run by function, by name if only one step has it, or by reference such as ``fetch[12]``.

    Raises:
        StepNotFound: no step fits; the message lists the steps of the run.
        AmbiguousStep: several steps fit; the message lists them.
        TypeError: `reference` is not a function, a name or a reference.
    """
    text = reference if isinstance(reference, str) else getattr(reference, "name", None)
    if not isinstance(text, str):
        raise TypeError(f'a step is named by its function, "fetch" or "fetch[12]", not by {short_repr(reference)}')
    name, index = parse_step_ref(text)
    refs = {row.step: row for row in rows}
    # A full name takes precedence over the last part of one.
    is_exact = any(row.name == name for row in refs.values())
    fits = [
        ref
        for ref, row in refs.items()
        if (row.name == name or (not is_exact and row.name.endswith(f".{name}"))) and index in {None, row.index}
    ]
    if len(fits) == 1:
        return fits[0]
    if fits:
        shown = plain(", ".join(sorted(fits, key=lambda ref: refs[ref].index)[:_LISTED]))
        raise AmbiguousStep(
            f"run {run_id} has {len(fits)} steps {short_repr(text)}: {shown}{', ...' if len(fits) > _LISTED else ''}; "
            "name one",
            run_id=run_id,
            step=text,
        )
    names = plain(", ".join(sorted({row.name for row in refs.values()})[:_LISTED])) or "none yet"
    raise StepNotFound(f"run {run_id} has no step {short_repr(text)}; its steps are: {names}", run_id=run_id, step=text)


def resolve_steps(rows: list[StepRow], step: object, run_id: str) -> list[StepRef]:
    """Return the steps of that function or name by index; a full name takes precedence over the last part of one.

    Raises:
        StepNotFound: it names no step of the run.
        AmbiguousStep: it names steps of several functions.
        TypeError: `step` is not a function or a name.
    """
    name = step if isinstance(step, str) else getattr(step, "name", None)
    known = {row.name for row in rows}
    names = sorted(other for other in known if other == name or (name not in known and other.endswith(f".{name}")))
    if not names:
        return [resolve_step(rows, step, run_id)]  # "fetch[12]" is one step; other texts raise StepNotFound
    if len(names) > 1:
        listed = plain(", ".join(names))
        raise AmbiguousStep(
            f"run {run_id} has steps of several {name!r}: {listed}; name one", run_id=run_id, step=str(name)
        )
    refs = {row.step: row.index for row in rows if row.name == names[0]}
    return sorted(refs, key=refs.__getitem__)


When: TypeAlias = datetime | timedelta | str | float | None
MOST_ROWS: Final = 2**63 - 1
"""The largest integer of SQLite."""
_HAVING_RUNS: Final = frozenset({RunKind.FLOW, RunKind.GRAPH, RunKind.DECIDER})

S = TypeVar("S", bound=StrEnum)


def selection_of(
    engine: Engine,
    reader: Reader,
    *,
    flow: object | None,
    run: str | None,
    since: When,
    limit: int | None = None,
    after: Any = None,
) -> Select:
    """Return the selection for the filters of the frames. A text matches flows by the last part of their name, too.

    Raises:
        RunNotFound, AmbiguousRun: `run` names no run, or several.
        TypeError, ValueError: an argument is invalid.
    """
    if isinstance(flow, str):
        _refuse_step(reader, flow)
    return Select(
        run_name=None if flow is None else _flow_name(flow),
        is_full_name=not isinstance(flow, str),
        run_ids=None if run is None else [resolve_run(reader, getattr(run, "id", run)).run_id],
        since=instant_us(since, engine.clock.now()),
        limit=row_limit(limit),
        older_than=None if after is None else resolve_run(reader, getattr(after, "id", after)).run_id,
    )


def row_limit(limit: int | None, option: str = "limit") -> int | None:
    """Return the limit, or another number of rows, as an int, at most `MOST_ROWS`.

    Raises:
        ValueError: it is not an int >= 0.
    """
    try:
        found = None if limit is None else index(limit)
    except TypeError:
        found = -1
    if found is not None and found < 0:
        raise ValueError(f"{option} must be an int >= 0, got {short_repr(limit)}")
    return None if found is None else min(found, MOST_ROWS)


def _flow_name(flow: object) -> str:
    if isinstance(flow, str):
        return a_text("flow", flow)
    style, name = (getattr(flow, each, None) for each in ("__ironflow_definition__", "name"))
    if style in _HAVING_RUNS and isinstance(name, str):
        return name
    is_step = style == "step"
    hint = f"; its attempts are the rows of iron.attempts() whose `name` is {name!r}" if is_step else ""
    raise TypeError(f"flow must be a flow, a graph, a decider or the name of one, got {short_repr(flow)}{hint}")


def _refuse_step(reader: Reader, text: str) -> None:
    """Refuse the name of a step in place of a flow's: nothing would be found, and nothing said.

    Raises:
        ValueError: no run has that name, and steps have it.
    """
    if reader.runs(Select(name=a_text("flow", text), limit=1)):
        return
    newest = [run.run_id for run in reader.runs(Select(limit=_NEWEST))]
    names = {tally.name for tallies in reader.tallies(newest).values() for tally in tallies}
    known = next((name for name in sorted(names) if name == text or name.endswith(f".{text}")), None)
    if known is not None:
        raise ValueError(
            f"flow={short_repr(text)} is the name of a step, and no run has it; its attempts are the rows of "
            "iron.attempts() "
            f"whose `name` is {known!r}"
        )


def instant_us(since: When, now: int) -> int | None:
    """Return the instant in microseconds UTC; a naive datetime is local time, a duration counts back from now."""
    if since is None:
        return None
    if isinstance(since, str):
        with suppress(ValueError):
            since = datetime.fromisoformat(since)
    if isinstance(since, datetime):
        return round(since.astimezone(UTC).timestamp() * 1e6)
    before_s = seconds(since)
    return now - round(before_s * 1e6) if before_s * 1e6 < now else None


def parse_statuses(kind: type[S], given: str | Collection[str] | None) -> frozenset[S] | None:
    """Return the given statuses as enum members, or None, which selects all.

    Raises:
        ValueError: a text is not a status.
    """
    if given is None:
        return None
    texts = [given] if isinstance(given, str) else list(given)
    try:
        return frozenset(kind(text) for text in texts)
    except ValueError:
        raise ValueError(f"status must be one of {', '.join(kind)}, got {', '.join(map(short_repr, texts))}") from None


T = TypeVar("T")

_ADVICE: Final = "iron.doctor() checks the whole journal"


def skip_damaged(ask: Callable[[Select], T], select: Select) -> T:
    """Return the answer to the selection without runs that have damaged rows; a warning names each of them.

    All damaged runs of an answer are left out of the next one, so without a limit two are enough.

    Raises:
        JournalCorrupt: the selection is one run, and this run has damaged rows.
    """
    is_one_run = select.run_prefix is not None or (select.run_ids is not None and len(select.run_ids) == 1)
    without = list(select.without)
    while True:
        try:
            return ask(replace(select, without=without))
        except JournalCorrupt as error:
            damaged = error.damaged or {}
            if is_one_run or damaged.keys() <= {*without}:
                raise
            for message in damaged.values():
                logger().warning("%s; it is left out here; %s", message, _ADVICE)
            without += damaged


def undamaged_tallies(reader: Reader, run_ids: Collection[RunId]) -> dict[RunId, list[StepTally]]:
    """Return the tallies by run, without runs that have damaged rows."""
    return skip_damaged(lambda select: reader.tallies(set(run_ids) - set(select.without)), Select())


def warn_of_damaged_events(piece: EventColumns) -> EventColumns:
    """Return the events, after a warning for each one whose data is damaged and left out."""
    for n, data in enumerate(piece.data):
        if data is None:
            what = "event %s of run %s (%s, %s) has data that the package never wrote; it is shown without them; %s"
            place = piece.version[n], piece.run_id[n], piece.type[n], piece.step[n] or "of the run"
            logger().warning(what, *place, _ADVICE)
    return piece
