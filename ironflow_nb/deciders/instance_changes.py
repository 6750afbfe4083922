"""What one transaction adds to one instance: events, rows, work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from ironflow_nb.core.events import DomainEvent, RecordedEvent, RunEvent
from ironflow_nb.core.identity import Digest, RunId, ValueId
from ironflow_nb.core.run_state import RunRow, evolve_run
from ironflow_nb.deciders.store import Observation, StoredState
from ironflow_nb.journal.ports import QueueItem, RunCommit
from ironflow_nb.values.signed_pickles import Signer
from ironflow_nb.values.stored_value import StoredValue, value_id

JSON = "json"


class InstanceChanges:
    """An instance as it is in a transaction, and what is to be written of it."""

    def __init__(
        self,
        run_id: RunId,
        instance: str,
        row: RunRow | None,
        version: int,
        at: int,
        fold: Callable[[], tuple[Any, int]],
    ) -> None:
        """Take where the instance stands.

        `fold` makes its state of its events, once somebody asks for it, and tells the version of the one that is kept.
        """
        self.run_id = run_id
        self.instance = instance
        self.row = row
        self.version = version
        self.at = at
        self._fold: Callable[[], tuple[Any, int]] | None = fold
        self._state: Any = None
        self.kept_version = 0
        self.stored_state: StoredState | None = None
        self._events: list[RecordedEvent] = []
        self._values: list[StoredValue] = []
        self._put: list[QueueItem] = []
        self._done: list[tuple[str, str]] = []
        self._observations: list[Observation] = []

    @property
    def state(self) -> Any:
        """The state after what was added; who only settles work does not need it, and is not kept from it."""
        if self._fold is not None:
            (self._state, self.kept_version), self._fold = self._fold(), None
        return self._state

    @state.setter
    def state(self, state: Any) -> None:
        self._state, self._fold = state, None

    @property
    def is_folded(self) -> bool:
        """Whether anybody asked for the state."""
        return self._fold is None

    @property
    def n_events(self) -> int:
        """How many events are to be written."""
        return len(self._events)

    def add(self, event: RunEvent) -> None:
        """Append an event."""
        self.version += 1
        recorded = RecordedEvent(self.version, self.at, event)
        self._events.append(recorded)
        self.row = evolve_run(self.run_id, self.row, recorded)

    def add_domain(self, decider: str, name: str, data: str) -> None:
        """Append an event of the user's."""
        self.add(DomainEvent(type=f"{decider}.{name}", data=msgspec.Raw(data.encode())))

    def store(self, text: str, type_name: str, signer: Signer | None = None) -> ValueId:
        """Keep JSON text as a value, signed if it will be acted on; return its id."""
        content = text.encode()
        mac = None if signer is None else signer.mark(JSON, content)
        stored = StoredValue(value_id(JSON, content), JSON, content, len(content), type_name, mac=mac)
        self._values.append(stored)
        return stored.value_id

    def keep(self, stored: StoredValue) -> None:
        """Keep a value."""
        self._values.append(stored)

    def put(self, work: QueueItem) -> None:
        """Enqueue work, in the place of what has its kind and key."""
        self._put.append(work)

    def done(self, kind: str, key: str) -> None:
        """Take work off the queue, or never let it in."""
        self._put = [work for work in self._put if (work.kind, work.key) != (kind, key)]
        self._done.append((kind, key))

    def pending(self, kind: str, stored: Iterable[str]) -> set[str]:
        """Return the keys of work of that kind as they will be; `stored` are those that the journal has."""
        gone = {key for its_kind, key in self._done if its_kind == kind}
        return (set(stored) - gone) | {work.key for work in self._put if work.kind == kind}

    def observe(self, observation: Observation) -> None:
        """Record what came of a command."""
        self._observations.append(replace(observation, run_id=None if self.row is None else self.run_id))

    @property
    def observed(self) -> Observation | None:
        """The newest command that was decided."""
        return self._observations[-1] if self._observations else None

    def keep_state(self, code: Digest, data: str) -> None:
        """Keep the state as it is after what was added."""
        self.stored_state = StoredState(self.version, code, data)

    def entry(self) -> RunCommit:
        """Return what is to be written."""
        return RunCommit(
            run_id=self.run_id,
            events=tuple(self._events),
            run=self.row if self._events else None,
            values=tuple(self._values),
            put_work=tuple(self._put),
            done_work=tuple(self._done),
            additions=(*self._observations, *([] if self.stored_state is None else [self.stored_state])),
        )
