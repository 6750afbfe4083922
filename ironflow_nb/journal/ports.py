"""The port of the journal: the methods of a store, and what the engine may rely on.

Events are the truth. The rows of runs and steps are read models: they are written in the transaction of their events,
and can be folded from them again. Every adapter passes the contract suite in ``tests/contracts``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from ironflow_nb.core.events import RecordedEvent
from ironflow_nb.core.identity import Digest, RunId, StepRef, ValueId
from ironflow_nb.core.lane_rules import LaneKey, LanePlace
from ironflow_nb.core.lanes import Demand
from ironflow_nb.core.run_state import RowKey, RunRow, StepRow
from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.core.wait_rules import NEVER, StartKind
from ironflow_nb.values.stored_value import StoredValue

if TYPE_CHECKING:
    import sqlite3

E = TypeVar("E")


class Durability(StrEnum):
    """What a commit survives: POWER everything, PROCESS every death but a power cut or crash of the machine."""

    POWER = "power"
    PROCESS = "process"


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """An owner of runs, and its last sign of life. Times are microseconds UTC."""

    owner: str
    host: str
    pid: int
    process_started_at: str
    heartbeat_at: int
    lease_s: float


class StoredDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """The definition of a run: enough to show the run in a process that does not have its code."""

    definition_id: Digest
    kind: str
    name: str
    source: str
    diagram: str


class StepTally(msgspec.Struct, frozen=True):
    """The number of a run's steps of one name that have one status, by their latest attempts, and their seconds.

    The seconds are None where none are known. `n_tried_again` of the steps failed before; `n_lived_with` are failures
    that the flow went on after.
    """

    name: str
    status: StepStatus
    n: int
    duration_s: float | None
    n_tried_again: int = 0
    n_lived_with: int = 0


class SiteTally(StepTally, frozen=True):
    """A tally of the steps that were called at one site; the site is an empty text where it is not known.

    Steps that are child runs are counted one by one, skipped steps by their reason, waits that go on by their instant
    (microseconds UTC, or an empty text), which is their reason here, and queued steps by what they wait for.
    `n_recorded_before` of the steps began before the latest continuation or in another run; failures that the flow
    lived with do not count.
    """

    site: str = ""
    child_run_id: RunId | None = None
    reason: str = ""
    n_recorded_before: int = 0

    @property
    def place(self) -> tuple[str, str]:
        """Name and site."""
        return self.name, self.site


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """A request to the owner of a run. `sent_at` is microseconds UTC; the store gives the id."""

    run_id: RunId
    name: str
    sent_at: int
    sent_by: str | None = None
    payload_id: ValueId | None = None
    signal_id: int | None = None


class SignalId(msgspec.Struct, frozen=True, kw_only=True):
    """The id that its sender gave a signal: the run has one signal of that id. `payload` is the digest of that."""

    run_id: RunId
    caller_id: str
    name: str
    payload: Digest


class CachedResult(msgspec.Struct, frozen=True, kw_only=True):
    """The newest result of a step with ``cache=``, for all runs. One with an owner is being computed by it.

    `run_id` and `step` say where it was computed, or is. `finished_at` is microseconds UTC.
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
"""Returns True if a result or a claim binds others, given the leases by owner."""


class QueueItem(msgspec.Struct, frozen=True, kw_only=True):
    """Work of a run that is still to do: an effect to perform, a timer to fire. Instants are microseconds UTC.

    What starts a run is of a schedule or of an emitted event, whose id stands for that of a run; its key is the kind
    and the name of what is to run. Kind and key name an item within its run. An owner has it for itself until
    `leased_until`. `attempts` counts how often it was claimed. An item with `dead_at` is not tried again.
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

    def after_set_back(self, now: int) -> QueueItem:
        """Return it as queued now, if it was queued in what is the future: the clock was set back; it waits as long."""
        ahead = self.created_at - now
        if ahead <= 0:
            return self
        due_at = now if self.kind == StartKind.SCHEDULE else self.due_at - ahead  # its rule knows what is next
        return replace(self, created_at=now, due_at=self.due_at if self.due_at == NEVER else min(self.due_at, due_at))

    def is_free(self, alive: Collection[str], now: int) -> bool:
        """Return True if nobody holds a lease of it; `alive` are the owners that may live."""
        return self.owner is None or self.owner not in alive or (self.leased_until or 0) <= now


class LaneChange(msgspec.Struct, frozen=True):
    """What changes in lanes: places that are put in or replaced, asks that leave, rates as in `Reader.lane_rates`.

    A rate of 0 is dropped: its bucket is full.
    """

    put: Sequence[LanePlace] = ()
    left: Collection[int] = ()
    full_at: Mapping[LaneKey, int] = {}


class Addition(msgspec.Struct, frozen=True):
    """A row of another room's own table, written in the transaction of a run's commit."""

    def write(self, connection: sqlite3.Connection, run_id: RunId) -> None:
        """Write the row. An error takes the whole transaction back.

        Lock: the engine's; inside the transaction.
        """
        raise NotImplementedError


class RunCommit(msgspec.Struct, frozen=True, kw_only=True):
    """The next events of one run and its rows after them, written in one transaction.

    `run_before` is the row of the run before these events, if the writer knows it: only what changed is written then.
    `row_values` are values that fit a row: each lies in those rows of this commit that have its id as inputs or output,
    and is found with them only. `values` are found by their ids. `taken` are the ids of signals that the owner has
    received. `cached` are results for other runs; one without an output ends this run's claim to compute it. `put_work`
    replaces items of the same kind and key, `done_work` deletes items by kind and key. `removed` are the keys of rows
    of attempts that no longer count. `additions` are the rows of other rooms, with large content of `n_bytes`.
    """

    run_id: RunId
    events: tuple[RecordedEvent, ...]
    run: RunRow | None = None
    run_before: RunRow | None = None
    steps: tuple[StepRow, ...] = ()
    values: tuple[StoredValue, ...] = ()
    row_values: tuple[StoredValue, ...] = ()
    definitions: tuple[StoredDefinition, ...] = ()
    taken: tuple[int, ...] = ()
    cached: tuple[CachedResult, ...] = ()
    put_work: tuple[QueueItem, ...] = ()
    done_work: tuple[tuple[str, str], ...] = ()
    removed: tuple[RowKey, ...] = ()
    additions: tuple[Addition, ...] = ()
    n_bytes: int = 0


class EventRow(msgspec.Struct, frozen=True, gc=False):
    """One event as it is stored. `at` is microseconds UTC, `data` is JSON text."""

    position: int
    run_id: RunId
    version: int
    at: int
    type: str
    step: StepRef | None
    attempt: int | None
    data: str


class EventColumns(msgspec.Struct, frozen=True, kw_only=True):
    """Events as lists of equal length, one for each column. `data` is decoded, and None where it is damaged."""

    run_id: list[RunId]
    position: list[int]
    version: list[int]
    at: list[int]
    type: list[str]
    step: list[str | None]
    attempt: list[int | None]
    data: list[dict[str, Any] | None]


class Select(msgspec.Struct, frozen=True, kw_only=True):
    """A selection of rows. A field that is None does not restrict it. Times are microseconds UTC.

    `without` are the ids of runs to leave out. `name` is the name of a run or a step, or the type of an event;
    `run_name` is the name of the run of steps and events. Both also find a name by its last part, ``fetch`` finds
    ``pages.fetch``, unless `is_full_name`. `step_statuses` and `is_latest`, the last attempt of each, select steps;
    `after_version` and `until_version`, which is included, select events. So does `after`, a position: `limit` then
    keeps the oldest. `older_than` is a run: runs that began before it, and their steps.
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
    after_version: int | None = None
    until_version: int | None = None
    after: int | None = None
    older_than: str | None = None
    limit: int | None = None


class QueueSelect(msgspec.Struct, frozen=True, kw_only=True):
    """A selection of the work queue. A field that is None does not restrict it.

    `of` are kinds and names of the runs. `claimable_at`, microseconds UTC, selects items that are due then, not dead,
    and free: without an owner, with a lease that has run out, or with an owner that is not in `alive`. `effects` leaves
    out effects of other names; the key of an effect is its name and id, with a slash between. `without` are the ids of
    items to leave out. `created_after` is an instant.
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
    created_after: int | None = None
    limit: int | None = None


class CallKey(msgspec.Struct, frozen=True, kw_only=True):
    """The key by which a call joins a run: definition, inputs, number among equal calls, and execution."""

    kind: str
    name: str
    inputs_digest: Digest
    ordinal: int
    execution: str


class Reader(Protocol):
    """Reads of one moment of the journal. A journal that does not exist yet reads as an empty one."""

    def runs(self, select: Select) -> list[RunRow]:
        """Return runs, newest first: by the order of their beginnings, not by their clocks."""

    def run_by_key(self, kind: str, name: str, key: str) -> RunRow | None:
        """Return the run of that user key."""

    def run_to_join(self, call: CallKey) -> RunRow | None:
        """Return the run of the same call in the latest other execution, or None. Child runs are never returned."""

    def steps(self, select: Select) -> list[StepRow]:
        """Return attempts of the selected runs, by run (newest first), first event of the step, and attempt.

        `statuses` and `kind` do not apply.
        """

    def tallies(self, run_ids: Collection[str]) -> dict[RunId, list[StepTally]]:
        """Count the steps of each run by name and status, in the order of both. Runs without steps are left out."""

    def sites(
        self, run_id: RunId, *, without: Collection[StepRef] = (), continued_at: int = 0, began_at: int = 0
    ) -> list[SiteTally]:
        """Count the steps of the run, except `without`, by their latest attempts, in the order of their beginnings.

        Steps that were skipped after a failure before the version `continued_at` are left out: they are decided anew.
        `n_recorded_before` counts steps that began before the version `began_at`, or in another run; of completed
        ones those that ended before it, too: what waited until then is not reused.
        """

    def attempts(self, run_id: RunId) -> Iterator[tuple[StepRow, StoredValue | None]]:
        """Yield all attempts of the run by step and attempt, each with its output.

        Outputs above `ROW_LIMIT` come without content; `values` returns it.
        """

    def events(self, select: Select) -> list[EventRow]:
        """Return events by position. `name` selects their type; `limit` keeps the newest."""

    def event_columns(self, select: Select) -> Iterator[EventColumns]:
        """Yield the same events as columns, in pieces. The size of a piece is up to the store."""

    def last_position(self) -> int:
        """Return the position of the newest event of the journal, or 0.

        Positions become visible in their order: whatever is committed later has a higher one.
        """

    def head(self, run_id: RunId) -> tuple[int, int] | None:
        """Return version and instant of the newest event of the run."""

    def values(
        self, ids: Collection[ValueId], *, of: Iterable[RowKey] = (), content_limit: int | None = None
    ) -> dict[ValueId, StoredValue]:
        """Return the values that exist. Content above the limit (bytes), missing or damaged is None.

        `of` are the rows to which the values belong, for small values lie there; without it, only values that do not
        belong to a row are found.
        """

    def value_ids(self, codec: str) -> list[ValueId]:
        """Return the ids of all values of that codec."""

    def definition(self, definition_id: Digest) -> StoredDefinition | None:
        """Return the stored definition."""

    def cached(self, identity: Digest, code: Digest) -> CachedResult | None:
        """Return the result or the claim for all runs of that step."""

    def work(self, select: QueueSelect) -> list[QueueItem]:
        """Return items of the work queue in the order in which they are due."""

    def ended_waits(self, now: int, start: int = 0, limit: int = -1) -> list[QueueItem]:
        """Return `limit` waits that are due, from `start` on, and if that is 0 those for which a signal is there."""

    def starts(self, of: Collection[str]) -> list[QueueItem]:
        """Return what starts runs of these definitions, their kinds and names, in the order in which it is due.

        Dead letters are left out, and whatever follows the first thousand.
        """

    def next_due_at(self, now: int) -> int:
        """Return the instant after `now` at which the next wait, or start of a run, is due; or the end of all time."""

    def waits_of(self, run_id: RunId) -> list[QueueItem]:
        """Return the waits of the run that are in the queue."""

    def signals(self, run_ids: Collection[str]) -> list[Signal]:
        """Return the signals to these runs that their owners have not received yet, in the order of sending."""

    def leases(self) -> dict[str, Lease]:
        """Return all leases by owner."""

    def lane_places(self, lanes: Collection[LaneKey] | None = None) -> list[LanePlace]:
        """Return the places in these lanes that are held or waited for, in the order of asking; None are all lanes.

        Of the asks that wait in a lane only the first `MOST_WAITING`, with their needs in other lanes and the holders
        there.
        """

    def lane_rates(self) -> dict[LaneKey, int]:
        """Return when the bucket of each lane will be full again, if it is not (microseconds UTC)."""

    def other_demand(self, demand: Demand) -> LanePlace | None:
        """Return a place in the lane, whatever its key, that was asked for with other numbers."""

    def last_ask(self) -> int:
        """Return the highest id of an ask for places in lanes that is there, or 0."""

    def extension(self, kind: Callable[[sqlite3.Connection], E]) -> E:
        """Return the reads of another room, made by `kind`, of the same moment."""


Check = Callable[[Reader], object] | None
"""What reads at the moment of a transaction, and raises an error to stop it."""


class Journal(Protocol):
    """An append-only store of runs.

    Lock: the engine's, for everything but `reading` and `location`: one thread at a time uses a journal.
    """

    location: str
    """The name of the journal in messages: its absolute path, its URL without a password, or ``memory``."""

    def append(self, commits: Sequence[RunCommit], *, durability: Durability, lease: Lease | None = None) -> None:
        """Write the commits and the writer's lease in one transaction.

        On return everything is as durable as asked. On an error nothing is written.

        Raises:
            JournalConflict: a run has its next version already, or another run has its key; `run_id` names the run. An
                addition may raise one too.
            JournalBusy, JournalReadOnly, JournalError: the store refuses.
        """

    def exchange(
        self, act: Callable[[Reader], Sequence[RunCommit]], *, durability: Durability, lease: Lease | None = None
    ) -> None:
        """Read and write in one transaction: `act` reads, and the commits that it returns are written.

        Nobody else writes meanwhile, so `act` must be quick. An error of it takes everything back.

        Raises:
            JournalConflict, JournalBusy, JournalReadOnly, JournalError: as `append`.
        """

    def write_lease(self, lease: Lease) -> None:
        """Write the lease alone, as a sign of life."""

    def send(
        self, signal: Signal, payload: StoredValue | None = None, *, known: SignalId | None = None, check: Check = None
    ) -> SignalId | None:
        """Put a signal with its payload into the mailbox of its run. The owner notices it by the change token.

        If it is `known` by an id, and the run has had a signal of that id, received or not, return what that was and
        write nothing. Else `check` reads in the same transaction; if it raises, nothing is written.
        """

    def claim(self, wanted: CachedResult, is_taken: IsTaken, *, lease: Lease | None = None) -> CachedResult | None:
        """Claim the right to compute a result, and write the lease of the owner, in one transaction.

        If a result or claim is there that `is_taken`, return that one and write nothing.
        """

    def change_lanes(self, act: Callable[[Reader], LaneChange], *, lease: Lease | None = None) -> None:
        """Read and change places in lanes, and write the lease, in one transaction.

        What is lost of it in a power cut matters to nobody: its owners are dead then.
        """

    def release(self, *owners: str) -> None:
        """Delete the leases of the owners, and their places in lanes."""

    def replace_signatures(self, codec: str, macs: dict[ValueId, bytes]) -> int:
        """Replace the signatures of these values of that codec; return the number of values that exist."""

    def current(self) -> AbstractContextManager[Reader]:
        """Read what this process has committed, through the connection that writes."""

    def reading(self) -> AbstractContextManager[Reader]:
        """Read one moment of the journal without blocking the writer.

        Lock: none; any thread.
        """

    def change_token(self) -> int:
        """Return a number that changes soon after another engine has committed; it may when this one has."""

    def exists(self) -> bool:
        """Return True if anything was ever written."""

    def close(self) -> None:
        """Release everything. The journal can't be written to afterwards."""
