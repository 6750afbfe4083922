"""The comparison of runs: their arguments, the code of their steps, outputs, durations, and which steps ran."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from html import escape
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import pandas as pd
from msgspec.structs import replace

from ironflow_nb.code_identity.code_parts import diff
from ironflow_nb.core.identity import Digest, RunId, StepRef, ValueId, parse_step_ref
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import RunKind, RunStatus, derived_step_status
from ironflow_nb.errors import IronflowError, StepNotFound, ValueUnreadable
from ironflow_nb.execution import REGISTRY, Engine, changes_since, parts_of
from ironflow_nb.handles.run import Run
from ironflow_nb.handles.run_picture import picture_of
from ironflow_nb.history.lookup import resolve_run, resolve_step
from ironflow_nb.history.pictured_frame import WholeTextFrame
from ironflow_nb.history.recorded_values import (
    CONTENT_LIMIT,
    fields_of_call,
    find_arguments,
    preview,
    preview_argument,
    read_value,
)
from ironflow_nb.history.run_status import statuses_of
from ironflow_nb.history.step_pairs import step_pairs, steps_that_count
from ironflow_nb.history.tables import TEXT, frame_of_records
from ironflow_nb.history.value_differences import differences
from ironflow_nb.journal.ports import Reader, Select
from ironflow_nb.values.tagged import untag

COLUMNS: Final = {
    "what": TEXT, "name": TEXT, "change": TEXT, "a": TEXT, "b": TEXT, "difference": TEXT,
    "duration_a_s": "float64", "duration_b_s": "float64",
}  # fmt: skip
_ARGUMENT, _STEP, _RESULT = "argument", "step", "result"
_MATRIX: Final = {"what": TEXT, "name": TEXT, "change": TEXT}
_N_READ: Final = 200
"""The number of values that are read to describe their differences; others are only shown as different."""
_N_IN_CELL: Final = 3
_TEXT_OPTIONS: Final = ("display.max_columns", None, "display.width", 160, "display.max_colwidth", 40)

_ComparedParts: TypeAlias = "Mapping[tuple[str, str], _ComparedPart]"


class _ComparedPart(NamedTuple):
    """The part of one run in one row. Two are equal if all their `parts` are; `read` returns the whole value."""

    shown: str | None
    parts: Mapping[str, object]
    read: Callable[[], object] | None = None
    duration_s: float | None = None


class Comparison(WholeTextFrame):
    """The rows of two or more runs side by side; `changed` are those that differ.

    `headline` sums them up. What is derived from it is a plain DataFrame.
    """

    _metadata = ["headline", "run_ids", "engine", "steps"]  # noqa: RUF012 -- how pandas lets a subclass have attributes
    headline: str = ""
    run_ids: tuple[RunId, ...] = ()
    engine: Engine
    steps: Sequence[Mapping[StepRef, StepRow]] = ()
    """The steps of each run by their names in the rows."""

    @property
    def changed(self) -> pd.DataFrame:
        """The rows that differ between the runs; none if all is equal."""
        return pd.DataFrame(self)[self["change"] != ""]

    def code(self, step: object) -> str:
        """Return the unified diff of the code of a step between the first two runs; empty if it is equal.

        Raises:
            StepNotFound, AmbiguousStep: it names no step that both runs have, or several.
        """
        with self.engine.reading() as reader:
            a, b = (_code_of(reader, row) for row in self._pair(step))
            changes = changes_since(reader.definition, a, parts_of(reader.definition, b)) if a and b else ()
            return plain("\n".join(map(diff, changes)))

    def differences(self, step: object = None) -> pd.DataFrame:
        """Return where the outputs of a step differ between the first two runs, by default the results of the runs.

        Columns: path (into the value: ``['pages'][3].title``, empty for the whole), difference. One row a place, in
        the order of the first value, at most 1,000.

        Raises:
            StepNotFound, AmbiguousStep: it names no step that both runs have, or several; or one has no output.
            ValueUnreadable: an output can't be read here.
        """
        runs = [Run[Any](self.engine, run_id) for run_id in self.run_ids[:2]]
        pair = (None, None) if step is None else self._pair(step)
        a, b = (run.result() if row is None else run.value(row.step) for run, row in zip(runs, pair, strict=True))
        found = [{"path": each.path, "difference": each.words} for each in differences(a, b)]
        return WholeTextFrame(frame_of_records({"path": TEXT, "difference": TEXT}, found))

    def _pair(self, step: object) -> list[StepRow]:
        """Return the step in each of the first two runs, by its name in the rows."""
        named = [row for steps in self.steps[:2] for row in _renamed(steps)]
        ref = resolve_step(named, step, f"{self.run_ids[0]} compared with {self.run_ids[1]}")
        for run_id, steps in zip(self.run_ids[:2], self.steps[:2], strict=True):
            if ref not in steps:
                raise StepNotFound(f"run {run_id} has no step that stands for {ref}", run_id=run_id, step=ref)
        return [steps[ref] for steps in self.steps[:2]]

    def __repr__(self) -> str:
        with pd.option_context(*_TEXT_OPTIONS):
            return f"{self.headline}\n{self._shown()!r}" if len(self.changed) else self.headline

    def _repr_html_(self) -> str | None:
        pictures = [picture_of(self.engine, run_id).html for run_id in self.run_ids[:2]]
        drawn = "".join(f'<div style="min-width: 0">{each}</div>' for each in pictures if each is not None)
        side_by_side = f'<div style="display: flex; gap: 1em; overflow-x: auto">{drawn}</div>'
        return f"<div><b>{escape(self.headline)}</b>{side_by_side}{self._shown()._repr_html_()}</div>"

    def _shown(self) -> WholeTextFrame:
        changed = self.changed
        return WholeTextFrame(changed.fillna({name: "" for name in changed if changed[name].dtype == TEXT}))


def compare(a: Run[Any] | str, b: Run[Any] | str, *more: Run[Any] | str, engine: Engine | None = None) -> Comparison:
    """Return two or more runs of one flow or graph side by side: arguments, steps, result; it displays what differs.

    A step is compared with the step of the same name and number; one of a call that was made in the place of another
    one, after an edit, has the number of that. Where both runs made the same calls of a step, equal ones are compared.
    In a completed run only what it used last counts. Equal contents are equal, whichever process stored them; of two
    outputs that differ, `difference` says where: rows and columns of frames, elements of arrays, paths into nested
    values.

    Columns for two runs: what (``argument``, ``step`` or ``result``), name (of a step its reference in the first run
    that has it), change (empty if equal; else of ``code``, ``by hand`` for a result that only one of them was given,
    ``arguments``, ``value``, ``status``, ``only in a``, ``only in b``), a, b (previews), difference, duration_a_s,
    duration_b_s (of the latest attempts, in seconds). Columns for more runs: what, name, change, and one column of
    previews a run, named by its id. One row an argument, then one a step by first start, those of the first run first,
    then the result.

    Args:
        a: a run, its id or a prefix of that.
        b: another one.
        more: further ones.
        engine: the journal to read; by default the current one.

    Raises:
        RunNotFound, AmbiguousRun: an id names no run, or several.
        ValueError: the runs are not of one flow or graph, or one is of a decider.
    """
    engine = engine or REGISTRY.engine()
    with engine.reading() as reader:
        rows = [resolve_run(reader, each.id if isinstance(each, Run) else each) for each in (a, b, *more)]
        _refuse_others(rows)
        runs = {row.run_id: _ComparedRun(engine, reader, row) for row in rows}
        named = _named_steps(runs.values())
        entries = {run_id: run.all(named[run_id]) for run_id, run in runs.items()}
        if more:
            columns, records = _MATRIX | dict.fromkeys(runs, TEXT), list(_matrix_rows(entries))
        else:
            columns, records = COLUMNS, list(_pair_rows(entries[rows[0].run_id], entries[rows[1].run_id]))
    steps = [each for each in records if each["what"] == _STEP]
    n_changed = sum(each["change"] != "" for each in steps)
    found = f"{n_changed} of {len(steps)} steps differ" if n_changed else "all steps are equal"
    headline = f"{rows[0].name}, {' and '.join(map(_run_words, runs.values()))}: {found}"
    made = Comparison(frame_of_records(columns, records))
    made.headline, made.run_ids, made.engine = plain(headline), tuple(row.run_id for row in rows), engine
    made.steps = [named[row.run_id] for row in rows]
    return made


def _refuse_others(rows: Sequence[RunRow]) -> None:
    first = rows[0]
    for row in rows:
        if row.kind == RunKind.DECIDER:
            raise ValueError(
                f"run {row.run_id} is of decider {row.name}, which has states and no steps: compare "
                f"{row.name}.state(id, at=...) of two moments"
            )
        if (row.kind, row.name) != (first.kind, first.name):
            raise ValueError(
                f"run {first.run_id} is of {first.kind} {first.name} and run {row.run_id} of {row.kind} {row.name}: "
                "runs of one flow or graph can be compared; iron.runs(name) lists them"
            )


def _named_steps(runs: Iterable[_ComparedRun]) -> dict[RunId, dict[StepRef, StepRow]]:
    """Return the steps of each run by the names that those have which stand for each other."""
    named: dict[RunId, dict[StepRef, StepRow]] = {}
    known: dict[StepRef, StepRow] = {}
    numbers: dict[StepRef, int] = {}
    for run in runs:
        pairs = step_pairs(_renamed(known), run.steps, numbers, run.numbers)
        for step in (row.step for row in run.steps if row.step not in pairs):
            pairs[step] = step if step not in known else StepRef(f"{step} of {run.row.run_id}")
        named[run.row.run_id] = mine = {pairs[row.step]: row for row in run.steps}
        known = mine | known
        numbers = {name: run.numbers[row.step] for name, row in mine.items() if row.step in run.numbers} | numbers
    return named


def _renamed(named: Mapping[StepRef, StepRow]) -> list[StepRow]:
    numbers = ((name, row, parse_step_ref(name)[1]) for name, row in named.items())
    return [replace(row, step=name, index=row.index if index is None else index) for name, row, index in numbers]


def _code_of(reader: Reader, row: StepRow) -> Digest:
    """Return the code of the latest attempt of the step that has any: a result that is given by hand has none."""
    attempts = reader.steps(Select(run_ids=[row.run_id], name=row.name, is_full_name=True))
    return next((each.code for each in reversed(attempts) if each.step == row.step and each.code), row.code)


class _ComparedRun:
    """What a run has in the rows of a comparison, by what it is and its name."""

    def __init__(self, engine: Engine, reader: Reader, row: RunRow) -> None:
        self._engine = engine
        self._reader = reader
        self.row = row
        self.status = statuses_of(engine, reader, [row])[row.run_id]
        self.steps, self.numbers = steps_that_count(reader, row, self.status)
        rows: list[RunRow | StepRow] = [row, *self.steps]
        ids = {each for row in rows for each in (row.output_id, row.error_id) if each is not None}
        self._values = reader.values(ids, of=[row.row_key for row in rows], content_limit=CONTENT_LIMIT)

    def all(self, named: Mapping[StepRef, StepRow]) -> dict[tuple[str, str], _ComparedPart]:
        """Return the entries: arguments in the order of the call, steps by first start, the result."""
        found = {(_ARGUMENT, name): entry for name, entry in self._arguments()}
        for name, step in named.items():
            entry = self._output(step, derived_step_status(step.status, self.status).value, step.duration_s)
            parts = {"code": step.code, "by hand": not step.code, "arguments": step.identity, **entry.parts}
            found[_STEP, str(name)] = entry._replace(parts=parts)
        took_s = None if self.row.ended_at is None else (self.row.ended_at - self.row.started_at) / 1e6
        found[_RESULT, ""] = self._output(self.row, self.status.value, took_s)
        return found

    def _output(self, row: RunRow | StepRow, status: str, duration_s: float | None) -> _ComparedPart:
        value_id = row.output_id if row.output_id is not None else row.error_id
        stored = None if value_id is None else self._values.get(value_id)
        shown = preview(stored)
        if status != RunStatus.COMPLETED.value:
            shown = status if shown is None else f"{status}: {shown}"
        read = None if row.output_id is None else partial(self._read, row.output_id, row)
        return _ComparedPart(shown, {"status": status, "value": value_id}, read, duration_s)

    def _read(self, value_id: ValueId, row: RunRow | StepRow) -> object:
        stored = self._reader.values([value_id], of=[row.row_key]).get(value_id)
        if stored is None:
            raise ValueUnreadable("it is missing in the journal")
        return read_value(self._engine, stored)

    def _arguments(self) -> Iterator[tuple[str, _ComparedPart]]:
        recorded = find_arguments(self._engine, self.row)
        fields = None if recorded is None else fields_of_call(recorded.record, self.row.kind)
        if recorded is None or fields is None:
            return
        values = {stored.value_id: stored for stored in recorded.values.values() if stored is not None}
        for name, tree in fields.items():
            read = partial(recorded.read, self._engine, name) if name in recorded.names() else partial(untag, tree)
            yield name, _ComparedPart(preview_argument(tree, values), {"value": msgspec.json.encode(tree)}, read)


def _pair_rows(a: _ComparedParts, b: _ComparedParts) -> Iterator[dict[str, Any]]:
    n_read = 0
    for what, name in _in_order(a, b):
        one, other = a.get((what, name)), b.get((what, name))
        change, difference = _change([one, other]), None
        if one is None or other is None:
            change = "only in b" if one is None else "only in a"
        elif "value" in change and one.read is not None and other.read is not None:
            n_read += 1
            difference = _described(one.read, other.read) if n_read <= _N_READ else None
            if difference == "":  # stored in another form, or with another id
                change, difference = change.removesuffix("value").removesuffix(", "), None
        yield {
            "what": what, "name": plain(name), "change": change, "difference": difference,
            "a": one and one.shown, "b": other and other.shown,
            "duration_a_s": one and one.duration_s, "duration_b_s": other and other.duration_s,
        }  # fmt: skip


def _matrix_rows(runs: Mapping[RunId, _ComparedParts]) -> Iterator[dict[str, Any]]:
    for what, name in _in_order(*runs.values()):
        found = {run_id: entries.get((what, name)) for run_id, entries in runs.items()}
        change = "not in all" if None in found.values() else _change(list(found.values()))
        shown = {run_id: None if entry is None else entry.shown for run_id, entry in found.items()}
        yield {"what": what, "name": plain(name), "change": change} | shown


def _in_order(*runs: _ComparedParts) -> list[tuple[str, str]]:
    """Return what is compared: the arguments, the steps, the result; in each those of the first run first."""
    keys = dict.fromkeys(key for entries in runs for key in entries)
    return sorted(keys, key=lambda key: (_ARGUMENT, _STEP, _RESULT).index(key[0]))


def _change(entries: Sequence[_ComparedPart | None]) -> str:
    """Return the parts in which the entries differ, in words."""
    parts = [entry.parts for entry in entries if entry is not None]
    differing = (name for name in parts[0] if len({each.get(name) for each in parts if each.get(name) != b""}) > 1)
    return ", ".join(differing)


def _described(read_a: Callable[[], object], read_b: Callable[[], object]) -> str:
    """Return the first differences of two values; empty if they are equal."""
    try:
        found = differences(read_a(), read_b(), most=_N_IN_CELL + 1)
    except IronflowError as error:
        return f"can't be read here: {error}"
    return plain("; ".join([*map(str, found[:_N_IN_CELL]), *(["..."] if len(found) > _N_IN_CELL else [])]))


def _run_words(run: _ComparedRun) -> str:
    origin = "" if run.row.origin_run_id is None else f", from {run.row.origin_run_id}"
    return f"{run.row.run_id} ({run.status.value}{origin})"
