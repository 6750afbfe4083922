"""Reading the arguments that were recorded of a run."""

from __future__ import annotations

from typing import Any

from ironflow_nb.core.ids import ValueId
from ironflow_nb.core.rows import RunRow
from ironflow_nb.errors import InputsNotStored
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.parameters import CLOSURE
from ironflow_nb.values.store import input_references
from ironflow_nb.values.tagged import untag


def recorded_arguments(engine: Engine, run: RunRow) -> dict[str, Any]:
    """Return the arguments of the run by name.

    Raises:
        InputsNotStored: some were too large to be stored, or nothing stores them.
        ValueUnreadable: some can't be decoded here.
    """
    record = None if run.inputs_id is None else engine.ledger.value(run.inputs_id)
    if record is None or record.content is None:
        raise _lost("the arguments", run)
    here, elsewhere, gone = input_references(record)
    # What the function closes over it has by itself.
    gone = [name for name in gone if not name.startswith(CLOSURE)]
    if gone:
        raise InputsNotStored(
            f"the arguments {', '.join(gone)} of run {run.run_id} were not stored, because they are larger than 1 MB "
            f"or can't be pickled; continue the run by calling {run.name} again with them",
            run_id=run.run_id,
            arguments=gone,
        )
    found = {name: untag(tree) for name, tree in here.items() if not name.startswith(CLOSURE)}
    ids = {name: ValueId(bytes.fromhex(text)) for name, text in elsewhere.items() if not name.startswith(CLOSURE)}
    with engine.ledger.current() as reader:
        values = reader.values(list(ids.values()))
    missing = [name for name, value_id in ids.items() if value_id not in values or values[value_id].content is None]
    if missing:
        raise _lost(f"the arguments {', '.join(missing)}", run)
    return found | {name: engine.ledger.values.decode(values[value_id]) for name, value_id in ids.items()}


def _lost(what: str, run: RunRow) -> InputsNotStored:
    return InputsNotStored(
        f"{what} of run {run.run_id} are missing in the journal or damaged; continue the run by calling {run.name} "
        "again with them",
        run_id=run.run_id,
    )
