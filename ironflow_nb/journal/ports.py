"""The port of the journal: what the engine asks of a store, and what it may rely on.

Events are the truth; `runs` and `steps` are read models that are written in the transaction of their events and can
be folded from them again. Every adapter passes the contract suite in ``tests/contracts``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from ironflow_nb.core.events import RecordedEvent
from ironflow_nb.core.identity import Digest, RunId, StepRef, ValueId
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.values.stored_value import StoredValue

if TYPE_CHECKING:
    import sqlite3

E = TypeVar("E")


class Durability(StrEnum):
    """What a commit survives: POWER everything, PROCESS every death but a power cut or crash of the machine."""

    POWER = "power"
    PROCESS = "process"


MEMO_LIMIT = 1024
"""Outputs up to this many bytes are loaded when a run is continued, larger ones when a step asks for them."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Who an owner is and when it last showed life; times are microseconds UTC."""

    owner: str
    host: str
    pid: int
    process_started_at: str
    heartbeat_at: int
    lease_s: float


class StoredDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was started from: enough to show it in a process that does not have its code."""

    definition_id: Digest
    kind: str
    name: str
    source: str
    diagram: str


class StepTally(msgspec.Struct, frozen=True):
    """How many steps of one name of a run have one status, by their latest attempts, and their seconds if known.

    `n_tried_again` of them had failed before; `n_lived_with` are failures that the flow went on after.
    """

    name: str
    status: StepStatus
    n: int
    duration_s: float | None
    n_tried_again: int = 0
    n_lived_with: int = 0


class SiteTally(StepTally, frozen=True):
    """As a tally, of the steps that were called at one site, an empty text where that is not known.

    Steps that are child runs are counted one by one, skipped ones by their reason.
    """

    site: str = ""
    child_run_id: RunId | None = None
    reason: str = ""

    @property
    def place(self) -> tuple[str, str]:
        """Name and site."""
        return self.name, self.site


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asks of a run's owner; `sent_at` is microseconds UTC, and the store gives the id."""

    run_id: RunId
    name: str
    sent_at: int
    sent_by: str | None = None
    payload_id: ValueId | None = None
    signal_id: int | None = None


class CachedResult(msgspec.Struct, frozen=True, kw_only=True):
    """The newest result of a step with ``cache=``, or, where it has an owner, that somebody is computing it.

    `run_id` and `step` are where it came from, or is computed; `finished_at` is microseconds UTC.
    """

    identity: Digest
    code: Digest
    run_id: RunId
    step: StepRef
    output_id: ValueId | None = None
    finished_at: int | None = None
    duration_s: float | None = None
    owner: str | None = None


IsTaken = Callable[[CachedResult, Mapping[str, Lease]], bool]
"""Tells whether a result or a claim binds others, given the leases by owner."""


class QueueItem(msgspec.Struct, frozen=True, kw_only=True):
    """Something still to do for a run: an effect to perform, a timer to fire. Instants are microseconds UTC.

    Kind and key name it within its run. While it has an owner, only that one works on it, until `leased_until`;
    `attempts` counts the times it was claimed. With `dead_at` nobody tries it any more.
    """

    run_id: RunId
    kind: str
    key: str
    due_at: int
    created_at: int
    payload_id: ValueId | None = None
    owner: str | None = None
    leased_until: int | None = None
    attempts: int = 0
    dead_at: int | None = None
    error_id: ValueId | None = None
    work_id: int | None = None


class Addition(msgspec.Struct, frozen=True):
    """What another room adds to the transaction of an entry, in tables of its own."""

    @property
    def n_bytes(self) -> int:
        """About how many bytes it adds to the database, if they are many."""
        return 0

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """Write it, within the transaction; what it raises takes everything back."""
        raise NotImplementedError


class RunCommit(msgspec.Struct, frozen=True, kw_only=True):
    """What one run adds to the journal in one transaction: its next facts and the rows as they are after them.

    `taken` are the ids of signals that its owner has taken notice of. `cached` are results for other runs; one without
    an output gives back that its owner was computing it in this run. `put_work` replaces work of the same kind and key,
    and `done_work` (kind and key) takes it away. `additions` are what other rooms write with it.
    """

    run_id: RunId
    facts: tuple[RecordedEvent, ...]
    run: RunRow | None = None
    steps: tuple[StepRow, ...] = ()
    values: tuple[StoredValue, ...] = ()
    definitions: tuple[StoredDefinition, ...] = ()
    taken: tuple[int, ...] = ()
    cached: tuple[CachedResult, ...] = ()
    put_work: tuple[QueueItem, ...] = ()
    done_work: tuple[tuple[str, str], ...] = ()
    additions: tuple[Addition, ...] = ()


class EventRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event as it lies in the journal; `at` is microseconds UTC, `data` is JSON text."""

    position: int
    run_id: RunId
    version: int
    at: int
    type: str
    step: StepRef | None
    attempt: int | None
    data: str


class EventColumns(msgspec.Struct, frozen=True, kw_only=True):
    """Events as lists of equal length, one for each column; `data` is decoded, and None where it is damaged."""

    run_id: list[RunId]
    position: list[int]
    version: list[int]
    at: list[int]
    type: list[str]
    step: list[str | None]
    attempt: list[int | None]
    data: list[dict[str, Any] | None]


class Select(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows are asked for; what is None does not narrow. Times are microseconds UTC.

    `without` are the ids of runs that are left out. `name` is that of a run or a step, or the type of an event;
    `run_name` is that of the run of steps and events. Both also find a name by its last part, ``fetch`` finds
    ``pages.fetch``, unless `is_full_name`. `step_statuses` and `is_latest`, the last attempt of each, choose steps.
    """

    run_ids: Collection[str] | None = None
    without: Collection[str] = ()
    run_prefix: str | None = None
    kind: str | None = None
    name: str | None = None
    run_name: str | None = None
    is_full_name: bool = False
    statuses: Collection[RunStatus] | None = None
    step_statuses: Collection[StepStatus] | None = None
    is_latest: bool = False
    since: int | None = None
    limit: int | None = None


class QueueSelect(msgspec.Struct, frozen=True, kw_only=True):
    """Which work is asked for; what is None does not narrow.

    `of` are kinds and names of the runs. With `claimable_at`, microseconds UTC, it is what is due then, not dead, and
    worked on by nobody, or by somebody whose lease has run out or who is none of the `alive` owners. `effects` leaves
    out effects of other names; their keys are name and id, with a slash between. `without` are the ids of work that is
    left out.
    """

    of: Collection[tuple[str, str]] | None = None
    run_ids: Collection[str] | None = None
    kind: str | None = None
    key: str | None = None
    is_dead: bool | None = None
    claimable_at: int | None = None
    alive: Collection[str] = ()
    effects: Collection[str] | None = None
    without: Collection[int] = ()
    limit: int | None = None


class CallKey(msgspec.Struct, frozen=True, kw_only=True):
    """A call as joining sees it: of which definition, with which inputs, which among equals, in which execution."""

    kind: str
    name: str
    inputs_digest: Digest
    ordinal: int
    execution: str


class Reader(Protocol):
    """Reads of one moment of the journal. A journal that does not exist yet is an empty one."""

    def runs(self, select: Select) -> list[RunRow]:
        """Return runs, the one that was begun last first, whatever its clock said."""

    def run_by_key(self, kind: str, name: str, key: str) -> RunRow | None:
        """Return the run of that user key."""

    def run_to_join(self, call: CallKey) -> RunRow | None:
        """Return the run of the same call in the latest other execution that made one; never a child run."""

    def steps(self, select: Select) -> list[StepRow]:
        """Return attempts of the selected runs, by run (newest first), first fact of the step, and attempt.

        `statuses` and `kind` do not apply.
        """

    def tallies(self, run_ids: Collection[str]) -> dict[RunId, list[StepTally]]:
        """Count the steps of each of the runs by name and status, in order of both; runs without steps are left out."""

    def places(self, run_id: RunId, *, without: Collection[StepRef] = (), continued_at: int = 0) -> list[SiteTally]:
        """Count the steps of the run but those by their latest attempts, in the order in which these began.

        What was skipped after a failure before the version `continued_at` is left out: it is being decided anew.
        """

    def memo(self, run_id: RunId) -> list[tuple[StepRow, StoredValue | None]]:
        """Return all attempts of the run by step and attempt, each with its output.

        Outputs above `MEMO_LIMIT` come without content, to be asked for by their ids.
        """

    def events(self, select: Select) -> list[EventRow]:
        """Return events by position; `name` selects their type, and with `limit` they are the newest of them."""

    def event_columns(self, select: Select) -> Iterator[EventColumns]:
        """Yield the same events as columns, in pieces of a size that the store likes; all while it is read."""

    def head(self, run_id: RunId) -> tuple[int, int] | None:
        """Return version and instant of the newest event of the run."""

    def values(self, ids: Collection[ValueId], *, content_limit: int | None = None) -> dict[ValueId, StoredValue]:
        """Return those of the values that exist; content above the limit (bytes) is left None.

        Content that is missing or damaged is None too.
        """

    def value_ids(self, codec: str) -> list[ValueId]:
        """Return the ids of all values of that codec."""

    def definition(self, definition_id: Digest) -> StoredDefinition | None:
        """Return what was stored of the definition."""

    def cached(self, identity: Digest, code: Digest) -> CachedResult | None:
        """Return what there is of that step for all runs."""

    def work(self, select: QueueSelect) -> list[QueueItem]:
        """Return work, by when it is due."""

    def signals(self, run_ids: Collection[str]) -> list[Signal]:
        """Return the signals to these runs that nobody has taken yet, in the order of their sending."""

    def leases(self) -> dict[str, Lease]:
        """Return all leases by owner."""

    def extension(self, kind: Callable[[sqlite3.Connection], E]) -> E:
        """Return another room's reads of the same moment, of that class."""


class Journal(Protocol):
    """An append-only store of runs. One thread at a time uses it; its engine sees to that."""

    location: str
    """What the journal is called in messages: its absolute path, or ``memory``."""

    def append(self, entries: Sequence[RunCommit], *, durability: Durability, lease: Lease | None = None) -> None:
        """Commit all entries in one transaction, and the lease of who writes them.

        On return everything is as durable as asked. On an error nothing of it is there.

        Raises:
            JournalConflict: a run has its next version already, or another run has its key; `run_id` names the run. Or
                what an addition raises.
            JournalBusy, JournalReadOnly, JournalError: the store refuses.
        """

    def exchange(
        self, act: Callable[[Reader], Sequence[RunCommit]], *, durability: Durability, lease: Lease | None = None
    ) -> None:
        """Read and commit in one transaction: `act` is given what is there, and what it returns is written.

        Nobody else writes in between, so `act` has to be quick. What it raises takes everything back.

        Raises:
            JournalConflict, JournalBusy, JournalReadOnly, JournalError: as `append`.
        """

    def write_lease(self, lease: Lease) -> None:
        """Write the lease alone, as a sign of life."""

    def send(self, signal: Signal) -> None:
        """Put a signal into the mailbox of its run; its owner sees it by the change of the token."""

    def claim(self, wanted: CachedResult, is_taken: IsTaken, *, lease: Lease | None = None) -> CachedResult | None:
        """Note in one transaction that somebody computes a result, and the lease of who does.

        If what is there already `is_taken`, it is returned, and nothing is written.
        """

    def release(self, *owners: str) -> None:
        """Delete the leases of the owners."""

    def resign_values(self, codec: str, macs: dict[ValueId, bytes]) -> int:
        """Replace the signatures of values of that codec; return how many there were."""

    def current(self) -> AbstractContextManager[Reader]:
        """Read what this process has committed, on the writer's own connection."""

    def reading(self) -> AbstractContextManager[Reader]:
        """Read one moment of the journal without disturbing who writes; safe from any thread."""

    def change_token(self) -> int:
        """Return a number that differs after another engine has committed; it may differ after this one has."""

    def exists(self) -> bool:
        """Tell whether anything was ever written."""

    def close(self) -> None:
        """Give everything back; the journal can't be used after it."""
