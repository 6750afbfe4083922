"""Thread-safe access of one engine to its journal; and the encoding of the values that a run stores."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from ironflow_nb.code_identity.tracker import CODE
from ironflow_nb.core.events import RunEvent
from ironflow_nb.core.identity import RUN_ID_ENTROPY_BYTES, Digest, RunId, StepRef, ValueId, run_id
from ironflow_nb.core.run_state import RowKey, RunRow, StepRow
from ironflow_nb.errors import DecisionError, EngineClosed, JournalError, ValueUnreadable
from ironflow_nb.execution.recording.signatures import own_runs, signature_of_definition, untrusted
from ironflow_nb.execution.system.executors import Executors
from ironflow_nb.execution.system.frontend import logger
from ironflow_nb.execution.system.process_identity import ACTOR, give_up, is_alive, is_gone, may_live, new_lease
from ironflow_nb.execution.system.system import Clock, Entropy, Threads
from ironflow_nb.execution.system.threads import BackgroundErrors
from ironflow_nb.journal.ports import (
    Addition,
    CachedResult,
    Check,
    Durability,
    Journal,
    LaneChange,
    Lease,
    QueueItem,
    Reader,
    RunCommit,
    Signal,
    SignalId,
    StoredDefinition,
)
from ironflow_nb.values.codecs import ValueCodec
from ironflow_nb.values.digest import Digester, Provenance
from ironflow_nb.values.failures import store_failure
from ironflow_nb.values.signed_pickles import Signer
from ironflow_nb.values.stored_value import StoredValue


class Mail(msgspec.Struct, frozen=True):
    """What a commit changes in the mailbox of a run: ids of consumed signals, queued work, keys of finished work.

    `additions` are rows of other rooms.
    """

    taken: tuple[int, ...] = ()
    put_work: tuple[QueueItem, ...] = ()
    done_work: tuple[tuple[str, str], ...] = ()
    additions: tuple[Addition, ...] = ()


NO_MAIL: Final = Mail()


class PendingEvent(msgspec.Struct, frozen=True):
    """An event to record, with its step and attempt, the row of the attempt before it, and values to store.

    `cached` is the result of the step for all runs, `mail` what changes with the event in the mailboxes of the run.
    """

    event: RunEvent
    step: StepRef | None = None
    attempt: int | None = None
    before: StepRow | None = None
    values: Sequence[StoredValue] = ()
    cached: CachedResult | None = None
    mail: Mail = NO_MAIL


class EncodedResult(NamedTuple):
    """The encoded result of a step: the last of the `values`, which may refer to the others.

    `echo` is the value for the caller, equal to the one that a replay returns. Other runs may use the result if
    `is_shareable`.
    """

    values: Sequence[StoredValue]
    echo: Any
    is_shareable: bool = True


class RunStorage(ValueCodec):
    """Encodes the values that a run stores. A style that keeps secrets gives the session a subclass."""

    def __init__(self, values: ValueCodec) -> None:
        super().__init__(values.digester, values.signer, values.place)

    def encode_result(self, value: object) -> EncodedResult:
        """Return the encoded result of a step."""
        stored, echo = self.store(value)
        return EncodedResult((stored,), echo)

    def store_failure(self, error: BaseException) -> StoredValue:
        """See `store_failure`."""
        return store_failure(error, self.signer)

    def definition(self, definition: StoredDefinition) -> StoredDefinition:
        """Return the definition as the journal stores it."""
        return definition

    def redacted(self, text: str) -> str:
        """Return the text without the secrets of the run."""
        return text

    def refuse_secrets(self, what: str, value: object) -> None:
        """Check that a value which is no record of the run, and is stored as it is, has no secret of the run.

        Raises:
            ValueNotStorable: it has one; the message calls the value `what`.
        """


_GET_DEFINITIONS: Final = attrgetter("definitions")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class JournalAccess:
    """Thread-safe access of one engine to its journal.

    Lock: its own, one thread at a time. It is taken after the lock of a session, and no other lock is taken inside it.
    """

    def __init__(self, journal: Journal, *, clock: Clock, entropy: Entropy, threads: Threads) -> None:
        self.journal = journal
        self.clock = clock
        self.entropy = entropy
        self.threads = threads
        self.lease: Lease = new_lease(clock.now(), entropy(8))
        self.signer = Signer(entropy)
        self.digester = Digester(Provenance(entropy), CODE, self.signer.digest_of_secret)
        self.values = ValueCodec(self.digester, self.signer)
        self.defined: set[Digest] = set()
        self.background_errors = BackgroundErrors()
        self.at_breakers: dict[str, list[Callable[[], None]]] = {}
        """The callbacks of attempts of this engine that wait at breakers, by the names of these."""
        self.owed: deque[Callable[[], None]] = deque()
        """What could not be written and others wait for; the background thread tries it again."""
        self.executors = Executors(threads)
        self.on_append: Callable[[], None] | None = None
        self.lock = threads.lock()
        self._waiting: dict[object, tuple[Sequence[RunCommit], Durability]] = {}
        self._lease_is_written = False
        self._is_writing = self._is_exchanging = False
        self._closed_because: str | None = None
        self._computing: set[tuple[Digest, Digest]] = set()

    @property
    def owner(self) -> str:
        """The name under which this engine owns runs."""
        return self.lease.owner

    @property
    def is_closed(self) -> bool:
        """Return True if nothing can be written any more."""
        return self._closed_because is not None

    def append(self, commits: Sequence[RunCommit], durability: Durability) -> None:
        """Write the commits in one transaction, with those of threads that wait for this one to end.

        The first of an engine writes its lease too.
        """
        if any(map(_GET_DEFINITIONS, commits)):
            commits = [self._with_signatures(commit) for commit in commits]
        token = None
        # In the main thread an interrupt could come after COMMIT, before it is noted which commits are written.
        if (self._is_writing or self._is_exchanging) and not self.threads.is_main():
            token = object()
            self._waiting[token] = (commits, durability)  # before the lock: who has it first writes this, too
        with self.lock:
            if token is None or self._waiting.pop(token, None) is not None:
                if self._is_exchanging or self._closed_because is not None:
                    self._refuse_closed()
                lease = None if self._lease_is_written else self._first_lease()
                self._is_writing = True  # read without the lock: one that reads it too early writes alone
                try:
                    written = self._append_all(commits, durability, lease) if token and self._waiting else None
                    if written is None:
                        self.journal.append(commits, durability=durability, lease=lease)
                finally:
                    self._is_writing = False
                self._lease_is_written = True
                for commit in written or commits:
                    for definition in commit.definitions:
                        self.defined.add(definition.definition_id)
                    for cached in commit.cached:
                        self._computing.discard((cached.identity, cached.code))
        if self.on_append is not None:
            self.on_append()

    def _append_all(
        self, commits: Sequence[RunCommit], durability: Durability, lease: Lease | None
    ) -> list[RunCommit] | None:
        """Write the commits with those of all threads that wait, and return them all.

        Return None if that is refused: then each thread writes its own, and hears of its own error. Lock: the access's,
        in a thread that no signal interrupts.
        """
        waiting = dict(self._waiting)  # what comes meanwhile waits for the next transaction
        written = [*commits, *chain.from_iterable(each for each, _ in waiting.values())]
        is_synced = any(each is Durability.POWER for _, each in waiting.values())
        try:
            self.journal.append(written, durability=Durability.POWER if is_synced else durability, lease=lease)
        except Exception:  # noqa: BLE001 -- whatever it is, the threads meet it again, each for itself
            return None
        for token in waiting:
            del self._waiting[token]
        return written

    def exchange(
        self, act: Callable[[Reader], Sequence[RunCommit]], durability: Durability, *, of: Lease | None = None
    ) -> None:
        """Read and write in one transaction; see the port. The first of an engine writes its lease too.

        With a lease of another owner, in whose name this is done, that one is written.
        """
        with self.lock:
            self._refuse_closed()
            lease, self._is_exchanging = of or self._first_lease(), True
            try:
                self.journal.exchange(act, durability=durability, lease=lease)
            finally:
                self._is_exchanging = False
            self._lease_is_written = self._lease_is_written or of is None

    def claim(self, wanted: CachedResult, is_fresh: Callable[[CachedResult], bool]) -> CachedResult | None:
        """Claim the right to compute a result for all runs, or return a fresh result or the claim of another owner."""

        def is_taken(found: CachedResult, leases: Mapping[str, Lease]) -> bool:
            if found.owner is None:
                return is_fresh(found)
            if found.owner == self.owner:
                return (found.identity, found.code) in self._computing
            return is_alive(leases.get(found.owner), now=self.clock.now())

        with self.lock:
            self._refuse_closed()
            with self.journal.current() as reader:
                # A waiting caller asks often; a read does not block writers.
                found = reader.cached(wanted.identity, wanted.code)
                if found is not None and is_taken(found, reader.leases()):
                    return found
            found = self.journal.claim(wanted, is_taken, lease=self._first_lease())
            if found is None:
                self._lease_is_written = True
                self._computing.add((wanted.identity, wanted.code))
            return found

    def change_lanes(self, act: Callable[[Reader], LaneChange]) -> None:
        """Read and change places in lanes in one transaction."""
        with self.lock:
            self._refuse_closed()
            self.journal.change_lanes(act, lease=self._first_lease())
            self._lease_is_written = True

    def refuse_foreign(self, reader: Reader, run: RunRow) -> None:
        """Raise an error unless this user began the run.

        Raises:
            UntrustedRun: another user began it, or it was begun before runs were signed.
        """
        if not own_runs(self.signer, reader, [run]):
            raise untrusted(run, self.journal.location)

    def instant(self, microseconds: int) -> datetime:
        """Return an instant of the journal as a datetime."""
        return EPOCH + timedelta(microseconds=microseconds)

    def send(
        self,
        run_id: RunId,
        name: str,
        payload: StoredValue | None = None,
        *,
        sent_by: str | None = None,
        known: SignalId | None = None,
        check: Check = None,
    ) -> SignalId | None:
        """Send a signal to the owner of a run, by default in the name of who acts, or of this engine; see the port."""
        payload_id = None if payload is None else payload.value_id
        with self.lock:
            self._refuse_closed()
            sent_at, sent_by = self.clock.now(), sent_by or ACTOR.get() or self.owner
            signal = Signal(run_id=run_id, name=name, sent_at=sent_at, sent_by=sent_by, payload_id=payload_id)
            return self.journal.send(signal, payload, known=known, check=check)

    def replace_signatures(self, codec: str, macs: dict[ValueId, bytes]) -> int:
        """Replace the signatures of stored values; return the number of values that exist."""
        with self.lock:
            self._refuse_closed()
            return self.journal.replace_signatures(codec, macs)

    def change_token(self) -> int:
        """Return a number that changes when another engine has committed."""
        with self.lock:
            return 0 if self._closed_because is not None else self.journal.change_token()

    def write_owed(self) -> None:
        """Try once more what is owed; what is refused again stays so."""
        for _ in range(len(self.owed)):
            self.owed.popleft()()

    def beat(self) -> None:
        """Write a sign of life, if this engine has written anything."""
        with self.lock:
            if self._lease_is_written and self._closed_because is None:
                self.journal.write_lease(replace(self.lease, heartbeat_at=self.clock.now()))

    @contextmanager
    def current(self) -> Iterator[Reader]:
        """Read while no thread of this engine writes."""
        with self.lock:
            self._refuse_closed()
            with self.journal.current() as reader:
                yield reader

    def value(self, value_id: ValueId, of: RowKey | None = None) -> StoredValue | None:
        """Return a stored value with its content; `of` is the row that it belongs to."""
        with self.current() as reader:
            return reader.values([value_id], of=() if of is None else (of,)).get(value_id)

    def read(self, value_id: ValueId, of: RowKey | None = None) -> Any:
        """Return a stored value, decoded; `of` is the row that it belongs to.

        Raises:
            ValueUnreadable: it is missing or damaged, or its class does not exist here.
        """
        stored = self.value(value_id, of)
        if stored is None:
            raise ValueUnreadable("a result is missing in the journal; put the journal back from a copy")
        return self.values.decode(stored)

    def definition(self, definition_id: Digest) -> StoredDefinition | None:
        """Return the stored definition of a flow, or of the code of a step."""
        with self.current() as reader:
            return reader.definition(definition_id)

    def is_owner_alive(self, reader: Reader, owner: str | None) -> bool:
        """Return True if the owner of a run is alive."""
        if owner is None:
            return False
        return owner == self.owner or is_alive(reader.leases().get(owner), now=self.clock.now())

    def living_owners(self, reader: Reader) -> Collection[str]:
        """Return the owners of runs that are alive."""
        now = self.clock.now()
        return {owner for owner, lease in reader.leases().items() if is_alive(lease, now=now)} | {self.owner}

    def possible_owners(self, reader: Reader) -> Collection[str]:
        """Return the owners that are not known to be dead. Work has a lease of its own, so theirs may have run out."""
        return {owner for owner, lease in reader.leases().items() if may_live(lease)} | {self.owner}

    def new_run_id(self) -> RunId:
        """Return a fresh run id."""
        return run_id(self.entropy(RUN_ID_ENTROPY_BYTES))

    def close(self, because: str, *, abandon: bool = False) -> None:
        """Release the lease and close the journal. `abandon` touches neither, as a forked child must."""
        if abandon:
            self._closed_because = because
            return
        with self.lock:
            if self._closed_because is None:
                self._closed_because = because
                give_up(self.owner)
                try:
                    if self._lease_is_written:
                        self.journal.release(self.owner)
                except JournalError as error:  # a damaged file has no lease to release
                    logger().warning("the lease of %s could not be given back: %s", self.owner, error)
                finally:
                    self.journal.close()

    def _with_signatures(self, commit: RunCommit) -> RunCommit:
        # The code of a step is only shown, never executed.
        signed = [signature_of_definition(self.signer, each) for each in commit.definitions if each.kind != "step"]
        return replace(commit, values=(*commit.values, *signed))

    def _first_lease(self) -> Lease | None:
        """Return the lease if it is not written yet, and delete the leases of owners whose processes have ended."""
        if self._lease_is_written:
            return None
        with self.journal.current() as reader:
            gone = [owner for owner, lease in reader.leases().items() if is_gone(lease, now=self.clock.now())]
        if gone:
            self.journal.release(*gone)
        return replace(self.lease, heartbeat_at=self.clock.now())

    def _refuse_closed(self) -> None:
        if self._is_exchanging:  # the lock is re-entrant: this thread would break its own transaction
            raise DecisionError(
                "decide and evolve were asked to write or read the journal; they are pure: let decide say what "
                "happened and which effects follow, and do the rest in a handler"
            )
        if self._closed_because is not None:
            raise EngineClosed(
                f"the engine of {self.journal.location} can't be used any more: {self._closed_because}; open the "
                "journal again with iron.open(...) or iron.use(...)"
            )
