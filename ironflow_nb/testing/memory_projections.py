"""Projections in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from msgspec.structs import replace

from ironflow_nb.core.ids import RunId
from ironflow_nb.core.rows import RunRow
from ironflow_nb.journal.ports import EventRow
from ironflow_nb.journal.read_models import DECIDER, DomainRow, DomainSelect, Projected, Skipped, refuse_overtaken
from ironflow_nb.values.stored import StoredValue


class MemoryProjections:
    """What a journal in memory knows of projections."""

    def __init__(self) -> None:
        self._projected: dict[str, Projected] = {}
        self._projection_states: dict[str, StoredValue] = {}
        self._skipped: dict[str, list[Skipped]] = {}

    def copy(self) -> MemoryProjections:
        """Return another one with the same content."""
        other = MemoryProjections()
        other._projected, other._projection_states = dict(self._projected), dict(self._projection_states)
        other._skipped = dict(self._skipped)
        return other

    def refuse_overtaken(self, projected: Projected) -> None:
        """Raise a conflict if the projection is found elsewhere than it is to go on from."""
        known = self._projected.get(projected.name)
        refuse_overtaken(projected, None if known is None else known.place)

    def write(self, projected: Projected) -> None:
        """Take in how far a projection has come."""
        name, known = projected.name, self._projected.get(projected.name)
        is_begun = known is None or known.generation != projected.generation
        self._skipped[name] = [*([] if is_begun else self._skipped[name]), *projected.skipped]
        if projected.state is not None:
            state = projected.state
            content = None if state.content is None else bytes(state.content)
            self._projection_states[name] = replace(state, content=content)
        self._projected[name] = replace(projected, state=None, skipped=(), before=None)

    def projection(self, name: str) -> Projected | None:
        """See the port."""
        return self._projected.get(name)

    def projections(self) -> list[Projected]:
        """See the port."""
        return [self._projected[name] for name in sorted(self._projected)]

    def projection_state(self, name: str) -> StoredValue | None:
        """See the port."""
        return self._projection_states.get(name)

    def skipped(self, name: str) -> list[Skipped]:
        """See the port."""
        return list(self._skipped.get(name, ()))


def domain_events(events: Sequence[EventRow], runs: Mapping[RunId, RunRow], select: DomainSelect) -> list[DomainRow]:
    """Return the events of deciders that are asked for."""
    return list(islice(_domain_events(events, runs, select), select.limit))


def _domain_events(
    events: Sequence[EventRow], runs: Mapping[RunId, RunRow], select: DomainSelect
) -> Iterator[DomainRow]:
    sequences: Counter[RunId] = Counter()
    for event in events:
        decider, dot, name = event.type.partition(".")
        if not dot or runs[event.run_id].kind != DECIDER:
            continue
        sequences[event.run_id] += 1
        is_of = select.deciders is None or decider in select.deciders
        if event.position > select.after and is_of and (select.classes is None or name in select.classes):
            yield DomainRow(
                position=event.position, run_id=event.run_id, instance=runs[event.run_id].key or "",
                sequence=sequences[event.run_id], at=event.at, type=event.type, data=event.data,
            )  # fmt: skip
