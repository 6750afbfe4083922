"""The details of a node: what its steps were given, what they returned, and how they failed."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ironflow_nb.core.identity import RunId, ValueId
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.core.status import FAILURES, RunStatus, StepStatus, derived_step_status
from ironflow_nb.execution import REGISTRY, Engine
from ironflow_nb.handles.run_edits import is_editable
from ironflow_nb.handles.run_picture import placed
from ironflow_nb.handles.run_progress import definitions_of, sites_of
from ironflow_nb.history.log_tail import log_tail
from ironflow_nb.history.recorded_values import CONTENT_LIMIT, call_preview, fields_of_call, preview, references
from ironflow_nb.history.run_status import statuses_of
from ironflow_nb.journal.ports import Reader, Select
from ironflow_nb.values.stored_value import StoredValue
from ironflow_nb.views.item_strip import item_strip
from ironflow_nb.views.node_view import NodeDetails, StepView
from ironflow_nb.views.run_view import NodeView

_SHOWN: Final = 20
_FIRST: Final = FAILURES | {StepStatus.UNKNOWN, StepStatus.RUNNING, StepStatus.RETRYING, StepStatus.WAITING}


def details_of(engine: Engine, run_id: RunId, shown: NodeView, items: tuple[int, int] | None = None) -> NodeDetails:
    """Return the details of a node of the run's view, read in one transaction.

    With `items`, a number and how many from there on, the steps of these numbers are listed.
    """
    node = shown.node
    details = NodeDetails(node_id=node.id, label=plain(node.label), title=plain(node.title))
    if node.step is None:
        return details
    with engine.reading() as reader:
        found = reader.runs(Select(run_ids=[run_id]))
        if not found:
            return details
        run = found[0]
        status = statuses_of(engine, reader, [run])[run_id]
        rows, sites = reader.steps(Select(run_ids=[run_id], is_latest=True)), sites_of(reader, run)
        places = {(row.name, sites.get(row.step, "")) for row in rows}
        _, key_of = placed(run, definitions_of(engine, reader, run, places), places)
        of_node = [row for row in rows if key_of[row.name, sites.get(row.step, "")] == node.step]
        chosen = _chosen(of_node, items)
        steps = _step_views(reader, chosen, run.kind, status)
        log = log_tail(reader, run_id, {row.step for row in chosen})
    n_total = len(of_node) if shown.state is None else shown.state.n_total
    source = _source({row.name for row in of_node})
    return NodeDetails(
        node_id=details.node_id, label=details.label, title=details.title, n_steps=len(of_node), steps=steps,
        source=source, log=log, strip=item_strip(of_node, n_total, status, run.session_version),
    )  # fmt: skip


def _chosen(rows: Sequence[StepRow], items: tuple[int, int] | None) -> list[StepRow]:
    """Return the steps to list: what failed or is at work, and then the newest."""
    if items is not None:
        rows = [row for row in rows if items[0] <= row.index < items[0] + items[1]]
    return sorted(rows, key=lambda row: (row.status not in _FIRST, -row.version))[:_SHOWN]


def _step_views(reader: Reader, rows: Sequence[StepRow], kind: str, status: RunStatus) -> tuple[StepView, ...]:
    ids = {each for row in rows for each in (row.output_id, row.error_id, row.inputs_id) if each is not None}
    values = reader.values(ids, of=[row.row_key for row in rows], content_limit=CONTENT_LIMIT)
    calls = {row.step: _call(values, row.inputs_id, kind) for row in rows}
    values |= reader.values({each for call in calls.values() for each in references(call)}, content_limit=CONTENT_LIMIT)
    return tuple(
        StepView(
            step=plain(row.step), status=str(derived_step_status(row.status, status)), attempt=row.attempt,
            started_at=row.started_at, duration_s=row.duration_s, reason=plain(row.reason),
            inputs=call_preview(calls[row.step], values), output=_preview(values, row.output_id),
            error=_preview(values, row.error_id), child_run_id=row.child_run_id,
            can_edit=is_editable(row, status),
        )
        for row in rows
    )  # fmt: skip


def _call(values: Mapping[ValueId, StoredValue], inputs_id: ValueId | None, kind: str) -> Mapping[str, object]:
    record = None if inputs_id is None else values.get(inputs_id)
    return (None if record is None else fields_of_call(record, kind)) or {}


def _preview(values: Mapping[ValueId, StoredValue], value_id: ValueId | None) -> str | None:
    return None if value_id is None else preview(values.get(value_id))


def _source(names: Iterable[str]) -> str:
    """Return the source of the steps of these names, as they are defined in this process."""
    found = []
    for name in sorted(names):
        spec = REGISTRY.step(name)
        if spec is None:
            continue
        try:
            found.append(inspect.getsource(spec.function))
        except (OSError, TypeError):  # it was not written in a file or a cell
            continue
    return "\n\n".join(found)
