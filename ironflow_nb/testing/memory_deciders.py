"""The store of deciders in plain Python: the reference of `ironflow_nb.deciders.store`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice

from msgspec.structs import replace

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import RunKind
from ironflow_nb.deciders.store import (
    NO_LIMIT,
    DeciderReader,
    DomainRow,
    DomainSelect,
    EventRecord,
    Observation,
    ProjectionProgress,
    SkippedEvent,
    StoredState,
)
from ironflow_nb.errors import JournalConflict
from ironflow_nb.journal.ports import Addition, EventRow, RunCommit
from ironflow_nb.values.stored_value import StoredValue


class MemoryDeciders(DeciderReader):
    """The rows of deciders of a journal in memory, which has the `events` and `runs`."""

    def __init__(self, events: Sequence[EventRow], runs: Mapping[RunId, RunRow]) -> None:
        self._events, self._runs = events, runs
        self._observations: list[Observation] = []
        self._states: dict[RunId, StoredState] = {}
        self._projected: dict[str, ProjectionProgress] = {}
        self._projection_states: dict[str, StoredValue] = {}
        self._skipped: dict[str, list[SkippedEvent]] = {}

    def copy(self, events: Sequence[EventRow], runs: Mapping[RunId, RunRow]) -> MemoryDeciders:
        """Return a copy, for a copy of the journal."""
        other = MemoryDeciders(events, runs)
        other._observations, other._states = list(self._observations), dict(self._states)
        other._projected, other._projection_states = dict(self._projected), dict(self._projection_states)
        other._skipped = dict(self._skipped)
        return other

    def refuse_conflicts(self, entries: Sequence[RunCommit]) -> None:
        """Raise the conflict that writing the additions of these commits would raise, before anything is written.

        Raises:
            JournalConflict: a command was decided already, or a projection was folded by another engine.
        """
        observed: set[tuple[str, str, str]] = set()
        for entry in entries:
            for addition in entry.additions:
                if isinstance(addition, ProjectionProgress):
                    known = self._projected.get(addition.name)
                    addition.refuse_overtaken(None if known is None else known.place)
                elif isinstance(addition, Observation) and addition.command_key is not None:
                    key = addition.name, addition.instance, addition.command_key
                    if key in observed or self.observation_of(*key) is not None:
                        raise JournalConflict("a command of that key was decided already", run_id=entry.run_id)
                    observed.add(key)

    def put(self, run_id: RunId, additions: Collection[Addition]) -> None:
        """Put the additions of a commit of that run."""
        for addition in additions:
            match addition:
                case Observation():
                    self._observations.append(addition)
                case StoredState():
                    self._states[run_id] = addition
                case ProjectionProgress():
                    self._put_projected(addition)

    def _put_projected(self, projected: ProjectionProgress) -> None:
        name, known = projected.name, self._projected.get(projected.name)
        is_begun = known is None or known.generation != projected.generation
        self._skipped[name] = [*([] if is_begun else self._skipped[name]), *projected.skipped]
        if projected.state is not None:
            state = projected.state
            content = None if state.content is None else bytes(state.content)
            self._projection_states[name] = replace(state, content=content)
        self._projected[name] = replace(projected, state=None, skipped=(), before=None)

    def events_after(
        self, run_id: RunId, version: int, *, until: int = NO_LIMIT, at: int = NO_LIMIT
    ) -> list[EventRecord]:
        """See `DeciderReader`."""
        return [
            (row.version, row.at, row.type, row.data)
            for row in self._events
            if row.run_id == run_id and version < row.version <= until and row.at <= at
        ]

    def n_events(self, run_id: RunId, *, before: int = NO_LIMIT) -> int:
        """See `DeciderReader`."""
        return sum("." in row.type for row in self._events if row.run_id == run_id and row.version < before)

    def domain_events(self, select: DomainSelect) -> list[DomainRow]:
        """See `DeciderReader`."""
        return list(islice(_domain_events(self._events, self._runs, select), select.limit))

    def n_domain_events(self, select: DomainSelect) -> int:
        """See `DeciderReader`."""
        return len(self.domain_events(replace(select, limit=None)))

    def observations(self, name: str | None = None, instance: str | None = None) -> list[Observation]:
        """See `DeciderReader`."""
        return [each for each in self._observations if name in {None, each.name} and instance in {None, each.instance}]

    def observation_of(self, name: str, instance: str, command_key: str) -> Observation | None:
        """See `DeciderReader`."""
        wanted = (name, instance, command_key)
        found = (each for each in self._observations if (each.name, each.instance, each.command_key) == wanted)
        return next(found, None)

    def accepted_before(self, observation: Observation) -> Observation | None:
        """See `DeciderReader`."""
        wanted = (observation.name, observation.instance, observation.digest)
        found = (
            each
            for each in reversed(self._observations)
            if (each.name, each.instance, each.digest) == wanted
            and each.outcome == "accepted"
            and each.execution not in {None, observation.execution}
        )
        return next(found, None)

    def state(self, run_id: RunId) -> StoredState | None:
        """See `DeciderReader`."""
        return self._states.get(run_id)

    def projection(self, name: str) -> ProjectionProgress | None:
        """See `DeciderReader`."""
        return self._projected.get(name)

    def projections(self) -> list[ProjectionProgress]:
        """See `DeciderReader`."""
        return [self._projected[name] for name in sorted(self._projected)]

    def projection_state(self, name: str) -> StoredValue | None:
        """See `DeciderReader`."""
        return self._projection_states.get(name)

    def skipped(self, name: str) -> list[SkippedEvent]:
        """See `DeciderReader`."""
        return list(self._skipped.get(name, ()))


def _domain_events(
    events: Sequence[EventRow], runs: Mapping[RunId, RunRow], select: DomainSelect
) -> Iterator[DomainRow]:
    sequences: Counter[RunId] = Counter()
    for event in events:
        decider, dot, name = event.type.partition(".")
        if not dot or runs[event.run_id].kind != RunKind.DECIDER:
            continue
        sequences[event.run_id] += 1
        is_of = select.deciders is None or decider in select.deciders
        if event.position > select.after and is_of and (select.classes is None or name in select.classes):
            yield DomainRow(
                position=event.position, run_id=event.run_id, instance=runs[event.run_id].key or "",
                sequence=sequences[event.run_id], at=event.at, type=event.type, data=event.data,
            )  # fmt: skip
