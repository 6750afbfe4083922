"""Effects and timers: claimed from the queue, performed outside of any transaction, settled in one.

What is claimed counts as an attempt before it begins, so that what kills its process is not tried for ever. A claim
binds others until its lease has run out, or its process has died. Who settles looks first whether the claim is still
his; if it is not, nothing is changed. Settling, and transaction the command that an effect came to, is one transaction.

Work that was claimed: an effect to perform or a timer to fire, and what it is about.
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
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.deciders.commands import EFFECT, TIMER, CommandEnvelope, DecisionTransaction, exchange
from ironflow_nb.deciders.decider_definition import AnyDecider, Handler
from ironflow_nb.deciders.instances import InstanceChanges
from ironflow_nb.errors import EngineClosed, EventUnreadable
from ironflow_nb.execution import Engine, call_body, logger
from ironflow_nb.journal.ports import QueueItem, QueueSelect, Reader, RunCommit, Select
from ironflow_nb.values.failures import store_failure
from ironflow_nb.values.signed_pickles import Signer

TIMER_HANDLER: Final = Handler(
    perform=lambda: None, attempts=5, delay_s=1.0, max_delay_s=300.0, lease_s=300.0, takes_context=False
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectContext:
    """An effect on its way: for which instance, which attempt, and the key that all attempts share."""

    decider: str
    instance: str
    effect_id: str
    attempt: int
    created_at: datetime

    @property
    def idempotency_key(self) -> str:
        """What tells a service outside that two attempts are one effect."""
        return f"{self.decider}:{self.instance}:{self.effect_id}"

    @property
    def is_retry(self) -> bool:
        """Tell whether it was tried before."""
        return self.attempt > 1


@dataclass(frozen=True, slots=True)
class ClaimedWork:
    """Work that this process has taken, with what it is about."""

    decider: AnyDecider
    work: QueueItem
    instance: str
    name: str
    data: str | None

    @property
    def source(self) -> str:
        """What observations call it."""
        return f"timer {self.work.key}" if self.work.kind == TIMER else f"effect {self.name}"

    @property
    def handler(self) -> Handler:
        """How it is performed."""
        return handler_of(self.decider, self.work)

    def decoded(self) -> Any:
        """Return the effect, or the command of the timer.

        Raises:
            EventUnreadable: it is damaged, or does not fit its class.
        """
        if self.data is None:
            raise EventUnreadable(
                f"what the {self.work.kind} {self.work.key} of {self.decider.name} {self.instance} is about is missing "
                "in the journal, or damaged; put the journal back from a copy"
            )
        codec = self.decider.command_codec if self.work.kind == TIMER else self.decider.effect_codec
        return codec.decode(self.name, self.data)


def handler_of(decider: AnyDecider, work: QueueItem) -> Handler:
    """Return how the work is performed."""
    return TIMER_HANDLER if work.kind == TIMER else decider.handlers[work.key.partition("/")[0]]


def is_held(work: QueueItem, alive: Collection[str], now: int) -> bool:
    """Tell whether somebody is working on it."""
    return work.owner in alive and (work.leased_until or 0) > now


def run_of(reader: Reader, work: QueueItem) -> RunRow:
    """Return the instance that the work is of."""
    return reader.runs(Select(run_ids=[work.run_id]))[0]


def payload(reader: Reader, work: QueueItem) -> tuple[str, str | None]:
    """Return the class and the JSON text of what the work is about; of one that is damaged, no text."""
    assert work.payload_id is not None
    found = reader.values([work.payload_id]).get(work.payload_id)
    if found is None or found.content is None:
        return work.key.partition("/")[0], None
    fields = msgspec.json.decode(found.content, type=_Payload)
    return fields.type, bytes(fields.data).decode()


def is_own(reader: Reader, signer: Signer, work: QueueItem) -> bool:
    """Tell whether this user put the work on the queue, in this very place; whose damaged work is, nobody can tell."""
    assert work.payload_id is not None
    found = reader.values([work.payload_id]).get(work.payload_id)
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
"""After so long one looks again at what somebody else is working on."""
UNTRUSTED_US: Final = 10_000_000
"""After so long one looks again whether what somebody else put on the queue is trusted by now."""


class Performer:
    """Performs what is due for a decider. Several may work side by side, in any process."""

    def __init__(self, engine: Engine, decider: AnyDecider) -> None:
        self._engine = engine
        self._decider = decider
        self._in_hand: list[ClaimedWork] = []
        self._held: list[ClaimedWork] = []
        self._goes_on: Callable[[], bool] = _always
        self._looked_at: int | None = None
        self.foreign: set[int] = set()
        self._sorted_out_at = 0

    def perform_all(self, *, goes_on: Callable[[], bool] = lambda: True) -> int:
        """Perform what is due, one after the other, until nothing is or `goes_on` says no; return how many things."""
        self._goes_on = goes_on
        n_performed = 0
        try:
            self._claim()
            while self._held:
                self._engine.interrupts.check()  # what is held, and has not begun, is given back as it was
                self._in_hand = self._held
                self._end(self._held[0])
                self._in_hand = []
                n_performed += 1
                if not self._held:
                    self._claim()
        except BaseException:
            self._give_back()
            raise
        return n_performed

    def _end(self, claimed: ClaimedWork) -> None:
        """Bring it to its end, whatever that is; what is due next is claimed with it."""
        handler = claimed.handler
        if claimed.work.attempts > handler.attempts:
            tried = replace(claimed.work, attempts=handler.attempts)
            error = RuntimeError(
                f"{handler.attempts} attempts are over, and the last one was interrupted, lost its process, or took "
                "longer than its lease"
            )
            self._fail(claimed, error, after=tried)
        elif claimed.work.kind == TIMER:
            self._fire(claimed)
        else:
            self._perform(claimed)

    def next_look_at(self) -> int | None:
        """Return when something may be due that can be performed here, in microseconds UTC; None if nothing waits."""
        access = self._engine.access
        with self._engine.reading() as reader:
            now, alive = access.clock.now(), access.possible_owners(reader)
            waiting = self._waiting(reader)
        looks = (now + BUSY_US if is_held(work, alive, now) else work.due_at for work in waiting)
        return min(looks, default=None)

    # -- claiming ------------------------------------------------------------------------------------------------

    def _of_mine(self, **narrowed: Any) -> QueueSelect:
        decider = self._decider
        return QueueSelect(of=[(decider.kind, decider.name)], effects=set(decider.handlers), **narrowed)

    def _waiting(self, reader: Reader) -> list[QueueItem]:
        mine = self._of_mine(is_dead=False, without=self.foreign)
        return [work for work in reader.work(mine) if work.kind in {EFFECT, TIMER}]

    def _next(self, reader: Reader) -> QueueItem | None:
        """Return what is due for longest; a unique key is never due, nor is what somebody else put on the queue."""
        access = self._engine.access
        now = access.clock.now()
        if self.foreign and not 0 <= now - self._sorted_out_at <= UNTRUSTED_US:
            self.foreign.clear()
        due = self._of_mine(claimable_at=now, alive=access.possible_owners(reader), limit=1)
        while found := reader.work(replace(due, without=self.foreign)):
            if is_own(reader, access.signer, found[0]):
                return found[0]
            assert found[0].work_id is not None
            self.foreign.add(found[0].work_id)
            self._sorted_out_at = now
        return None

    def _claim(self) -> None:
        self._held = []
        if not self._goes_on():
            return
        self._set_times_anew()
        with self._engine.access.current() as reader:
            is_idle = self._next(reader) is None
        if not is_idle:  # so that who only looks takes no lock of who writes
            self._engine.access.exchange(lambda reader: self._claims(reader, set()), self._engine.durability)

    def _set_times_anew(self) -> None:
        """Let nothing wait longer than it was to wait, if the clock may have been set back since it was put down."""
        now, before = self._engine.access.clock.now(), self._looked_at
        self._looked_at = now
        if before is None or now < before:
            with self._engine.access.current() as reader:
                is_late = bool(self._late(reader))
            if is_late:
                self._engine.access.exchange(self._late, self._engine.durability)

    def _late(self, reader: Reader) -> list[RunCommit]:
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

    def _claims(self, reader: Reader, changed: Collection[RunId]) -> list[RunCommit]:
        """Claim what is due next, unless this transaction changes its instance: then it may not be due any more."""
        work = self._next(reader) if self._goes_on() else None
        self._held = [] if work is None or work.run_id in changed else [self._claimed(reader, work)]
        return [RunCommit(run_id=claimed.work.run_id, events=(), put_work=(claimed.work,)) for claimed in self._held]

    def _claimed(self, reader: Reader, work: QueueItem) -> ClaimedWork:
        name, data = payload(reader, work)
        claimed = ClaimedWork(self._decider, work, run_of(reader, work).key or "", name, data)
        access = self._engine.access
        leased_until = access.clock.now() + round(claimed.handler.lease_s * 1e6)
        taken = replace(work, owner=access.owner, leased_until=leased_until, attempts=work.attempts + 1)
        return dataclasses.replace(claimed, work=taken)

    def _give_back(self) -> None:
        """Let others, or the next cell, take what was not brought to its end; what was begun counts as tried."""
        for claimed in self._in_hand:
            self._let_go(claimed, claimed.work.attempts)
        for claimed in self._held:
            if claimed not in self._in_hand:
                self._let_go(claimed, claimed.work.attempts - 1)

    def _let_go(self, claimed: ClaimedWork, n_attempts: int) -> None:
        def act(transaction: DecisionTransaction) -> None:
            if self._is_ours(transaction, claimed):
                free = replace(claimed.work, owner=None, leased_until=None, attempts=n_attempts)
                transaction.instance(claimed.instance).put_work(free)

        exchange(self._engine, claimed.decider, act)

    # -- performing ----------------------------------------------------------------------------------------------

    def _perform(self, claimed: ClaimedWork) -> None:
        try:
            effect = claimed.decoded()
            command = self._called(claimed, effect)
        except Exception as error:  # noqa: BLE001 -- whatever a handler raises is a failure of the effect
            self._fail(claimed, error)
            return
        try:
            self._settle(claimed, command, "performed")
        except EngineClosed:
            raise
        except Exception as error:  # noqa: BLE001 -- what it came to can't be decided: it is performed again
            self._fail(claimed, error)

    def _called(self, claimed: ClaimedWork, effect: Any) -> Any:
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
            future.cancel()  # an interrupt ends the waiting; what has ended by itself can't be cancelled
            raise

    def _fire(self, claimed: ClaimedWork) -> None:
        try:
            self._settle(claimed, claimed.decoded(), "fired")
        except EngineClosed:
            raise
        except Exception as error:  # noqa: BLE001
            self._fail(claimed, error)

    def _settle(self, claimed: ClaimedWork, command: Any, outcome: str) -> None:
        """Take the work off the queue, and decide what it came to, if it is still ours."""

        def act(transaction: DecisionTransaction) -> None:
            if self._is_ours(transaction, claimed):
                changes = transaction.instance(claimed.instance)
                self._note_settled(changes, claimed, outcome)
                changes.remove_work(claimed.work.kind, claimed.work.key)
                if command is not None:
                    transaction.decide(CommandEnvelope(command=command, source=claimed.source))
            self._claim_next(transaction)

        exchange(self._engine, claimed.decider, act)

    def _claim_next(self, transaction: DecisionTransaction) -> None:
        changed = {each.run_id for each in transaction.changes}
        transaction.other_commits += self._claims(transaction.reader, changed)

    @staticmethod
    def _note_settled(changes: InstanceChanges, claimed: ClaimedWork, outcome: str) -> None:
        if claimed.work.kind == TIMER:
            changes.add(TimerFired(key=claimed.work.key))
        else:
            changes.add(EffectSettled(effect_id=claimed.work.key.partition("/")[2], outcome=outcome))

    def _is_ours(self, transaction: DecisionTransaction, claimed: ClaimedWork) -> bool:
        mine = claimed.work
        for work in transaction.reader.work(QueueSelect(run_ids=[mine.run_id], kind=mine.kind, key=mine.key)):
            return (work.owner, work.attempts, work.due_at) == (mine.owner, mine.attempts, mine.due_at)
        return False

    # -- failing -------------------------------------------------------------------------------------------------

    def _fail(self, claimed: ClaimedWork, error: BaseException, *, after: QueueItem | None = None) -> None:
        """Let the work be tried again after a while, or be dead; `after` is the work as it is to be kept."""
        work = after or claimed.work
        is_dead = work.attempts >= claimed.handler.attempts
        try:
            command = self._last_word(claimed, error) if is_dead else None
            self._record_failure(claimed, work, error, command)
        except EngineClosed:
            raise
        except Exception as trouble:
            if not is_dead:
                raise
            logger().warning("%s: what its dead letter came to can't be decided: %r", claimed.source, trouble)
            self._record_failure(claimed, work, error, None)

    @staticmethod
    def _last_word(claimed: ClaimedWork, error: BaseException) -> Any:
        answer = claimed.handler.on_dead_letter
        return None if answer is None else call_body(answer, (claimed.decoded(), error), {})

    def _record_failure(self, claimed: ClaimedWork, work: QueueItem, error: BaseException, command: Any) -> None:
        stored = store_failure(error)
        failed = self._failed(work, claimed.handler, stored.value_id)

        def act(transaction: DecisionTransaction) -> None:
            if self._is_ours(transaction, claimed):
                changes = transaction.instance(claimed.instance)
                changes.add_value(stored)
                changes.put_work(failed)
                if failed.dead_at is not None and work.kind == EFFECT:
                    self._note_settled(changes, claimed, "dead")
                if command is not None:
                    transaction.decide(CommandEnvelope(command=command, source=f"dead {claimed.source}"))
            self._claim_next(transaction)

        exchange(self._engine, claimed.decider, act)

    def _failed(self, work: QueueItem, handler: Handler, error_id: ValueId) -> QueueItem:
        now = self._engine.access.clock.now()
        free = replace(work, owner=None, leased_until=None, error_id=error_id)
        if work.attempts >= handler.attempts:
            return replace(free, dead_at=now)
        delay_s = min(handler.delay_s * 2.0 ** min(work.attempts - 1, 60), handler.max_delay_s)
        return replace(free, due_at=now + round(delay_s * 1e6))


def _always() -> bool:
    return True
