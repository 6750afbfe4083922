"""The outlines of all runs of a journal: which runs belong together, and which of them other runs need."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.status import CLOSED, RunKind
from ironflow_nb.journal.ports import Reader
from ironflow_nb.retention.run_rows import RunOutline, RunRows

DELETABLE: Final = frozenset({RunKind.FLOW, RunKind.GRAPH})
"""The kinds of runs that are deleted, and exported."""


class Family(NamedTuple):
    """A run with its children and theirs; the run is the first."""

    members: tuple[RunOutline, ...]

    @property
    def ids(self) -> tuple[RunId, ...]:
        """The ids of its runs."""
        return tuple(each.run_id for each in self.members)


class Outlines:
    """All runs of the journal as they are at one position."""

    def __init__(self, reader: Reader) -> None:
        self.position = reader.last_position()
        self.runs = {each.run_id: each for each in reader.extension(RunRows).outlines()}
        self._children: dict[RunId, list[RunOutline]] = {}
        self._built: dict[RunId, list[RunOutline]] = {}
        for each in self.runs.values():
            if each.parent_run_id is not None:
                self._children.setdefault(each.parent_run_id, []).append(each)
            if each.origin_run_id is not None:
                self._built.setdefault(each.origin_run_id, []).append(each)

    def family(self, root: RunOutline) -> Family:
        """Return the run with all runs below it."""
        members = [root]
        for each in members:  # which grows
            members += self._children.get(each.run_id, ())
        return Family(tuple(members))

    def needed_by(self, family: Family, going: Collection[RunId]) -> str | None:
        """Return why another run needs one of the family; runs in `going` are deleted, too, and need nothing."""
        for member in family.members:
            for other in self._built.get(member.run_id, ()):
                if other.run_id not in going:
                    if other.is_fork:
                        return f"run {other.run_id} is a fork of it"
                    if other.status not in CLOSED:
                        return f"run {other.run_id}, which is {other.status}, is built on it and may be continued"
                    if len(family.members) > 1:
                        return f"run {other.run_id}, which is built on it, may have taken over a child of it"
        return None
