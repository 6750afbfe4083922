"""The side of the server: runs are offered to workers, and what their owners commit is recorded.

An offer binds nobody. Who commits the next version of a run, `RunContinued`, has taken it over; that the version is
free proves that nobody else has. So the commits of an owner that was given up come too late, and are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from ironflow_nb.core.event_codec import encode_event
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.errors import InputInvalid, JournalConflict
from ironflow_nb.execution import Engine, FreeRuns
from ironflow_nb.journal.ports import Lease, Reader, RunCommit, Select, Signal
from ironflow_nb.remote.wire_format import (
    BeatMessage,
    ClaimMessage,
    CommitMessage,
    OfferedRun,
    ReceivedSignals,
    SignalMessage,
    WireCommit,
)
from ironflow_nb.retention.exported_run import rows_of_run
from ironflow_nb.values.stored_value import StoredValue

_OFFERED_US: Final = 10_000_000
"""The time for which a run is offered to nobody else; its worker takes it over within it, or has died."""
LEASE_S: Final = 30.0

IsOpen = Callable[[RunRow], bool]
"""Returns True if who asks may execute the run."""


class _RunsOf(FreeRuns):
    """Finds free runs of these definitions, kind and name of each, whether they are defined here or not."""

    def __init__(self, engine: Engine, names: Collection[tuple[str, str]]) -> None:
        super().__init__(engine)
        self._names = set(names)

    def _defines(self, run: RunRow) -> bool:
        return (run.kind, run.name) in self._names


class RunOffers:
    """Offers free runs, each to one worker at a time. Lock: its own, so several requests may ask."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = engine.threads.lock()
        self._until: dict[RunId, int] = {}

    def offer(self, asked: ClaimMessage, is_open: IsOpen) -> list[OfferedRun]:
        """Return free runs that the worker can execute, with all of their rows."""
        engine = self._engine
        with self._lock:  # a run that is taken over after it was found is not offered once more
            found = _RunsOf(engine, asked.names).find() if engine.journal.exists() else []
            now = engine.clock.now()
            self._until = {run_id: until for run_id, until in self._until.items() if until > now}
            taken = {*self._until, *asked.without}
            chosen = [run for run in found if run.run_id not in taken and is_open(run)][: asked.n]
            self._until |= {run.run_id: now + _OFFERED_US for run in chosen}
        return [_offered(engine, run) for run in chosen]

    def end(self, run_ids: Collection[RunId]) -> None:
        """Forget the offers of runs that were taken over: what becomes of them is in the journal."""
        with self._lock:
            for run_id in run_ids:
                self._until.pop(run_id, None)


def _offered(engine: Engine, run: RunRow) -> OfferedRun:
    tables = rows_of_run(engine, run.run_id)
    family = tables["runs"].column("run_id")
    tables.pop("signals", None)  # they are sent with their numbers on the server
    with engine.journal.reading() as reader:
        return OfferedRun(run.run_id, run.durability, tables, ReceivedSignals(_signals(reader, family)))


def _signals(reader: Reader, run_ids: Collection[RunId], after: int = 0) -> list[tuple[Signal, StoredValue | None]]:
    """Return the signals to these runs that nobody has taken, with their payloads."""
    signals = [each for each in reader.signals(run_ids) if (each.signal_id or 0) > after]
    payloads = reader.values([each.payload_id for each in signals if each.payload_id is not None])
    return [(each, payloads.get(each.payload_id) if each.payload_id else None) for each in signals]


def record_commits(engine: Engine, message: CommitMessage, is_open: IsOpen) -> None:
    """Record what the owner of runs commits, and its lease. What was recorded before is not recorded twice.

    Raises:
        JournalConflict: a run is another owner's, or has gone on without it.
        NotGranted: who asks may not execute the run.
        InputInvalid: these are no commits of a worker.
    """
    lease = _with_time(engine, message.lease)
    try:
        given = [(each, each.commit()) for each in message.commits]
    except (KeyError, ValueError, TypeError) as error:
        raise InputInvalid(f"these are no commits of a worker: {error}", name="commits") from error

    def act(reader: Reader) -> Sequence[RunCommit]:
        _refuse_owner(engine, reader, lease)
        known = {row.run_id: row for row in reader.runs(Select(run_ids=[commit.run_id for _, commit in given]))}
        commits = []
        for wire, commit in given:
            row = known.get(commit.run_id)
            if row is not None and row.owner == lease.owner and _is_recorded(reader, wire):
                continue
            if row is None:
                _refuse_stranger(lease, commit, known, reader)
            else:
                _refuse_foreign(engine, reader, lease, commit, row, is_open)
            run = commit.run
            if run is not None and row is not None:  # positions are those of the journal of the worker
                run = replace(run, origin_position=row.origin_position, origin_run_id=row.origin_run_id)
            commits.append(replace(commit, run=run))
            if run is not None:
                known[commit.run_id] = run
        return commits

    engine.access.exchange(act, engine.durability, of=lease)


def _with_time(engine: Engine, lease: Lease) -> Lease:
    """Return the lease as of now: the clock of a worker may be wrong, and it may not ask for more."""
    return replace(lease, heartbeat_at=engine.clock.now(), lease_s=min(max(lease.lease_s, 1.0), LEASE_S))


def _write_lease(engine: Engine, lease: Lease) -> None:
    with engine.access.lock:
        engine.journal.write_lease(lease)


def _refuse_owner(engine: Engine, reader: Reader, lease: Lease) -> None:
    """Refuse the name of an owner that somebody else has."""
    found = reader.leases().get(lease.owner)
    is_other = found is not None and (found.host, found.pid) != (lease.host, lease.pid)
    if lease.owner == engine.owner or is_other:
        raise JournalConflict(f"the owner {lease.owner[:40]} is another process")


def _refuse_stranger(lease: Lease, commit: RunCommit, known: Mapping[RunId, RunRow], reader: Reader) -> None:
    """Refuse the beginning of a run that is no child of a run of its sender."""
    parent_id = RunId("") if commit.run is None else commit.run.parent_run_id or RunId("")
    parents = [known[parent_id]] if parent_id in known else reader.runs(Select(run_ids=[parent_id]))
    if commit.run is None or not any(parent.owner == lease.owner for parent in parents):
        raise InputInvalid(f"run {commit.run_id[:40]} is not here, and no child of a run of this owner", name="run")


def _refuse_foreign(
    engine: Engine, reader: Reader, lease: Lease, commit: RunCommit, row: RunRow, is_open: IsOpen
) -> None:
    """Refuse a commit to a run that its sender does not own and can't take over."""
    is_own = row.owner == lease.owner
    if not is_own and (not commit.events or engine.access.is_owner_alive(reader, row.owner)):
        raise JournalConflict(
            f"run {row.run_id} of {row.name} is another owner's by now; what was done since is not recorded",
            run_id=row.run_id,
        )
    if not is_own and row.parent_run_id is None and not is_open(row):
        raise InputInvalid(f"this key may not execute run {row.run_id} of {row.name}", name=row.name)


def _is_recorded(reader: Reader, wire: WireCommit) -> bool:
    """Return True if the journal has all events of the commit: its answer was lost, and it was sent again."""
    if not wire.events:
        return False
    first, last = wire.events[0].version, wire.events[-1].version
    rows = reader.events(Select(run_ids=[wire.run_id], after_version=first - 1, until_version=last))
    return [(row.version, row.at, row.type, row.data) for row in rows] == [
        (each.version, each.at, *encode_event(each.recorded().event)) for each in wire.events
    ]


def mail_of(engine: Engine, message: BeatMessage) -> ReceivedSignals:
    """Note that the owner lives, if it says so, and return what has come for its runs."""
    lease = _with_time(engine, message.lease)
    with engine.journal.reading() as reader:
        _refuse_owner(engine, reader, lease)
        owners = {row.run_id: row.owner for row in reader.runs(Select(run_ids=message.run_ids))}
        found = _signals(reader, [run for run, owner in owners.items() if owner == lease.owner], message.after)
    if message.is_beat:
        _write_lease(engine, lease)
    kept = {run for run, owner in owners.items() if owner in {lease.owner, None}}  # None: it has ended, or waits
    return ReceivedSignals(found, [run_id for run_id in message.run_ids if run_id not in kept])


def send_for(engine: Engine, message: SignalMessage) -> bool:
    """Send a signal of a run; return False if its receiver has had it, by its id."""
    with engine.access.lock:
        earlier = engine.journal.send(message.signal, message.payload, known=message.known)
    engine.watch()
    return earlier is None


def release_owner(engine: Engine, lease: Lease) -> None:
    """Note that an owner over HTTP has ended, so that its runs are free at once."""
    with engine.journal.reading() as reader:
        _refuse_owner(engine, reader, lease)
    with engine.access.lock:
        engine.journal.release(lease.owner)
