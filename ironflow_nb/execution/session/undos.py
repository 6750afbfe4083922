"""The undos that attempts have registered, for the case that the run fails: in the journal, and in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from ironflow_nb.core.events import CompensationRegistered, CompensationStarted
from ironflow_nb.core.identity import OWN_PREFIX, RunId, StepRef, ValueId
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.errors import ValueNotStorable
from ironflow_nb.execution.definitions.step_spec import StepSpec
from ironflow_nb.execution.recording.journal_access import PendingEvent, RunStorage

UndoKey: TypeAlias = tuple[RunId, StepRef, int]
"""The attempt that is undone: run, step and number."""


class Registration(msgspec.Struct, frozen=True):
    """An attempt that completed and whose effect stands: its row, and the step that undoes it."""

    row: StepRow
    undo: str
    arguments: ValueId | None
    function: ValueId | None

    @property
    def key(self) -> UndoKey:
        """The attempt."""
        return self.row.run_id, self.row.step, self.row.attempt

    def __str__(self) -> str:
        """What is undone: the step, or what the flow asked for itself."""
        return self.undo if self.row.name.startswith(OWN_PREFIX) else self.row.step


class Compensation(msgspec.Struct, frozen=True):
    """That the run is being compensated: the version of the event that says so, and the event."""

    since_version: int
    event: CompensationStarted


class Undos:
    """The undos that attempts of this process have registered; `is_any` says whether there are any, in a child too.

    Arguments are kept only if the journal could not store them.
    """

    def __init__(self) -> None:
        self.is_any = False
        self._live: dict[UndoKey, tuple[StepSpec, Mapping[str, Any] | None]] = {}

    def register(
        self,
        storage: RunStorage,
        row: StepRow,
        spec: StepSpec,
        arguments: Mapping[str, Any],
        *,
        function: object = None,
    ) -> PendingEvent:
        """Return the event which notes that the attempt is undone by that step, with those arguments."""
        stored = _stored(storage, arguments)
        code = None if function is None else _stored(storage, function)
        self.is_any = True
        self._live[row.run_id, row.step, row.attempt] = spec, arguments if stored is None else None
        event = CompensationRegistered(
            undo=spec.name,
            arguments=None if stored is None else stored.value_id,
            function=None if code is None else code.value_id,
        )
        return PendingEvent(event, row.step, row.attempt, values=[each for each in (stored, code) if each is not None])

    def find(self, key: UndoKey) -> tuple[StepSpec | None, Mapping[str, Any] | None]:
        """Return the step that undoes the attempt, and its arguments, as far as this process keeps them."""
        return self._live.get(key, (None, None))

    def include(self, child: Undos) -> None:
        """Take over what a child run has registered: it is undone with its parent."""
        self.is_any |= child.is_any
        self._live |= child._live


def _stored(storage: RunStorage, value: object) -> Any:
    try:
        return storage.encode(value)
    except ValueNotStorable:
        return None
