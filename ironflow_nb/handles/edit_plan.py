"""The plan of a continuation with results that are given by hand: what would run again because of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ironflow_nb.core.dependents import FinishedCall, dependents
from ironflow_nb.core.identity import StepRef
from ironflow_nb.core.plan import Action, Planned
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import RunStatus
from ironflow_nb.execution import REGISTRY, Engine
from ironflow_nb.handles.run_edits import editable_step
from ironflow_nb.history.recorded_values import CONTENT_LIMIT, preview
from ironflow_nb.journal.ports import Reader
from ironflow_nb.values.codecs import JSON, input_references
from ironflow_nb.values.stored_value import INLINE_LIMIT, StoredValue

_DECODER: Final = msgspec.json.Decoder()
_USED: Final = frozenset({Action.REUSE, Action.REPLAY})


def planned_with(
    engine: Engine, reader: Reader, run: RunRow, status: RunStatus, planned: Sequence[Planned], given: Mapping[Any, Any]
) -> list[Planned]:
    """Return the plan if these steps had these results; nothing is recorded.

    Raises:
        StepNotFound, AmbiguousStep, NothingToDo, ValueNotStorable: as when they are given.
    """
    new = {}
    for step, value in given.items():
        row = editable_step(reader, run, status, step)
        new[row.step] = row, engine.codecs.store(value)[0]
    edited = {step for step, (row, stored) in new.items() if row.output_id != stored.value_id}
    uses = dependents(_calls(reader, [each.row for each in planned]), edited)
    words = {step: _words(reader, row, stored) for step, (row, stored) in new.items()}
    return [_replanned(each, words, uses) for each in planned]


def _words(reader: Reader, row: StepRow, stored: StoredValue) -> str:
    """Return in words the recorded result or failure of the step, and its result by hand."""
    old_id = row.output_id or row.error_id
    old = None if old_id is None else reader.values([old_id], of=[row.row_key], content_limit=CONTENT_LIMIT).get(old_id)
    before = row.status.value if old is None else preview(old)
    return f"given by hand: {before} -> {preview(stored)}"


def _replanned(each: Planned, given: Mapping[StepRef, str], uses: Mapping[StepRef, tuple[str, StepRef]]) -> Planned:
    if each.step in given:
        return replace(each, action=Action.REUSE, reason=given[each.step])
    spec = REGISTRY.step(each.row.name)
    is_once = spec is not None and spec.once
    if each.step in uses and each.action in _USED:
        name, other = uses[each.step]
        reason = f"its argument `{name}` has the result of {other}"
        if is_once:
            return replace(each, action=Action.ASK, reason=f"runs once; {reason}, so the run stops and asks")
        return replace(each, action=Action.REDO, reason=reason)
    if is_once and each.action is Action.REUSE:
        return replace(each, reason="runs once; it is not done again")
    return each


def _calls(reader: Reader, rows: Sequence[StepRow]) -> list[FinishedCall]:
    of = [row.row_key for row in rows]
    records = reader.values({row.inputs_id for row in rows if row.inputs_id}, of=of, content_limit=INLINE_LIMIT)
    outputs = reader.values({row.output_id for row in rows if row.output_id}, of=of, content_limit=CONTENT_LIMIT)
    calls = []
    for row in rows:
        record = None if row.inputs_id is None else records.get(row.inputs_id)
        has_record = record is not None and record.content is not None
        trees, ids, _ = input_references(record) if has_record and record is not None else ({}, {}, {})
        output = None if row.output_id is None else outputs.get(row.output_id)
        calls.append(FinishedCall(row.step, trees, ids, (row.output_id or b"").hex(), _tree(output)))
    return calls


def _tree(output: StoredValue | None) -> Any:
    """Return the output as a tree, as it stands in a record of arguments; None if it does not."""
    if output is None or output.content is None or output.codec != JSON:
        return None
    return _DECODER.decode(output.content)
