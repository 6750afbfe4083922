"""Reading the arguments that were recorded of a run or of a step.

Finding runs and steps by what people type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from ironflow_nb.core.identity import StepRef, ValueId, parse_step_ref, run_id_prefix
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.errors import AmbiguousRun, AmbiguousStep, InputsNotStored, RunNotFound, StepNotFound, ValueUnreadable
from ironflow_nb.execution import CLOSURE, Engine
from ironflow_nb.journal.ports import Reader, Select
from ironflow_nb.values.codecs import input_references
from ironflow_nb.values.stored_value import StoredValue, ValueRecord
from ironflow_nb.values.tagged import Tree, untag

_SHOWN: Final = 8


def resolve_run(reader: Reader, text: str) -> RunRow:
    """Return the run of an id or of a prefix that only it has.

    Raises:
        RunNotFound, AmbiguousRun: none or several have it; the message lists what there is.
    """
    prefix = run_id_prefix(text) if isinstance(text, str) else None
    found = [] if prefix is None else reader.runs(Select(run_prefix=prefix, limit=_SHOWN + 1))
    if len(found) == 1:
        return found[0]
    if found:
        raise AmbiguousRun(f"several runs begin with {text!r}: {_listed(found)}; give more characters", prefix=text)
    newest = reader.runs(Select(limit=3))
    known = f"the newest are {_listed(newest)}" if newest else "the journal has no runs"
    raise RunNotFound(f"no run begins with {text!r}; {known}", prefix=text)


def _listed(runs: list[RunRow]) -> str:
    shown = plain(", ".join(f"{run.run_id} ({run.name})" for run in runs[:_SHOWN]))
    return f"{shown}, ..." if len(runs) > _SHOWN else shown


def resolve_step(rows: Iterable[StepRow], reference: object, run_id: str) -> StepRef:
    """Return the step of a run by function, by name if only one step has it, or by reference such as ``fetch[12]``.

    Raises:
        StepNotFound, AmbiguousStep: none or several fit; the message lists what there is.
        TypeError: `reference` is none of these.
    """
    text = reference if isinstance(reference, str) else getattr(reference, "name", None)
    if not isinstance(text, str):
        raise TypeError(f'a step is named by its function, "fetch" or "fetch[12]", not by {reference!r}')
    name, index = parse_step_ref(text)
    refs = {row.step: row for row in rows}
    # A name that is there as it stands goes before one that ends so.
    is_exact = any(row.name == name for row in refs.values())
    fits = [
        ref
        for ref, row in refs.items()
        if (row.name == name or (not is_exact and row.name.endswith(f".{name}"))) and index in {None, row.index}
    ]
    if len(fits) == 1:
        return fits[0]
    if fits:
        shown = plain(", ".join(sorted(fits, key=lambda ref: refs[ref].index)[:_SHOWN]))
        raise AmbiguousStep(
            f"run {run_id} has {len(fits)} steps {text!r}: {shown}{', ...' if len(fits) > _SHOWN else ''}; name one",
            run_id=run_id,
            step=text,
        )
    names = plain(", ".join(sorted({row.name for row in refs.values()})[:_SHOWN])) or "none yet"
    raise StepNotFound(f"run {run_id} has no step {text!r}; its steps are: {names}", run_id=run_id, step=text)


def resolve_steps(rows: list[StepRow], step: object, run_id: str) -> list[StepRef]:
    """Return the steps of that function or name by index; a name that is there as it stands goes before a last part.

    Raises:
        StepNotFound, AmbiguousStep: it names no step of the run, or those of several functions.
        TypeError: `step` is no name.
    """
    name = step if isinstance(step, str) else getattr(step, "name", None)
    known = {row.name for row in rows}
    names = sorted(other for other in known if other == name or (name not in known and other.endswith(f".{name}")))
    if not names:
        return [resolve_step(rows, step, run_id)]  # "fetch[12]" is one step; of what names none it tells
    if len(names) > 1:
        listed = plain(", ".join(names))
        raise AmbiguousStep(
            f"run {run_id} has steps of several {name!r}: {listed}; name one", run_id=run_id, step=str(name)
        )
    refs = {row.step: row.index for row in rows if row.name == names[0]}
    return sorted(refs, key=refs.__getitem__)


def read_value(engine: Engine, stored: StoredValue) -> Any:
    """Return a stored value; a record as the values it refers to, by name, without what its owner notes beside them.

    Raises:
        ValueUnreadable: it, or something it refers to, can't be read here.
    """
    value = engine.codecs.decode(stored)
    if not isinstance(value, ValueRecord):
        return value
    ids = {name: value_id for name, value_id in value.ids().items() if name.isidentifier()}
    with engine.access.current() as reader:
        parts = reader.values(list(ids.values()))
    missing = [name for name, value_id in ids.items() if value_id not in parts]
    if missing:
        raise ValueUnreadable(f"{', '.join(missing)} of a record is missing in the journal; put that back from a copy")
    return {name: engine.codecs.decode(parts[value_id]) for name, value_id in ids.items()}


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
            return untag(self.here[name]) if stored is None else engine.codecs.decode(stored)
        except ValueUnreadable as error:
            error.add_note(f"It is the recorded argument `{name}`.")
            raise


def find_arguments(engine: Engine, inputs_id: ValueId | None) -> RecordedArguments | None:
    """Return what is recorded of the arguments of a call, None if that is missing or damaged."""
    record = None if inputs_id is None else engine.access.value(inputs_id)
    if record is None or record.content is None:
        return None
    here, elsewhere, not_kept = map(own_arguments, input_references(record))
    ids = {name: ValueId(bytes.fromhex(text)) for name, text in elsewhere.items()}
    with engine.access.current() as reader:
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
