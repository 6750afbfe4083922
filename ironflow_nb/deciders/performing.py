"""Effects and timers: claimed from the queue, performed outside of any transaction, settled in one.

What is claimed counts as an attempt before it begins, so that what kills its process is not tried for ever. A claim
binds others until its lease has run out, or its process has died. Who settles looks first whether the claim is still
his; if it is not, nothing is changed. Settling, and deciding the command that an effect came to, is one transaction.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ironflow_nb.core.events import EffectSettled, TimerFired
from ironflow_nb.core.ids import ValueId
from ironflow_nb.deciders.deciding import EFFECT, TIMER, Deciding, Order
from ironflow_nb.deciders.draft import Draft
from ironflow_nb.deciders.machine import AnyMachine, Handler
from ironflow_nb.deciders.sending import exchange
from ironflow_nb.execution.engine import Engine
from ironflow_nb.journal.ports import Entry, Reader, Select, Work, WorkSelect
from ironflow_nb.values.failures import store_failure

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
class Claimed:
    """Work that this process has taken, with what it is about."""

    machine: AnyMachine
    work: Work
    instance: str
    name: str
    data: str

    @property
    def handler(self) -> Handler:
        """How it is performed."""
        return TIMER_HANDLER if self.work.kind == TIMER else self.machine.handlers[self.name]


class Performer:
    """Performs what is due for the deciders it is given. Several may work side by side, in any process."""

    def __init__(self, engine: Engine, machines: Mapping[str, AnyMachine]) -> None:
        self._engine = engine
        self._machines = machines

    def perform_one(self) -> bool:
        """Perform one thing that is due; return False if there is none."""
        claimed = self._claim()
        if claimed is None:
            return False
        if claimed.work.attempts > claimed.handler.attempts:
            self._fail(claimed, RuntimeError(f"its process ended in each of {claimed.handler.attempts} attempts"))
        elif claimed.work.kind == TIMER:
            self._fire(claimed)
        else:
            self._perform(claimed)
        return True

    def next_due_at(self) -> int | None:
        """Return when the next thing is due that can be performed here, in microseconds UTC."""
        with self._engine.reading() as reader:
            waiting = reader.work(self._of_mine(is_dead=False))
        return min((work.due_at for work in waiting if work.kind in {EFFECT, TIMER}), default=None)

    # -- claiming ------------------------------------------------------------------------------------------------

    def _of_mine(self, **narrowed: Any) -> WorkSelect:
        machines = self._machines.values()
        effects = {name for machine in machines for name in machine.handlers}
        return WorkSelect(of=[(machine.kind, machine.name) for machine in machines], effects=effects, **narrowed)

    def _next(self, reader: Reader) -> Work | None:
        """Return what is due for longest; a unique key is never due."""
        ledger = self._engine.ledger
        now = ledger.clock.now()
        found = reader.work(self._of_mine(claimable_at=now, alive=ledger.live_owners(reader), limit=1))
        return found[0] if found else None

    def _claim(self) -> Claimed | None:
        found: list[Claimed] = []

        def act(reader: Reader) -> Sequence[Entry]:
            work = self._next(reader)
            found[:] = [] if work is None else [self._claimed(reader, work)]
            return [Entry(run_id=claimed.work.run_id, facts=(), put_work=(claimed.work,)) for claimed in found]

        with self._engine.ledger.current() as reader:
            is_idle = self._next(reader) is None
        if not is_idle:  # so that who only looks takes no lock of who writes
            self._engine.ledger.exchange(act, self._engine.durability)
        return found[0] if found else None

    def _claimed(self, reader: Reader, work: Work) -> Claimed:
        run = _run_of(reader, work)
        machine = self._machines[run.name]
        name, data = _payload(reader, work)
        handler = TIMER_HANDLER if work.kind == TIMER else machine.handlers.get(name, TIMER_HANDLER)
        leased_until = self._engine.ledger.clock.now() + round(handler.lease_s * 1e6)
        taken = replace(work, owner=self._engine.ledger.owner, leased_until=leased_until, attempts=work.attempts + 1)
        return Claimed(machine, taken, run.key or "", name, data)

    # -- performing ----------------------------------------------------------------------------------------------

    def _perform(self, claimed: Claimed) -> None:
        try:
            effect = claimed.machine.effect_codec.decode(claimed.name, claimed.data)
            command = self._called(claimed, effect)
        except Exception as error:  # noqa: BLE001 -- whatever a handler raises is a failure of the effect
            self._fail(claimed, error)
            return
        try:
            self._settle(claimed, command, "performed")
        except Exception as error:  # noqa: BLE001 -- what it came to can't be decided: it is performed again
            self._fail(claimed, error)

    def _called(self, claimed: Claimed, effect: Any) -> Any:
        handler, work = claimed.handler, claimed.work
        context = EffectContext(
            decider=claimed.machine.name,
            instance=claimed.instance,
            effect_id=work.key.partition("/")[2],
            attempt=work.attempts,
            created_at=self._engine.ledger.instant(work.created_at),
        )
        result = handler.perform(effect, context) if handler.takes_context else handler.perform(effect)
        if inspect.iscoroutine(result):
            return self._engine.spawn(result).result()
        return result

    def _fire(self, claimed: Claimed) -> None:
        try:
            command = claimed.machine.command_codec.decode(claimed.name, claimed.data)
            self._settle(claimed, command, "fired")
        except Exception as error:  # noqa: BLE001
            self._fail(claimed, error)

    def _settle(self, claimed: Claimed, command: Any, outcome: str) -> None:
        """Take the work off the queue, and decide what it came to, if it is still ours."""

        def act(deciding: Deciding) -> None:
            draft = deciding.draft(claimed.instance)
            if not self._is_ours(deciding, claimed):
                return
            self._note_settled(draft, claimed, outcome)
            draft.done(claimed.work.kind, claimed.work.key)
            if command is not None:
                deciding.decide(Order(command=command, source=_source(claimed)))

        exchange(self._engine, claimed.machine, act)

    @staticmethod
    def _note_settled(draft: Draft, claimed: Claimed, outcome: str) -> None:
        if claimed.work.kind == TIMER:
            draft.add(TimerFired(key=claimed.work.key))
        else:
            draft.add(EffectSettled(effect_id=claimed.work.key.partition("/")[2], outcome=outcome))

    def _is_ours(self, deciding: Deciding, claimed: Claimed) -> bool:
        mine = claimed.work
        for work in deciding.reader.work(WorkSelect(run_ids=[mine.run_id], kind=mine.kind, key=mine.key)):
            return (work.owner, work.attempts, work.due_at) == (mine.owner, mine.attempts, mine.due_at)
        return False

    # -- failing -------------------------------------------------------------------------------------------------

    def _fail(self, claimed: Claimed, error: BaseException) -> None:
        """Let the work be tried again after a while, or be dead."""
        is_dead = claimed.work.attempts >= claimed.handler.attempts
        try:
            self._record_failure(claimed, error, is_dead=is_dead, command=self._last_word(claimed, error, is_dead))
        except Exception as trouble:  # noqa: BLE001 -- what the dead letter came to can't be decided
            self._record_failure(claimed, trouble, is_dead=is_dead, command=None)

    @staticmethod
    def _last_word(claimed: Claimed, error: BaseException, is_dead: bool) -> Any:  # noqa: FBT001
        answer = claimed.handler.on_dead_letter
        if not is_dead or answer is None:
            return None
        return answer(claimed.machine.effect_codec.decode(claimed.name, claimed.data), error)

    def _record_failure(self, claimed: Claimed, error: BaseException, *, is_dead: bool, command: Any) -> None:
        stored = store_failure(error)

        def act(deciding: Deciding) -> None:
            draft = deciding.draft(claimed.instance)
            if not self._is_ours(deciding, claimed):
                return
            draft.keep(stored)
            draft.put(self._failed(claimed, stored.value_id, is_dead=is_dead))
            if is_dead:
                if claimed.work.kind == EFFECT:
                    self._note_settled(draft, claimed, "dead")
                if command is not None:
                    deciding.decide(Order(command=command, source=f"dead {_source(claimed)}"))

        exchange(self._engine, claimed.machine, act)

    def _failed(self, claimed: Claimed, error_id: ValueId, *, is_dead: bool) -> Work:
        now = self._engine.ledger.clock.now()
        handler, work = claimed.handler, claimed.work
        delay_s = min(handler.delay_s * 2.0 ** min(work.attempts - 1, 60), handler.max_delay_s)
        free = replace(work, owner=None, leased_until=None, error_id=error_id)
        if is_dead:
            return replace(free, dead_at=now)
        return replace(free, due_at=now + round(delay_s * 1e6))


def _source(claimed: Claimed) -> str:
    return f"timer {claimed.work.key}" if claimed.work.kind == TIMER else f"effect {claimed.name}"


def _run_of(reader: Reader, work: Work) -> Any:
    return reader.runs(Select(run_ids=[work.run_id]))[0]


def _payload(reader: Reader, work: Work) -> tuple[str, str]:
    """Return the class and the JSON text of what the work is about; of one that is damaged, what can't be decoded."""
    assert work.payload_id is not None
    found = reader.values([work.payload_id]).get(work.payload_id)
    if found is None or found.content is None:
        return work.key.partition("/")[0], "damaged"
    fields = msgspec.json.decode(found.content, type=_Payload)
    return fields.type, bytes(fields.data).decode()


class _Payload(msgspec.Struct):
    type: str
    data: msgspec.Raw
