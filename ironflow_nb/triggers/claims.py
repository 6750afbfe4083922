"""Claims of due items: attempts are counted before they begin; after the last failure an item is a dead letter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from ironflow_nb.core.wait_rules import StartKind
from ironflow_nb.errors import NotRetryable
from ironflow_nb.execution import Engine, watch
from ironflow_nb.journal.ports import Addition, QueueItem, QueueSelect, Reader, RunCommit
from ironflow_nb.triggers.trigger_rows import ReplacedItem
from ironflow_nb.values.stored_value import StoredValue

LEASE_S: Final = 60.0
ATTEMPTS: Final = 5
_DELAY_S: Final = 1.0


def claim(engine: Engine, item: QueueItem, *, lease_s: float = LEASE_S) -> QueueItem | None:
    """Claim an item of the queue of work and count the attempt; return None if it is not free, or is gone."""
    claimed: list[QueueItem] = []

    def act(reader: Reader) -> Sequence[RunCommit]:
        now, alive = engine.clock.now(), engine.access.possible_owners(reader)
        found = reader.work(QueueSelect(run_ids=[item.run_id], kind=item.kind, key=item.key, is_dead=False))
        claimed[:] = [
            replace(each, owner=engine.owner, leased_until=now + round(lease_s * 1e6), attempts=each.attempts + 1)
            for each in found
            if each.due_at <= now and each.is_free(alive, now)
        ]
        return [RunCommit(run_id=each.run_id, events=(), put_work=(each,)) for each in claimed]

    engine.access.exchange(act, engine.durability)
    return claimed[0] if claimed else None


def give_back(engine: Engine, claimed: QueueItem) -> None:
    """Give a claim back unused: nothing was tried."""
    free = replace(claimed, owner=None, leased_until=None, attempts=claimed.attempts - 1)
    settle(engine, claimed, ReplacedItem(claimed=claimed, following=(free,)))


def settle(engine: Engine, claimed: QueueItem, *additions: Addition, values: tuple[StoredValue, ...] = ()) -> None:
    """Write rows of triggers in one transaction, the end of the claim among them.

    Raises:
        JournalConflict: the claim is lost.
    """
    commit = RunCommit(run_id=claimed.run_id, events=(), additions=additions, values=values)
    engine.access.append([commit], engine.durability)


def requeue_dead(engine: Engine, kind: str, name: str, *, key: str | None) -> int:
    """Put the dead letters of a flow or graph back on the queue, with all their attempts; return their number.

    They are instants and events that started no run of it, and calls after the ends of its runs. `key` selects one of
    those that `work` shows.
    """
    found: list[QueueItem] = []

    def act(reader: Reader) -> Sequence[RunCommit]:
        calls = reader.work(QueueSelect(of=[(kind, name)], kind=StartKind.NOTIFICATION, is_dead=True))
        starts = reader.work(QueueSelect(key=f"{kind} {name}", is_dead=True))
        dead = [*((item.key, item) for item in calls), *((str(item.run_id), item) for item in starts)]
        now = engine.clock.now()
        found[:] = [
            replace(item, attempts=0, dead_at=None, error_id=None, due_at=now)
            for shown, item in dead
            if key in {None, shown}
        ]
        return [RunCommit(run_id=item.run_id, events=(), put_work=(item,)) for item in found]

    engine.access.exchange(act, engine.durability)
    watch(engine)
    return len(found)


def is_last(claimed: QueueItem, error: BaseException) -> bool:
    """Return True if the claimed item is not tried again after the error."""
    return claimed.attempts >= ATTEMPTS or isinstance(error, NotRetryable)


def failed(engine: Engine, claimed: QueueItem, error: BaseException, stored: StoredValue) -> QueueItem:
    """Return the item after a failed attempt: queued for another one, or a dead letter."""
    now = engine.clock.now()
    free = replace(claimed, owner=None, leased_until=None, error_id=stored.value_id)
    if is_last(claimed, error):
        return replace(free, dead_at=now)
    return replace(free, due_at=now + round(_DELAY_S * 2 ** (claimed.attempts - 1) * 1e6), created_at=now)
