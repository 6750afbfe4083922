"""The journal of one engine behind its lock, with the values, the clock and the owner that go with it.

What one run puts into the journal beside its events: results, failures, arguments and code.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from ironflow_nb.code_identity.tracker import CODE
from ironflow_nb.core.identity import RUN_ID_ENTROPY_BYTES, Digest, RunId, ValueId, run_id
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.errors import DecisionError, EngineClosed, JournalError, ValueUnreadable
from ironflow_nb.execution.recording.signatures import own_runs, signature_of_definition, untrusted
from ironflow_nb.execution.system.frontend import logger
from ironflow_nb.execution.system.process_identity import give_up, is_alive, is_gone, may_live, new_lease
from ironflow_nb.execution.system.system import Clock, Entropy, Threads
from ironflow_nb.execution.system.threads import BackgroundErrors
from ironflow_nb.journal.ports import (
    CachedResult,
    Durability,
    Journal,
    Lease,
    Reader,
    RunCommit,
    Signal,
    StoredDefinition,
)
from ironflow_nb.values.codecs import ValueCodec
from ironflow_nb.values.digest import Digester, Provenance
from ironflow_nb.values.failures import store_failure
from ironflow_nb.values.signed_pickles import Signer
from ironflow_nb.values.stored_value import StoredValue


class EncodedResult(NamedTuple):
    """The encoded result of a step: the last of the `values`, which may refer to the others.

    `echo` is what its caller gets, as a replay will. One that is not `is_shareable` is no result for other runs.
    """

    values: Sequence[StoredValue]
    echo: Any
    is_shareable: bool = True


class RunStorage:
    """Makes what a run stores; a style that has something to hide gives the session its own."""

    def __init__(self, values: ValueCodec) -> None:
        self.values = values
        self.signer = values.signer

    def store(self, value: object) -> tuple[StoredValue, Any]:
        """See `ValueCodec`."""
        return self.values.store(value)

    def encode_result(self, value: object) -> EncodedResult:
        """Return what is recorded of the result of a step."""
        stored, echo = self.store(value)
        return EncodedResult((stored,), echo)

    def store_inputs(self, arguments: Mapping[str, object]) -> list[StoredValue]:
        """See `ValueCodec`."""
        return self.values.store_inputs(arguments)

    def store_failure(self, error: BaseException) -> StoredValue:
        """See `store_failure`."""
        return store_failure(error, self.signer)

    def definition(self, definition: StoredDefinition) -> StoredDefinition:
        """Return what the journal is to keep of a definition."""
        return definition


EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class JournalAccess:
    """One engine's door to its journal.

    One thread at a time writes: `append` and `current` hold the lock. Whoever takes it holds no other lock that a
    thread inside it could want, except the lock of one run, which is always taken first.
    """

    def __init__(self, journal: Journal, *, clock: Clock, entropy: Entropy, threads: Threads) -> None:
        self.journal = journal
        self.clock = clock
        self.entropy = entropy
        self.threads = threads
        self.lease: Lease = new_lease(clock.now(), entropy(8))
        self.digester = Digester(Provenance(entropy), CODE)
        self.signer = Signer(entropy)
        self.values = ValueCodec(self.digester, self.signer)
        self.defined: set[Digest] = set()
        self.background_errors = BackgroundErrors()
        self.on_append: Callable[[], None] | None = None
        self._lock = threads.lock()
        self._lease_is_written = False
        self._is_exchanging = False
        self._closed_because: str | None = None
        self._computing: set[tuple[Digest, Digest]] = set()

    @property
    def owner(self) -> str:
        """The name under which this engine owns runs."""
        return self.lease.owner

    @property
    def is_closed(self) -> bool:
        """Tell whether nothing can be written any more."""
        return self._closed_because is not None

    def append(self, entries: Sequence[RunCommit], durability: Durability) -> None:
        """Commit entries; the first of an engine brings its lease along."""
        entries = [self._with_signatures(entry) if entry.definitions else entry for entry in entries]
        with self._lock:
            self._refuse_closed()
            self.journal.append(entries, durability=durability, lease=self._first_lease())
            self._lease_is_written = True
            for entry in entries:
                self.defined.update(definition.definition_id for definition in entry.definitions)
                self._computing.difference_update((cached.identity, cached.code) for cached in entry.cached)
        if self.on_append is not None:
            self.on_append()

    def exchange(self, act: Callable[[Reader], Sequence[RunCommit]], durability: Durability) -> None:
        """Read and commit in one transaction; see the port. The first of an engine brings its lease along."""
        with self._lock:
            self._refuse_closed()
            lease, self._is_exchanging = self._first_lease(), True
            try:
                self.journal.exchange(act, durability=durability, lease=lease)
            finally:
                self._is_exchanging = False
            self._lease_is_written = True

    def claim(self, wanted: CachedResult, is_fresh: Callable[[CachedResult], bool]) -> CachedResult | None:
        """Claim a result for all runs; return a fresh one, or the claim of somebody who computes it, instead."""

        def is_taken(found: CachedResult, leases: Mapping[str, Lease]) -> bool:
            if found.owner is None:
                return is_fresh(found)
            if found.owner == self.owner:
                return (found.identity, found.code) in self._computing
            return is_alive(leases.get(found.owner), now=self.clock.now())

        with self._lock:
            self._refuse_closed()
            with self.journal.current() as reader:
                found = reader.cached(wanted.identity, wanted.code)  # who waits asks often, and lets others write
                if found is not None and is_taken(found, reader.leases()):
                    return found
            found = self.journal.claim(wanted, is_taken, lease=self._first_lease())
            if found is None:
                self._lease_is_written = True
                self._computing.add((wanted.identity, wanted.code))
            return found

    def refuse_foreign(self, reader: Reader, run: RunRow) -> None:
        """Refuse to execute anything for a run that this user did not begin.

        Raises:
            UntrustedRun: it was begun by somebody else, or before runs were signed.
        """
        if not own_runs(self.signer, reader, [run]):
            raise untrusted(run, self.journal.location)

    def instant(self, microseconds: int) -> datetime:
        """Return an instant of the journal as a person reads it."""
        return EPOCH + timedelta(microseconds=microseconds)

    def send(self, run_id: RunId, name: str) -> None:
        """Ask something of the owner of a run."""
        with self._lock:
            self._refuse_closed()
            self.journal.send(Signal(run_id=run_id, name=name, sent_at=self.clock.now(), sent_by=self.owner))

    def resign(self, codec: str, macs: dict[ValueId, bytes]) -> int:
        """Replace the signatures of stored values; return how many there were."""
        with self._lock:
            self._refuse_closed()
            return self.journal.resign_values(codec, macs)

    def change_token(self) -> int:
        """Return a number that differs after another engine has committed."""
        with self._lock:
            return 0 if self._closed_because is not None else self.journal.change_token()

    def beat(self) -> None:
        """Write a sign of life, if this engine has written anything yet."""
        with self._lock:
            if self._lease_is_written and self._closed_because is None:
                self.journal.write_lease(replace(self.lease, heartbeat_at=self.clock.now()))

    @contextmanager
    def current(self) -> Iterator[Reader]:
        """Read, with nobody of this process writing meanwhile."""
        with self._lock:
            self._refuse_closed()
            with self.journal.current() as reader:
                yield reader

    def value(self, value_id: ValueId) -> StoredValue | None:
        """Return a stored value with its content."""
        with self.current() as reader:
            return reader.values([value_id]).get(value_id)

    def read(self, value_id: ValueId) -> Any:
        """Return a stored value, decoded.

        Raises:
            ValueUnreadable: it is missing or damaged, or its class does not exist here.
        """
        stored = self.value(value_id)
        if stored is None:
            raise ValueUnreadable("a result is missing in the journal; put the journal back from a copy")
        return self.values.decode(stored)

    def definition(self, definition_id: Digest) -> StoredDefinition | None:
        """Return what the journal keeps of a flow, or of the code of a step."""
        with self.current() as reader:
            return reader.definition(definition_id)

    def is_owner_alive(self, reader: Reader, owner: str | None) -> bool:
        """Tell whether somebody who owns runs still lives."""
        if owner is None:
            return False
        return owner == self.owner or is_alive(reader.leases().get(owner), now=self.clock.now())

    def possible_owners(self, reader: Reader) -> Collection[str]:
        """Return the owners that are not known to be dead; of work, which has a lease of its own, they are believed."""
        return {owner for owner, lease in reader.leases().items() if may_live(lease)} | {self.owner}

    def new_run_id(self) -> RunId:
        """Return a fresh run id."""
        return run_id(self.entropy(RUN_ID_ENTROPY_BYTES))

    def close(self, because: str, *, abandon: bool = False) -> None:
        """Give up the lease and the connection; `abandon` leaves both alone, as a forked child must."""
        if abandon:
            self._closed_because = because
            return
        with self._lock:
            if self._closed_because is None:
                self._closed_because = because
                give_up(self.owner)
                try:
                    if self._lease_is_written:
                        self.journal.release(self.owner)
                except JournalError as error:  # a file that was ruined holds no lease to give back
                    logger().warning("the lease of %s could not be given back: %s", self.owner, error)
                finally:
                    self.journal.close()

    def _with_signatures(self, entry: RunCommit) -> RunCommit:
        # The code of a step is only ever shown.
        signed = [signature_of_definition(self.signer, each) for each in entry.definitions if each.kind != "step"]
        return replace(entry, values=(*entry.values, *signed))

    def _first_lease(self) -> Lease | None:
        """Return the lease if it is not written yet; then those of owners that ended without a word are taken away."""
        if self._lease_is_written:
            return None
        with self.journal.current() as reader:
            gone = [owner for owner, lease in reader.leases().items() if is_gone(lease, now=self.clock.now())]
        if gone:
            self.journal.release(*gone)
        return replace(self.lease, heartbeat_at=self.clock.now())

    def _refuse_closed(self) -> None:
        if self._is_exchanging:  # the lock lets this thread in again, and the transaction would be lost
            raise DecisionError(
                "decide and evolve were asked to write or read the journal; they are pure: let decide say what "
                "happened and which effects follow, and do the rest in a handler"
            )
        if self._closed_because is not None:
            raise EngineClosed(
                f"the engine of {self.journal.location} can't be used any more: {self._closed_because}; open the "
                "journal again with iron.open(...) or iron.use(...)"
            )
