"""The arguments that a run was called with, as the journal has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import RunKind
from ironflow_nb.errors import InputsNotStored, ValueUnreadable
from ironflow_nb.execution import Engine, unwrapped
from ironflow_nb.history.lookup import RecordedArguments, find_arguments
from ironflow_nb.history.tables import call_preview, fields_of_call


class Arguments(Mapping[str, Any]):
    """The arguments of a call by name, in its order. Each is decoded when it is asked for.

    One that was not stored, because it is larger than 1 MB or nothing stores it, is listed too, and raises
    `InputsNotStored` when it is asked for; one that can't be read here raises `ValueUnreadable`.
    """

    def __init__(self, engine: Engine, run: RunRow, recorded: RecordedArguments) -> None:
        self._engine = engine
        self._run = run
        self._recorded = recorded
        self._names = recorded.names()

    def __getitem__(self, name: str) -> Any:
        """Return the argument.

        Raises:
            KeyError: the call has none of that name.
            InputsNotStored: it was not stored, or is missing in the journal.
            ValueUnreadable: it can't be decoded here.
        """
        if name not in self._names:
            raise KeyError(name)
        if name in self._recorded.not_kept:
            kind = self._recorded.not_kept[name]
            raise self._unavailable(
                f"was not stored, because it is larger than 1 MB or can't be pickled ({kind})", name
            )
        if name in self._recorded.missing():
            raise self._unavailable("is missing in the journal; put that back from a copy", name)
        return unwrapped((self._recorded.read(self._engine, name),), {})[0][0]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        values = {stored.value_id: stored for stored in self._recorded.values.values() if stored is not None}
        return f"Arguments({call_preview(fields_of_call(self._recorded.record, self._run.kind) or {}, values)})"

    def _unavailable(self, why: str, name: str) -> InputsNotStored:
        return InputsNotStored(
            f"the argument {name} of run {self._run.run_id} {why}", run_id=self._run.run_id, arguments=[name]
        )


def arguments_of(engine: Engine, run: RunRow) -> Mapping[str, Any]:
    """Return the arguments of a run: of a graph the mapping that it was called with, of a decider none.

    Raises:
        InputsNotStored: the record of the call is missing in the journal or damaged.
    """
    if run.inputs_id is None:
        return {}
    recorded = find_arguments(engine, run.inputs_id)
    if recorded is None:
        raise InputsNotStored(
            f"the arguments of run {run.run_id} are missing in the journal or damaged; put that back from a copy",
            run_id=run.run_id,
        )
    arguments = Arguments(engine, run, recorded)
    if run.kind != RunKind.GRAPH:
        return arguments
    try:
        given = arguments["input"]
    except (KeyError, InputsNotStored, ValueUnreadable):
        return arguments
    return given if isinstance(given, Mapping) else arguments
