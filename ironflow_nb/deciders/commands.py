"""Commands of deciders: each is read, decided and written in one transaction."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from ironflow_nb.core.durations import spoken
from ironflow_nb.core.events import EffectRequested, RunCompleted, RunStarted, TimerCancelled, TimerSet
from ironflow_nb.core.identity import Digest, ValueId, digest_bytes
from ironflow_nb.core.status import RunStatus
from ironflow_nb.deciders.decider_definition import AnyDecider
from ironflow_nb.deciders.decisions import (
    Accept,
    Accepted,
    AlreadyCompleted,
    Outcome,
    OutcomeKind,
    Reject,
    Rejected,
    Timer,
)
from ironflow_nb.deciders.instances import InstanceChanges, fold, load, memory_of, remember, store_state
from ironflow_nb.deciders.store import Observation, deciders_of
from ironflow_nb.errors import DecisionError, DuplicateKey, UniqueKeyTaken, ValueNotStorable, VersionConflict
from ironflow_nb.execution import SCOPE, Engine, durable_calls, say, shell
from ironflow_nb.journal.ports import QueueItem, QueueSelect, Reader, RunCommit


class WorkKind(StrEnum):
    """The kinds of work that deciders put on the queue."""

    EFFECT = "effect"
    TIMER = "timer"
    UNIQUE = "unique"
    """The unique key of an open instance, which is never due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandEnvelope:
    """A command with the options of `send`. `source` is its sender: ``user``, an effect or a timer."""

    command: Any
    key: str | None = None
    expected_version: int | None = None
    source: str = "user"
    execution: str | None = None


class DecisionTransaction:
    """The decisions of one transaction, on any number of instances of one decider.

    Lock: the engine's, inside of a write transaction.
    """

    def __init__(self, engine: Engine, decider: AnyDecider, reader: Reader) -> None:
        self._decider = decider
        self._access = engine.access
        self._durability = engine.durability.value
        self._memory = memory_of(decider, engine.access)
        self._changes: dict[str, InstanceChanges] = {}
        self._code: Digest | None = None
        self.reader = reader
        self.other_commits: list[RunCommit] = []
        """Further commits of the same transaction."""
        self.now = self._access.clock.now()

    @property
    def changes(self) -> list[InstanceChanges]:
        """The instances that were asked for, with their changes."""
        return list(self._changes.values())

    def last_position(self) -> int:
        """Return the position of the newest event of the journal after this transaction."""
        position = self.reader.last_position()
        for changes in self._changes.values():
            position += changes.n_events
        return position

    def commits(self) -> list[RunCommit]:
        """Return everything that the transaction writes."""
        return [*map(InstanceChanges.commit, self._changes.values()), *self.other_commits]

    def remember(self) -> None:
        """Remember the instances that were committed. Call it after COMMIT: what is not stored must not count."""
        for changes in self._changes.values():
            remember(self._memory, changes, self._code)

    def instance(self, instance: str) -> InstanceChanges:
        """Return the instance with the changes of this transaction so far."""
        changes = self._changes.get(instance)
        if changes is None:
            changes = load(self._decider, self._access, self.reader, self._memory, instance, self.now)
            self._changes[instance] = changes
        return changes

    def decide(self, envelope: CommandEnvelope) -> Outcome:
        """Decide the command, and add its events, effects and timers to the transaction.

        Raises:
            DecisionError: `decide` returned no decision.
            VersionConflict, UniqueKeyTaken, DuplicateKey: the command can't be decided.
            EventUnreadable, ValueNotStorable: a stored event can't be read, or a new one can't be stored.
        """
        decider = self._decider
        instance = decider.instance_of(envelope.command)
        name, data = decider.command_codec.encode(envelope.command)
        digest = digest_bytes(f"{name}\0{data}".encode())
        if envelope.key is not None:
            repeated = self._repeated_outcome(instance, envelope.key, digest)
            if repeated is not None:
                return repeated
        changes = self.instance(instance)
        if not changes.is_folded:
            self._code = self._code or decider.evolve_code
            fold(decider, self.reader, changes, self._code)
        before = None if changes.row is None else decider.status_of(changes.state)
        outcome, accepted = self._outcome(changes, envelope)
        changes.observe(
            Observation(
                name=decider.name,
                instance=instance,
                run_id=None if changes.row is None else changes.run_id,
                at=self.now,
                command=name,
                data=data,
                digest=digest,
                command_key=envelope.key,
                source=envelope.source,
                execution=envelope.execution,
                outcome=_OUTCOMES[type(outcome)],
                reason=self._reason_text(outcome.reason) if isinstance(outcome, Rejected) else None,
                n_events=len(accepted.events),
                version=changes.version,
                status_before=before,
                status_after=None if changes.row is None else decider.status_of(changes.state),
                effects=_json([*map(_effect_name, accepted.effects)]) if accepted.effects else "[]",
                timers=_json([*map(_timer_name, accepted.timers)]) if accepted.timers else "[]",
            )
        )
        return outcome

    def _outcome(self, changes: InstanceChanges, envelope: CommandEnvelope) -> tuple[Outcome, Accept[Any]]:
        """Return the outcome, and what is accepted."""
        if changes.row is not None and changes.row.status is RunStatus.COMPLETED:
            return AlreadyCompleted(changes.instance), _NOTHING
        if envelope.expected_version not in {None, changes.version}:
            raise VersionConflict(
                f"{self._decider.name} {changes.instance} has version {changes.version}, and the command expects "
                f"{envelope.expected_version}; read its state and decide again",
                version=changes.version,
            )
        decision = self._decision(changes, envelope.command)
        if isinstance(decision, Reject):
            return Rejected(decision.reason), _NOTHING
        self._accept(changes, envelope, decision)
        return Accepted(len(decision.events), changes.version), decision

    def _reason_text(self, reason: Any) -> str:
        try:
            return _json(reason)
        except (TypeError, ValueError) as error:
            raise ValueNotStorable(
                f"the reason {reason!r} of a rejection by {self._decider.name} can't be stored: {error}; "
                "reject with a str, or with a dataclass of plain types"
            ) from error

    def _repeated_outcome(self, instance: str, key: str, digest: Digest) -> Outcome | None:
        found = deciders_of(self.reader).observation_of(self._decider.name, instance, key)
        if found is None:
            return None
        if found.digest != digest:
            raise DuplicateKey(
                f"{self._decider.name} {instance} was sent another command with the key {key!r}: "
                f"{found.command} {found.data}; use another key",
                key=key,
            )
        if found.outcome == OutcomeKind.ACCEPTED:
            return Accepted(found.n_events, found.version, is_repeated=True)
        if found.outcome == OutcomeKind.REJECTED:
            return Rejected(msgspec.json.decode(found.reason or "null"), is_repeated=True)
        return AlreadyCompleted(instance, is_repeated=True)

    def _decision(self, changes: InstanceChanges, command: Any) -> Accept[Any] | Reject:
        decider, at = self._decider, self._access.instant(self.now)
        before = copy.deepcopy(changes.state) if decider.checks_purity else None
        decision = decider.decide_with(changes.state, command, at)
        if decider.checks_purity:
            _refuse_impure(
                decider.name, before, changes.state, decision, decider.decide_with(changes.state, command, at)
            )
        return decision

    def _accept(self, changes: InstanceChanges, envelope: CommandEnvelope, decision: Accept[Any]) -> None:
        decider = self._decider
        if changes.row is None:
            self._begin(changes, envelope)
        for event in decision.events:
            changes.add_domain(decider.name, *decider.event_codec.encode(event))
            changes.state = decider.evolve_with(changes.state, event)
        for effect in decision.effects:
            self._request_effect(changes, effect)
        if decision.timers or decision.cancelled:
            self._set_timers(changes, decision)
        if decider.is_terminal(changes.state):
            self._complete(changes)
        store_state(decider, changes)

    def _begin(self, changes: InstanceChanges, envelope: CommandEnvelope) -> None:
        decider = self._decider
        unique = decider.unique_key_of(envelope.command)
        if unique is not None:
            taken = self.reader.work(
                QueueSelect(of=[(decider.kind, decider.name)], kind=WorkKind.UNIQUE, key=unique, limit=1)
            )
            if taken:
                raise UniqueKeyTaken(
                    f"{decider.name} {changes.instance} can't begin: run {taken[0].run_id}, which is not completed, "
                    f"has the unique key {unique!r}",
                    key=unique,
                    run_id=taken[0].run_id,
                )
        changes.add(
            RunStarted(
                kind=decider.kind,
                name=decider.name,
                owner=self._access.owner,
                durability=self._durability,
                definition=decider.definition_id,
                inputs_digest=digest_bytes(changes.instance.encode()),
                execution=envelope.execution,
                key=changes.instance,
            )
        )
        if unique is not None:
            changes.put_work(
                QueueItem(run_id=changes.run_id, kind=WorkKind.UNIQUE, key=unique, due_at=_NEVER, created_at=self.now)
            )

    def _request_effect(self, changes: InstanceChanges, effect: Any) -> None:
        name, data = self._decider.effect_codec.encode(effect)
        effect_id = self._access.entropy(8).hex()
        key = f"{name}/{effect_id}"
        payload = self._add_payload(changes, key, name, data)
        changes.add(EffectRequested(effect_id=effect_id, kind=name, payload=payload))
        changes.put_work(
            QueueItem(
                run_id=changes.run_id,
                kind=WorkKind.EFFECT,
                key=key,
                due_at=self.now,
                created_at=self.now,
                payload_id=payload,
            )
        )

    def _set_timers(self, changes: InstanceChanges, decision: Accept[Any]) -> None:
        pending = self._pending_keys(changes, WorkKind.TIMER) if decision.cancelled else set()
        for key in decision.cancelled:
            if key in pending:
                pending.discard(key)
                changes.remove_work(WorkKind.TIMER, key)
                changes.add(TimerCancelled(key=key))
        for timer in decision.timers:
            name, data = self._decider.command_codec.encode(timer.command)
            key = timer.key or f"~{self._access.entropy(6).hex()}"
            due_at = self.now + round(timer.delay_s * 1e6)
            changes.add(TimerSet(key=key, due_at=due_at))
            payload = self._add_payload(changes, key, name, data)
            changes.put_work(
                QueueItem(
                    run_id=changes.run_id,
                    kind=WorkKind.TIMER,
                    key=key,
                    due_at=due_at,
                    created_at=self.now,
                    payload_id=payload,
                )
            )

    def _add_payload(self, changes: InstanceChanges, key: str, name: str, data: str) -> ValueId:
        """Add the payload of work, signed for this run and key: work that another user queues is not performed."""
        text = f'{{"type":{_json(name)},"run":{_json(changes.run_id)},"key":{_json(key)},"data":{data}}}'
        return changes.add_json(text, name, self._access.signer)

    def _pending_keys(self, changes: InstanceChanges, kind: str) -> set[str]:
        stored = self.reader.work(QueueSelect(run_ids=[changes.run_id], kind=kind))
        return changes.pending_keys(kind, (work.key for work in stored))

    def _complete(self, changes: InstanceChanges) -> None:
        # Values that JSON does not know become their repr: a result is shown, and never read back.
        output = changes.add_json(
            msgspec.json.encode(changes.state, enc_hook=repr).decode(), type(changes.state).__name__
        )
        changes.add(RunCompleted(output=output))
        for key in self._pending_keys(changes, WorkKind.UNIQUE) if self._decider.has_unique_key else ():
            changes.remove_work(WorkKind.UNIQUE, key)


_NEVER = 2**62
_NOTHING: Accept[Any] = Accept(())
_OUTCOMES = {
    Accepted: OutcomeKind.ACCEPTED,
    Rejected: OutcomeKind.REJECTED,
    AlreadyCompleted: OutcomeKind.ALREADY_COMPLETED,
}


def _refuse_impure(name: str, before: Any, state: Any, decision: Any, again: Any) -> None:
    if before != state:
        raise DecisionError(f"decide of {name} changes its state; it must only read it, and return events")
    if decision != again:
        raise DecisionError(
            f"decide of {name} returned {decision!r}, then {again!r} for the same state, command and time; it must use "
            "no clock, no random numbers and nothing from outside: the time is its third argument"
        )


def _effect_name(effect: Any) -> str:
    return type(effect).__name__


def _timer_name(timer: Timer) -> str:
    return timer.key or type(timer.command).__name__


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


R = TypeVar("R")


def send(
    engine: Engine, decider: AnyDecider, command: Any, *, key: str | None = None, expected_version: int | None = None
) -> Outcome:
    """Decide one command in one transaction."""
    if SCOPE.get() is not None:
        durable_calls.commit_seen()  # a flow may send values that its recorded calls gave
        durable_calls.refuse_secrets("a command", [command, key])
    envelope = CommandEnvelope(
        command=command, key=key, expected_version=expected_version, execution=engine.execution()
    )
    earlier: list[Observation] = []

    def act(transaction: DecisionTransaction) -> Outcome:
        outcome = transaction.decide(envelope)
        if not isinstance(outcome, Accepted):
            return outcome
        if key is None and shell() is not None:
            earlier[:] = _equal_commands(transaction)
        return Accepted(outcome.n_events, outcome.version, outcome.is_repeated, transaction.last_position())

    outcome = exchange(engine, decider, act)
    for observation in earlier:
        _warn_of_repetition(engine, decider, observation)
    return outcome


def _equal_commands(transaction: DecisionTransaction) -> list[Observation]:
    """Return equal commands that earlier executions of cells sent."""
    decided = [each.last_observation for each in transaction.changes if each.last_observation is not None]
    found = [deciders_of(transaction.reader).accepted_before(each) for each in decided]
    return [each for each in found if each is not None]


def _warn_of_repetition(engine: Engine, decider: AnyDecider, earlier: Observation) -> None:
    """Say that an equal command was accepted before, once in an execution of a cell."""
    execution = engine.execution()
    if decider.warned_in == execution:
        return
    decider.warned_in = execution
    age = spoken(max(engine.clock.now() - earlier.at, 0) / 1e6)
    say(
        f"{decider.name} {earlier.instance}: an equal {earlier.command} was accepted {age} ago, and has been decided "
        "again; with send(command, key=...) it is decided once"
    )


def exchange(engine: Engine, decider: AnyDecider, act: Callable[[DecisionTransaction], R]) -> R:
    """Run `act` in one write transaction and commit its changes; return its result."""
    made: list[tuple[DecisionTransaction, R]] = []

    def commits(reader: Reader) -> Sequence[RunCommit]:
        transaction = DecisionTransaction(engine, decider, reader)
        made[:] = [(transaction, act(transaction))]
        return transaction.commits()

    engine.access.exchange(commits, engine.durability)
    transaction, result = made[0]
    transaction.remember()  # after COMMIT
    return result
