"""What the journal keeps for projections: events of deciders in the order of all, and how far each has folded them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Protocol

import msgspec

from ironflow_nb.core.ids import Digest, RunId
from ironflow_nb.errors import JournalConflict
from ironflow_nb.values.stored import StoredValue

DECIDER: Final = "decider"


class DomainSelect(msgspec.Struct, frozen=True, kw_only=True):
    """Which events of deciders are asked for: after a position, of those deciders, of classes of those names."""

    after: int = 0
    deciders: Collection[str] | None = None
    classes: Collection[str] | None = None
    limit: int | None = None


class DomainRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a decider; `sequence` counts those of its instance from 1, `at` is microseconds UTC."""

    position: int
    run_id: RunId
    instance: str
    sequence: int
    at: int
    type: str
    data: str


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """An event that a projection could not fold and left out; `at` is when, in microseconds UTC."""

    position: int
    decider: str
    instance: str
    sequence: int
    event: str
    error: str
    at: int


class Projected(msgspec.Struct, frozen=True, kw_only=True):
    """How far a projection has folded: every event up to `position` is in its state, or skipped.

    `generation` counts how often it was begun, and `code` is what folded it. To be written it carries what was skipped
    since, the generation and position that it goes on from, and the state where that is another one, which it always
    is in a new generation.
    """

    name: str
    generation: int
    position: int
    code: Digest
    updated_at: int
    error: str | None = None
    state: StoredValue | None = None
    skipped: tuple[Skipped, ...] = ()
    before: tuple[int, int] | None = None

    @property
    def place(self) -> tuple[int, int]:
        """Generation and position, which only grow."""
        return self.generation, self.position


def refuse_overtaken(projected: Projected, found: tuple[int, int] | None) -> None:
    """Raise a conflict if the projection is found elsewhere than it is to go on from, or would go back."""
    if found != projected.before or (found is not None and projected.place < found):
        raise JournalConflict(
            f"somebody else has folded projection {projected.name} meanwhile: it is at {found} and not at "
            f"{projected.before}; read it again",
            name=projected.name,
        )


class ProjectionReader(Protocol):
    """Reads for projections."""

    def last_position(self) -> int:
        """Return the position of the newest event of the journal, or 0.

        Positions become visible in their order: whatever is committed later has a higher one.
        """

    def domain_events(self, select: DomainSelect) -> list[DomainRow]:
        """Return events of deciders by position; with `limit` the first of them."""

    def n_domain_events(self, select: DomainSelect) -> int:
        """Count the events of deciders, whatever the limit."""

    def projection(self, name: str) -> Projected | None:
        """Return how far the projection has folded, without its state."""

    def projections(self) -> list[Projected]:
        """Return the same of all projections, by name."""

    def projection_state(self, name: str) -> StoredValue | None:
        """Return the state of the projection; its content is None where it is damaged."""

    def skipped(self, name: str) -> list[Skipped]:
        """Return what the projection has skipped since it was begun, by position."""
