"""Effects and timers: claimed from the queue, performed outside of any transaction, settled in one.

A claim counts as an attempt before the attempt begins, so that an effect that kills its process is not tried for ever.
Other processes respect a claim until its lease ends or the process of its owner is dead. A performer settles work only
if its claim still holds; otherwise it changes nothing. The command that an effect returns is decided in the transaction
that settles the effect.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ironflow_nb.core.events import EffectSettled, TimerFired
from ironflow_nb.core.identity import RunId, ValueId
from ironflow_nb.core.status import EffectOutcome
from ironflow_nb.deciders.commands import CommandEnvelope, DecisionTransaction, WorkKind, exchange
from ironflow_nb.deciders.decider_definition import AnyDecider, Handler
from ironflow_nb.deciders.instances import InstanceChanges
from ironflow_nb.errors import EngineClosed, EventUnreadable
from ironflow_nb.execution import Engine, call_body, logger
from ironflow_nb.journal.ports import QueueItem, QueueSelect, Reader, RunCommit, Select
from ironflow_nb.values.failures import store_failure
from ironflow_nb.values.signed_pickles import Signer
from ironflow_nb.values.stored_value import StoredValue

TIMER_HANDLER: Final = Handler(
    perform=lambda: None, attempts=5, delay_s=1.0, max_delay_s=300.0, lease_s=300.0, takes_context=False
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectContext:
    """The second argument of a handler: instance, attempt (from 1), and a key that all attempts share."""

    decider: str
    instance: str
    effect_id: str
    attempt: int
    created_at: datetime

    @property
    def idempotency_key(self) -> str:
        """The key by which an external service recognises attempts of the same effect."""
        return f"{self.decider}:{self.instance}:{self.effect_id}"

    @property
    def is_retry(self) -> bool:
        """Whether it is a later attempt than the first."""
        return self.attempt > 1


@dataclass(frozen=True, slots=True)
class ClaimedWork:
    """Work that this process has claimed, with its payload. `data` is JSON text; None if it is damaged."""

    decider: AnyDecider
    work: QueueItem
    instance: str
    name: str
    data: str | None

    @property
    def source(self) -> str:
        """The sender of its command in observations."""
        return f"timer {self.work.key}" if self.work.kind == WorkKind.TIMER else f"effect {self.name}"

    @property
    def handler(self) -> Handler:
        """The handler that performs it."""
        return handler_of(self.decider, self.work)

    def decode(self) -> Any:
        """Return the effect, or the command of the timer.

        Raises:
            EventUnreadable: the payload is damaged, or does not fit its class.
        """
        if self.data is None:
            raise EventUnreadable(
                f"the payload of {self.work.kind} {self.work.key} of {self.decider.name} {self.instance} is missing in "
                "the journal, or damaged; put the journal back from a copy"
            )
        codec = self.decider.command_codec if self.work.kind == WorkKind.TIMER else self.decider.effect_codec
        return codec.decode(self.name, self.data)


def handler_of(decider: AnyDecider, work: QueueItem) -> Handler:
    """Return the handler of the work."""
    return TIMER_HANDLER if work.kind == WorkKind.TIMER else decider.handlers[work.key.partition("/")[0]]


def is_held(work: QueueItem, alive: Collection[str], now: int) -> bool:
    """Return True if a live process holds the lease of the work."""
    return work.owner in alive and (work.leased_until or 0) > now


def _stored_payload(reader: Reader, work: QueueItem) -> StoredValue | None:
    assert work.payload_id is not None
    return reader.values([work.payload_id]).get(work.payload_id)


def _payload_text(reader: Reader, work: QueueItem) -> tuple[str, str | None]:
    """Return the name of the class and the JSON text of the payload; None for a text that is damaged."""
    found = _stored_payload(reader, work)
    if found is None or found.content is None:
        return work.key.partition("/")[0], None
    fields = msgspec.json.decode(found.content, type=_Payload)
    return fields.type, bytes(fields.data).decode()


def _is_own(reader: Reader, signer: Signer, work: QueueItem) -> bool:
    """Return True if this user has signed the payload for this run and key. Damaged work counts as own."""
    found = _stored_payload(reader, work)
    if found is None or found.content is None:
        return True
    if not signer.is_own(found.codec, found.content, found.mac):
        return False
    fields = msgspec.json.decode(found.content, type=_Payload)
    return fields.run in {None, work.run_id} and fields.key in {None, work.key}


class _Payload(msgspec.Struct):
    type: str
    data: msgspec.Raw
    run: str | None = None
    key: str | None = None


BUSY_US: Final = 100_000
"""The time after which work that another process holds is looked at again."""
UNTRUSTED_US: Final = 10_000_000
"""The time after which signatures of work of other users are checked again."""


class Performer:
    """Performs the due work of a decider. Several performers may run at once, in any process."""

    def __init__(self, engine: Engine, decider: AnyDecider) -> None:
        self._engine = engine
        self._decider = decider
        self._performing: list[ClaimedWork] = []
        self._claimed: list[ClaimedWork] = []
        self._may_continue: Callable[[], bool] = _always
        self._last_now: int | None = None
        self.foreign: set[int] = set()
        self._foreign_found_at = 0

    def perform_all(self, *, may_continue: Callable[[], bool] = lambda: True) -> int:
        """Perform due work one by one, until none is left or `may_continue` returns False; return the number."""
        self._may_continue = may_continue
        n_performed = 0
        try:
            self._claim()
            while self._claimed:
                self._engine.interrupts.check()  # raises before the attempt begins: the claim is released unused
                self._performing = self._claimed
                self._finish(self._claimed[0])
                self._performing = []
                n_performed += 1
                if not self._claimed:
                    self._claim()
        except BaseException:
            self._release_claims()
            raise
        return n_performed

    def _finish(self, claimed: ClaimedWork) -> None:
        """Perform, fire or fail the work, and claim the next in the same transaction."""
        handler = claimed.handler
        if claimed.work.attempts > handler.attempts:
            tried = replace(claimed.work, attempts=handler.attempts)
            error = RuntimeError(
                f"{handler.attempts} attempts are used up; the last one was interrupted, lost its process, or took "
                "longer than its lease"
            )
            self._fail(claimed, error, after=tried)
        elif claimed.work.kind == WorkKind.TIMER:
            self._fire_timer(claimed)
        else:
            self._perform_effect(claimed)

    def next_due_at(self) -> int | None:
        """Return the next instant at which work may be due here (microseconds UTC), or None if none is queued."""
        access = self._engine.access
        with self._engine.reading() as reader:
            now, alive = access.clock.now(), access.possible_owners(reader)
            waiting = self._waiting(reader)
        instants = (now + BUSY_US if is_held(work, alive, now) else work.due_at for work in waiting)
        return min(instants, default=None)

    # -- claiming ------------------------------------------------------------------------------------------------

    def _select(self, **conditions: Any) -> QueueSelect:
        decider = self._decider
        return QueueSelect(of=[(decider.kind, decider.name)], effects=set(decider.handlers), **conditions)

    def _waiting(self, reader: Reader) -> list[QueueItem]:
        mine = self._select(is_dead=False, without=self.foreign)
        return [work for work in reader.work(mine) if work.kind in {WorkKind.EFFECT, WorkKind.TIMER}]

    def _next(self, reader: Reader) -> QueueItem | None:
        """Return the work that is due for the longest time, or None. Work of other users is left out."""
        access = self._engine.access
        now = access.clock.now()
        if self.foreign and not 0 <= now - self._foreign_found_at <= UNTRUSTED_US:
            self.foreign.clear()
        due = self._select(claimable_at=now, alive=access.possible_owners(reader), limit=1)
        while found := reader.work(replace(due, without=self.foreign)):
            if _is_own(reader, access.signer, found[0]):
                return found[0]
            assert found[0].work_id is not None
            self.foreign.add(found[0].work_id)
            self._foreign_found_at = now
        return None

    def _claim(self) -> None:
        self._claimed = []
        if not self._may_continue():
            return
        self._correct_due_times()
        with self._engine.access.current() as reader:
            is_idle = self._next(reader) is None
        if not is_idle:  # an idle performer takes no write lock
            self._engine.access.exchange(lambda reader: self._claim_due(reader, set()), self._engine.durability)

    def _correct_due_times(self) -> None:
        """Shorten waits that have become too long because the clock was set back after the work was queued."""
        now, before = self._engine.access.clock.now(), self._last_now
        self._last_now = now
        if before is None or now < before:
            with self._engine.access.current() as reader:
                is_late = bool(self._corrections(reader))
            if is_late:
                self._engine.access.exchange(self._corrections, self._engine.durability)

    def _corrections(self, reader: Reader) -> list[RunCommit]:
        now, alive = self._engine.access.clock.now(), self._engine.access.possible_owners(reader)
        due = {work: now + self._longest_wait(work) for work in self._waiting(reader) if not is_held(work, alive, now)}
        late = [
            replace(work, due_at=at, created_at=min(work.created_at, now))
            for work, at in due.items()
            if work.due_at > at
        ]
        return [RunCommit(run_id=work.run_id, events=(), put_work=(work,)) for work in late]

    def _longest_wait(self, work: QueueItem) -> int:
        if not work.attempts:
            return work.due_at - work.created_at
        return round(handler_of(self._decider, work).max_delay_s * 1e6)

    def _claim_due(self, reader: Reader, changed: Collection[RunId]) -> list[RunCommit]:
        """Claim the work that is due next.

        Work of an instance in `changed` is not claimed: this transaction may take it off the queue.
        """
        work = self._next(reader) if self._may_continue() else None
        self._claimed = [] if work is None or work.run_id in changed else [self._claim_of(reader, work)]
        return [RunCommit(run_id=claimed.work.run_id, events=(), put_work=(claimed.work,)) for claimed in self._claimed]

    def _claim_of(self, reader: Reader, work: QueueItem) -> ClaimedWork:
        name, data = _payload_text(reader, work)
        instance = reader.runs(Select(run_ids=[work.run_id]))[0].key or ""
        claimed = ClaimedWork(self._decider, work, instance, name, data)
        access = self._engine.access
        leased_until = access.clock.now() + round(claimed.handler.lease_s * 1e6)
        taken = replace(work, owner=access.owner, leased_until=leased_until, attempts=work.attempts + 1)
        return dataclasses.replace(claimed, work=taken)

    def _release_claims(self) -> None:
        """Release all claims. Work that was begun keeps its attempt."""
        for claimed in self._performing:
            self._release(claimed, claimed.work.attempts)
        for claimed in self._claimed:
            if claimed not in self._performing:
                self._release(claimed, claimed.work.attempts - 1)

    def _release(self, claimed: ClaimedWork, n_attempts: int) -> None:
        def act(transaction: DecisionTransaction) -> None:
            if self._is_claim_valid(transaction, claimed):
                free = replace(claimed.work, owner=None, leased_until=None, attempts=n_attempts)
                transaction.instance(claimed.instance).put_work(free)

        exchange(self._engine, claimed.decider, act)

    # -- performing ----------------------------------------------------------------------------------------------

    def _perform_effect(self, claimed: ClaimedWork) -> None:
        try:
            effect = claimed.decode()
            command = self._call_handler(claimed, effect)
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- any error of a handler is a failure of the effect
            self._fail(claimed, error)
            return
        try:
            self._settle(claimed, command)
        except EngineClosed:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- its command can't be decided
            self._fail(claimed, error)

    def _call_handler(self, claimed: ClaimedWork, effect: Any) -> Any:
        handler, work = claimed.handler, claimed.work
        context = EffectContext(
            decider=claimed.decider.name,
            instance=claimed.instance,
            effect_id=work.key.partition("/")[2],
            attempt=work.attempts,
            created_at=self._engine.access.instant(work.created_at),
        )
        result = call_body(handler.perform, (effect, context) if handler.takes_context else (effect,), {})
        if not inspect.iscoroutine(result):
            return result
        future = self._engine.spawn(result)
        try:
            return call_body(future.result, (), {})
        except BaseException:
            future.cancel()  # after an interrupt; no effect on a coroutine that has ended
            raise

    def _fire_timer(self, claimed: ClaimedWork) -> None:
        try:
            self._settle(claimed, claimed.decode())
        except EngineClosed:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001
            self._fail(claimed, error)

    def _settle(self, claimed: ClaimedWork, command: Any) -> None:
        """Take the work off the queue and decide the command, if the claim is still valid."""

        def act(transaction: DecisionTransaction) -> None:
            if self._is_claim_valid(transaction, claimed):
                changes = transaction.instance(claimed.instance)
                self._add_settled(changes, claimed, EffectOutcome.PERFORMED)
                changes.remove_work(claimed.work.kind, claimed.work.key)
                if command is not None:
                    transaction.decide(CommandEnvelope(command=command, source=claimed.source))
            self._claim_next(transaction)

        exchange(self._engine, claimed.decider, act)

    def _claim_next(self, transaction: DecisionTransaction) -> None:
        changed = {each.run_id for each in transaction.changes}
        transaction.other_commits += self._claim_due(transaction.reader, changed)

    @staticmethod
    def _add_settled(changes: InstanceChanges, claimed: ClaimedWork, outcome: EffectOutcome) -> None:
        if claimed.work.kind == WorkKind.TIMER:
            changes.add(TimerFired(key=claimed.work.key))
        else:
            changes.add(EffectSettled(effect_id=claimed.work.key.partition("/")[2], outcome=outcome))

    def _is_claim_valid(self, transaction: DecisionTransaction, claimed: ClaimedWork) -> bool:
        mine = claimed.work
        for work in transaction.reader.work(QueueSelect(run_ids=[mine.run_id], kind=mine.kind, key=mine.key)):
            return (work.owner, work.attempts, work.due_at) == (mine.owner, mine.attempts, mine.due_at)
        return False

    # -- failing -------------------------------------------------------------------------------------------------

    def _fail(self, claimed: ClaimedWork, error: BaseException, *, after: QueueItem | None = None) -> None:
        """Queue the work for another attempt, or make it a dead letter; `after` replaces the claimed item."""
        work = after or claimed.work
        is_dead = work.attempts >= claimed.handler.attempts
        try:
            command = self._dead_letter_command(claimed, error) if is_dead else None
            self._record_failure(claimed, work, error, command)
        except EngineClosed:
            raise
        except (Exception, SystemExit) as second_error:
            if not is_dead:
                raise
            logger().warning("%s: the command of its dead letter can't be decided: %r", claimed.source, second_error)
            self._record_failure(claimed, work, error, None)

    @staticmethod
    def _dead_letter_command(claimed: ClaimedWork, error: BaseException) -> Any:
        on_dead_letter = claimed.handler.on_dead_letter
        return None if on_dead_letter is None else call_body(on_dead_letter, (claimed.decode(), error), {})

    def _record_failure(self, claimed: ClaimedWork, work: QueueItem, error: BaseException, command: Any) -> None:
        stored = store_failure(error)
        failed = self._failed_item(work, claimed.handler, stored.value_id)

        def act(transaction: DecisionTransaction) -> None:
            if self._is_claim_valid(transaction, claimed):
                changes = transaction.instance(claimed.instance)
                changes.add_value(stored)
                changes.put_work(failed)
                if failed.dead_at is not None and work.kind == WorkKind.EFFECT:
                    self._add_settled(changes, claimed, EffectOutcome.DEAD)
                if command is not None:
                    transaction.decide(CommandEnvelope(command=command, source=f"dead {claimed.source}"))
            self._claim_next(transaction)

        exchange(self._engine, claimed.decider, act)

    def _failed_item(self, work: QueueItem, handler: Handler, error_id: ValueId) -> QueueItem:
        now = self._engine.access.clock.now()
        free = replace(work, owner=None, leased_until=None, error_id=error_id)
        if work.attempts >= handler.attempts:
            return replace(free, dead_at=now)
        delay_s = min(handler.delay_s * 2.0 ** min(work.attempts - 1, 60), handler.max_delay_s)
        return replace(free, due_at=now + round(delay_s * 1e6))


def _always() -> bool:
    return True
