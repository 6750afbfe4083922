"""One command, one transaction: read, decide, write.

Sending commands to deciders.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import msgspec

from ironflow_nb.core.durations import spoken
from ironflow_nb.core.events import EffectRequested, RunCompleted, RunStarted, TimerCancelled, TimerSet
from ironflow_nb.core.identity import Digest, ValueId, digest_bytes
from ironflow_nb.core.status import RunStatus
from ironflow_nb.deciders.decider_definition import AnyMachine
from ironflow_nb.deciders.decisions import Accept, Accepted, AlreadyCompleted, Outcome, Reject, Rejected
from ironflow_nb.deciders.instance_changes import InstanceChanges
from ironflow_nb.deciders.instances import load
from ironflow_nb.deciders.state_memory import KnownState
from ironflow_nb.deciders.store import Observation, deciders_of
from ironflow_nb.errors import DecisionError, DuplicateKey, UniqueKeyTaken, ValueNotStorable, VersionConflict
from ironflow_nb.execution import Engine, JournalAccess, commit_seen, say, shell
from ironflow_nb.journal.ports import QueueItem, QueueSelect, Reader, RunCommit

EFFECT = "effect"
TIMER = "timer"
UNIQUE = "unique"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandEnvelope:
    """A command on its way to a decider; `source` says who sends it: ``user``, an effect or a timer."""

    command: Any
    key: str | None = None
    expected_version: int | None = None
    source: str = "user"
    execution: str | None = None


class DecisionTransaction:
    """The decisions of one transaction, on however many instances of one decider."""

    def __init__(self, decider: AnyMachine, access: JournalAccess, reader: Reader, durability: str) -> None:
        self._decider = decider
        self._access = access
        self.reader = reader
        self._durability = durability
        self._drafts: dict[str, InstanceChanges] = {}
        self.beside: list[RunCommit] = []
        self.now = access.clock.now()

    @property
    def drafts(self) -> list[InstanceChanges]:
        """What is to be written, instance by instance; `beside` is what else is written with it."""
        return list(self._drafts.values())

    @cached_property
    def _code(self) -> Digest:
        return self._decider.evolve_code

    def remember(self) -> None:
        """Keep in mind the states that were committed."""
        memory = self._decider.memory
        for draft in self._drafts.values():
            if draft.is_folded and draft.row is not None:
                known = KnownState(draft.version, self._code, draft.state, draft.kept_version)
                memory.keep(self._access, draft.run_id, known)
            elif draft.n_events:  # none of them is the decider's own: they settled work
                memory.move(self._access, draft.run_id, draft.version - draft.n_events, draft.version)

    def draft(self, instance: str) -> InstanceChanges:
        """Return the instance as it is, and as this transaction changes it."""
        if instance not in self._drafts:
            self._drafts[instance] = load(
                self._decider, self._access, self.reader, instance, self.now, lambda: self._code
            )
        return self._drafts[instance]

    def decide(self, order: CommandEnvelope) -> Outcome:
        """Decide the command and note what follows.

        Raises:
            DecisionError: what `decide` returned is no decision.
            VersionConflict, UniqueKeyTaken, DuplicateKey: the command can't be decided.
            EventUnreadable, ValueNotStorable: an event of then can't be read, or one of now not be kept.
        """
        decider = self._decider
        instance = decider.instance_of(order.command)
        name, data = decider.command_codec.encode(order.command)
        digest = digest_bytes(f"{name}\0{data}".encode())
        repeated = self._repeated(instance, order, digest)
        if repeated is not None:
            return repeated
        draft = self.draft(instance)
        before = None if draft.row is None else decider.status_of(draft.state)
        if draft.row is not None and draft.row.status is RunStatus.COMPLETED:
            outcome: Outcome = AlreadyCompleted(instance)
            decision: Accept[Any] | Reject | None = None
        else:
            self._refuse_version(draft, order)
            decision = self._decision(draft, order.command)
            outcome = (
                self._accepted(draft, order, decision) if isinstance(decision, Accept) else Rejected(decision.reason)
            )
        accepted = decision if isinstance(decision, Accept) else _NOTHING
        draft.observe(
            Observation(
                name=decider.name,
                instance=instance,
                run_id=None,
                at=self.now,
                command=name,
                data=data,
                digest=digest,
                command_key=order.key,
                source=order.source,
                execution=order.execution,
                outcome=_KINDS[type(outcome)],
                reason=self._reason(outcome),
                n_events=len(accepted.events),
                version=draft.version,
                status_before=before,
                status_after=None if draft.row is None else decider.status_of(draft.state),
                effects=_json([type(effect).__name__ for effect in accepted.effects]),
                timers=_json([timer.key or type(timer.command).__name__ for timer in accepted.timers]),
            )
        )
        return outcome

    def _reason(self, outcome: Outcome) -> str | None:
        if not isinstance(outcome, Rejected):
            return None
        try:
            return _json(outcome.reason)
        except (TypeError, ValueError) as error:
            raise ValueNotStorable(
                f"the rejection {outcome.reason!r} of decider {self._decider.name} can't be kept: {error}; reject with "
                "a text, or with a dataclass of plain types"
            ) from error

    def _repeated(self, instance: str, order: CommandEnvelope, digest: Digest) -> Outcome | None:
        if order.key is None:
            return None
        found = deciders_of(self.reader).observation_of(self._decider.name, instance, order.key)
        if found is None:
            return None
        if found.digest != digest:
            raise DuplicateKey(
                f"{self._decider.name} {instance} was sent another command with the key {order.key!r}: {found.command} "
                f"{found.data}; use another key",
                key=order.key,
            )
        if found.outcome == "accepted":
            return Accepted(found.n_events, found.version, is_repeated=True)
        if found.outcome == "rejected":
            return Rejected(msgspec.json.decode(found.reason or "null"), is_repeated=True)
        return AlreadyCompleted(instance, is_repeated=True)

    def _refuse_version(self, draft: InstanceChanges, order: CommandEnvelope) -> None:
        if order.expected_version not in {None, draft.version}:
            raise VersionConflict(
                f"{self._decider.name} {draft.instance} has version {draft.version}, and the command expects "
                f"{order.expected_version}; read its state and decide again",
                version=draft.version,
            )

    def _decision(self, draft: InstanceChanges, command: Any) -> Accept[Any] | Reject:
        decider, at = self._decider, self._access.instant(self.now)
        before = copy.deepcopy(draft.state) if decider.checks_purity else None
        decision = decider.decide_with(draft.state, command, at)
        if decider.checks_purity:
            _refuse_impure(decider.name, before, draft.state, decision, decider.decide_with(draft.state, command, at))
        return decision

    def _accepted(self, draft: InstanceChanges, order: CommandEnvelope, decision: Accept[Any]) -> Accepted:
        decider = self._decider
        if draft.row is None:
            self._begin(draft, order)
        for event in decision.events:
            draft.add_domain(decider.name, *decider.event_codec.encode(event))
            draft.state = decider.evolve_with(draft.state, event)
        for effect in decision.effects:
            self._request(draft, effect)
        self._set_timers(draft, decision)
        if decider.is_terminal(draft.state):
            self._complete(draft)
        decider.keep_state(draft)
        return Accepted(len(decision.events), draft.version)

    def _begin(self, draft: InstanceChanges, order: CommandEnvelope) -> None:
        decider = self._decider
        unique = decider.unique_key_of(order.command)
        if unique is not None:
            taken = self.reader.work(QueueSelect(of=[(decider.kind, decider.name)], kind=UNIQUE, key=unique, limit=1))
            if taken:
                raise UniqueKeyTaken(
                    f"{decider.name} {draft.instance} can't begin: run {taken[0].run_id}, which is not completed, has "
                    f"the unique key {unique!r}",
                    key=unique,
                    run_id=taken[0].run_id,
                )
        draft.add(
            RunStarted(
                kind=decider.kind,
                name=decider.name,
                owner=self._access.owner,
                durability=self._durability,
                definition=decider.definition_id,
                inputs_digest=digest_bytes(draft.instance.encode()),
                execution=order.execution,
                key=draft.instance,
            )
        )
        if unique is not None:
            draft.put(QueueItem(run_id=draft.run_id, kind=UNIQUE, key=unique, due_at=_NEVER, created_at=self.now))

    def _request(self, draft: InstanceChanges, effect: Any) -> None:
        name, data = self._decider.effect_codec.encode(effect)
        effect_id = self._access.entropy(8).hex()
        key = f"{name}/{effect_id}"
        payload = self._payload(draft, key, name, data)
        draft.add(EffectRequested(effect_id=effect_id, kind=name, payload=payload))
        draft.put(
            QueueItem(
                run_id=draft.run_id, kind=EFFECT, key=key, due_at=self.now, created_at=self.now, payload_id=payload
            )
        )  # fmt: skip

    def _set_timers(self, draft: InstanceChanges, decision: Accept[Any]) -> None:
        pending = self._pending(draft, TIMER) if decision.cancelled else set()
        for key in decision.cancelled:
            if key in pending:
                pending.discard(key)
                draft.done(TIMER, key)
                draft.add(TimerCancelled(key=key))
        for timer in decision.timers:
            name, data = self._decider.command_codec.encode(timer.command)
            key = timer.key or f"~{self._access.entropy(6).hex()}"
            due_at = self.now + round(timer.delay_s * 1e6)
            draft.add(TimerSet(key=key, due_at=due_at))
            payload = self._payload(draft, key, name, data)
            draft.put(
                QueueItem(
                    run_id=draft.run_id, kind=TIMER, key=key, due_at=due_at, created_at=self.now, payload_id=payload
                )
            )  # fmt: skip

    def _payload(self, draft: InstanceChanges, key: str, name: str, data: str) -> ValueId:
        """Keep what is to be done, signed for this very place: what somebody else puts on the queue is not done."""
        text = f'{{"type":{_json(name)},"run":{_json(draft.run_id)},"key":{_json(key)},"data":{data}}}'
        return draft.store(text, name, self._access.signer)

    def _pending(self, draft: InstanceChanges, kind: str) -> set[str]:
        stored = self.reader.work(QueueSelect(run_ids=[draft.run_id], kind=kind))
        return draft.pending(kind, (work.key for work in stored))

    def _complete(self, draft: InstanceChanges) -> None:
        # What JSON does not know is shown as its text: a result is looked at, and never read back.
        output = draft.store(msgspec.json.encode(draft.state, enc_hook=repr).decode(), type(draft.state).__name__)
        draft.add(RunCompleted(output=output))
        for key in self._pending(draft, UNIQUE) if self._decider.has_unique_key else ():
            draft.done(UNIQUE, key)


_NEVER = 2**62
_NOTHING: Accept[Any] = Accept(())
_KINDS = {Accepted: "accepted", Rejected: "rejected", AlreadyCompleted: "already_completed"}


def _refuse_impure(name: str, before: Any, state: Any, decision: Any, again: Any) -> None:
    if before != state:
        raise DecisionError(f"decide of {name} changes its state; it is only to read it, and to say what happened")
    if decision != again:
        raise DecisionError(
            f"decide of {name} says something else for the same state, command and time ({decision!r}, then "
            f"{again!r}); it may use no clock, no chance and nothing from outside: the time is its third argument"
        )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


R = TypeVar("R")


def send(
    engine: Engine, decider: AnyMachine, command: Any, *, key: str | None = None, expected_version: int | None = None
) -> Outcome:
    """Decide one command in one transaction."""
    commit_seen()  # a flow may send what its recorded calls gave
    order = CommandEnvelope(command=command, key=key, expected_version=expected_version, execution=engine.execution())
    before: list[Observation] = []

    def act(deciding: DecisionTransaction) -> Outcome:
        outcome = deciding.decide(order)
        if not isinstance(outcome, Accepted):
            return outcome
        before[:] = _before(deciding, order)
        n_events = sum(draft.n_events for draft in deciding.drafts)
        return replace(outcome, position=deciding.reader.last_position() + n_events)

    outcome = exchange(engine, decider, act)
    for observation in before:
        _warn(engine, decider, observation)
    return outcome


def _before(deciding: DecisionTransaction, order: CommandEnvelope) -> list[Observation]:
    """Return the same command as an earlier cell sent it, or the same cell when it ran before."""
    if order.key is not None or shell() is None:
        return []
    observed = [draft.observed for draft in deciding.drafts if draft.observed is not None]
    found = [deciders_of(deciding.reader).accepted_before(each) for each in observed]
    return [each for each in found if each is not None]


def _warn(engine: Engine, decider: AnyMachine, before: Observation) -> None:
    """Say it, once an execution: who sends a thousand commands again needs one line."""
    execution = engine.execution()
    if decider.warned_in == execution:
        return
    decider.warned_in = execution
    age = spoken(max(engine.clock.now() - before.at, 0) / 1e6)
    say(
        f"{decider.name} {before.instance}: an equal {before.command} was accepted {age} ago, and has been decided "
        "again; with send(command, key=...) it is decided once"
    )


def exchange(engine: Engine, decider: AnyMachine, act: Callable[[DecisionTransaction], R]) -> R:
    """Let `act` decide whatever it has to in one transaction; return what it returns."""
    found: list[R] = []
    deciding_of: list[DecisionTransaction] = []

    def decided(reader: Reader) -> Sequence[RunCommit]:
        deciding = DecisionTransaction(decider, engine.access, reader, engine.durability.value)
        deciding_of[:] = [deciding]
        found[:] = [act(deciding)]
        return [*(draft.entry() for draft in deciding.drafts), *deciding.beside]

    engine.access.exchange(decided, engine.durability)
    deciding_of[0].remember()
    return found[0]
