"""Which rows a selection of the memory journal has."""

from __future__ import annotations

from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.journal.ports import Select


def fits_run(row: RunRow, select: Select) -> bool:
    """Return True if the run is one of the selected."""
    return (
        fits_ids(row.run_id, select)
        and select.kind in {None, row.kind}
        and fits_name(row.name, select.name, select)
        and (select.statuses is None or row.status in select.statuses)
        and row.started_at >= (select.since or 0)
    )


def fits_step(row: StepRow, select: Select) -> bool:
    """Return True if the step is one of the selected, in a run that is."""
    has_status = select.step_statuses is None or row.status in select.step_statuses
    return has_status and row.started_at >= (select.since or 0) and fits_name(row.name, select.name, select)


def fits_ids(run_id: str, select: Select) -> bool:
    """Return True if the selection has runs of that id."""
    listed = select.run_ids is None or run_id in select.run_ids
    return listed and run_id not in select.without and run_id.startswith(select.run_prefix or "")


def fits_name(name: str, wanted: str | None, select: Select) -> bool:
    """Return True if the name is the wanted one, or ends with it."""
    return wanted is None or name == wanted or (not select.is_full_name and name.endswith(f".{wanted}"))
