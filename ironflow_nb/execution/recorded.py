"""Reading the arguments that were recorded of a run or of a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from ironflow_nb.core.ids import ValueId
from ironflow_nb.core.rows import RunRow
from ironflow_nb.errors import InputsNotStored, ValueUnreadable
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.parameters import CLOSURE
from ironflow_nb.values.records import Record
from ironflow_nb.values.store import input_references
from ironflow_nb.values.stored import StoredValue
from ironflow_nb.values.tagged import Tree, untag


def read_value(engine: Engine, stored: StoredValue) -> Any:
    """Return a stored value; a record as the values it refers to, by name, without what its owner notes beside them.

    Raises:
        ValueUnreadable: it, or something it refers to, can't be read here.
    """
    value = engine.ledger.values.decode(stored)
    if not isinstance(value, Record):
        return value
    ids = {name: value_id for name, value_id in value.ids().items() if name.isidentifier()}
    with engine.ledger.current() as reader:
        parts = reader.values(list(ids.values()))
    missing = [name for name, value_id in ids.items() if value_id not in parts]
    if missing:
        raise ValueUnreadable(f"{', '.join(missing)} of a record is missing in the journal; put that back from a copy")
    return {name: engine.ledger.values.decode(parts[value_id]) for name, value_id in ids.items()}


def recorded_arguments(engine: Engine, run: RunRow) -> dict[str, Any]:
    """Return the arguments of the run by name.

    Raises:
        InputsNotStored: some were too large to be stored, or nothing stores them.
        ValueUnreadable: some can't be decoded here.
    """
    found, gone = read_arguments(engine, run.inputs_id, lambda what: _lost(what, run))
    if gone:
        raise InputsNotStored(
            f"the arguments {', '.join(gone)} of run {run.run_id} were not stored, because they are larger than 1 MB "
            f"or can't be pickled; continue the run by calling {run.name} again with them",
            run_id=run.run_id,
            arguments=list(gone),
        )
    return found


def read_arguments(
    engine: Engine, inputs_id: ValueId | None, lost: Callable[[str], InputsNotStored]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the recorded arguments by name, and the classes of those that were not stored.

    Raises:
        InputsNotStored: some are missing in the journal; it is what `lost` makes of their names.
        ValueUnreadable: some can't be decoded here; a note names which.
    """
    call = find_arguments(engine, inputs_id)
    if call is None:
        raise lost("the arguments")
    missing = call.missing()
    if missing:
        raise lost(f"the arguments {', '.join(missing)}")
    return {name: call.read(engine, name) for name in (*call.here, *call.values)}, call.not_kept


class RecordedArguments(NamedTuple):
    """The arguments of a call as they were recorded, by name.

    `here` are those that stand in the record, as trees; `values` those that are values of their own, None if one is
    missing; `not_kept` are the classes of those that were not stored.
    """

    record: StoredValue
    here: Mapping[str, Tree]
    values: Mapping[str, StoredValue | None]
    not_kept: dict[str, str]

    def names(self) -> list[str]:
        """Return the names of all arguments in the order of the call."""
        return [*own_arguments(msgspec.json.decode(self.record.content or b"{}"))]

    def missing(self) -> list[str]:
        """Return the names of the arguments whose values the journal has lost."""
        return [name for name, stored in self.values.items() if stored is None or stored.content is None]

    def read(self, engine: Engine, name: str) -> Any:
        """Return an argument that is there.

        Raises:
            ValueUnreadable: it can't be decoded here; a note names it.
        """
        try:
            stored = self.values.get(name)
            return untag(self.here[name]) if stored is None else engine.ledger.values.decode(stored)
        except ValueUnreadable as error:
            error.add_note(f"It is the recorded argument `{name}`.")
            raise


def find_arguments(engine: Engine, inputs_id: ValueId | None) -> RecordedArguments | None:
    """Return what is recorded of the arguments of a call, None if that is missing or damaged."""
    record = None if inputs_id is None else engine.ledger.value(inputs_id)
    if record is None or record.content is None:
        return None
    here, elsewhere, not_kept = map(own_arguments, input_references(record))
    ids = {name: ValueId(bytes.fromhex(text)) for name, text in elsewhere.items()}
    with engine.ledger.current() as reader:
        found = reader.values(list(ids.values()))
    return RecordedArguments(record, here, {name: found.get(each) for name, each in ids.items()}, not_kept)


def own_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments without what the function closes over: that it has by itself."""
    return {name: value for name, value in arguments.items() if not name.startswith(CLOSURE)}


def _lost(what: str, run: RunRow) -> InputsNotStored:
    return InputsNotStored(
        f"{what} of run {run.run_id} are missing in the journal or damaged; continue the run by calling {run.name} "
        "again with them",
        run_id=run.run_id,
    )
