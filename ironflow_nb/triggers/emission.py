"""Emitting events: each is recorded once, and queued for the flows that it starts or cancels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ironflow_nb.core.identity import RunId, ValueId
from ironflow_nb.core.option_values import a_text
from ironflow_nb.core.replay_decision import OnChange
from ironflow_nb.core.wait_rules import EMIT, StartKind
from ironflow_nb.execution import (
    REGISTRY,
    SCOPE,
    Engine,
    StepOptions,
    StepSpec,
    durable_calls,
    signature_of_start,
    watch,
)
from ironflow_nb.journal.ports import QueueItem, Reader, RunCommit
from ironflow_nb.triggers.due_starts import Definition
from ironflow_nb.triggers.event_rules import UNHEARD_S, event_name
from ironflow_nb.triggers.trigger_rows import EmittedEvent, Subscription, triggers_of


def emit(event: str, data: object = None, *, key: str | None = None) -> str:
    """Record that something happened, and start a run of each flow with ``@flow(on=event)``; return the event's id.

    The runs begin in the processes that define the flows: in this one, or in any other that is open on the journal, now
    or later. In a flow it is a recorded step, which emits once, whatever becomes of the process. In the body of a step
    it happens again in each attempt, unless it has a key.

    Args:
        event: the name, such as ``"order.placed"``.
        data: what the flows get as their argument.
        key: the same key is the same event for ever: it is recorded once, and so are its runs.

    Raises:
        ValueError: the name or the key is invalid.
        ValueNotStorable: no codec takes the data.
    """
    __tracebackhide__ = True
    name, chosen = event_name(event), None if key is None else a_text("key", key)
    scope = SCOPE.get()
    if scope is None or scope.step is not None:
        return emit_event(REGISTRY.engine(), name, data, chosen)
    return str(durable_calls.call(_SPEC, scope, (), {"event": name, "data": data, "key": chosen}))


emit.__ironflow_emit__ = True  # type: ignore[attr-defined]


def _emit_in_step(event: str, data: object, key: str | None) -> str:
    """Emit in the step that records it, which gives the event its key: so another attempt emits nothing more."""
    scope = SCOPE.get()
    assert scope is not None
    return emit_event(REGISTRY.engine(), event, data, key or key_of_step())


def key_of_step() -> str | None:
    """Return the key of the one event that the running step emits."""
    scope = SCOPE.get()
    return None if scope is None else f"{scope.run_id} {scope.step}"


_SPEC: Final = StepSpec(_emit_in_step, name=EMIT, options=StepOptions(on_change=OnChange.KEEP))


def emit_event(engine: Engine, name: str, data: object, key: str | None) -> str:
    """Record an event and queue it for its subscribers, in one transaction; return its id."""
    durable_calls.refuse_secrets("an event", [name, data, key])
    stored = engine.codecs.store(data)[0]
    for definition in REGISTRY.startable().values():
        if name in definition.wanted_events:
            definition.subscribe(engine)
    emitted: list[str] = []

    def act(reader: Reader) -> Sequence[RunCommit]:
        triggers, now = triggers_of(reader), engine.clock.now()
        known = None if key is None else triggers.event_of_key(name, key)
        if known is not None:
            emitted.append(known.event_id)
            return []
        event_id = engine.access.new_run_id()
        emitted.append(event_id)
        row = EmittedEvent(event_id=event_id, name=name, key=key, at=now, data_id=ValueId(stored.value_id))
        queue = tuple(_queued(row, f"{kind} {flow}") for kind, flow in triggers.subscribers(name))
        values = stored, signature_of_start(engine.signer, row.signed)
        return [RunCommit(run_id=event_id, events=(), values=values, put_work=queue, additions=(row,))]

    engine.access.exchange(act, engine.durability)
    watch(engine)
    return emitted[-1]


def _queued(event: EmittedEvent, key: str) -> QueueItem:
    kind = StartKind.EVENT.value
    return QueueItem(run_id=RunId(event.event_id), kind=kind, key=key, due_at=event.at, created_at=event.at)


def subscribe(engine: Engine, definition: Definition) -> None:
    """Have the journal queue for a flow the events that it wants, and no others.

    Events of the last day to which no flow was subscribed are queued now, so it makes no difference which of two
    processes is there first.
    """
    wanted = definition.wanted_events

    def act(reader: Reader) -> Sequence[RunCommit]:
        triggers = triggers_of(reader)
        subscribed = triggers.subscribed(definition.kind, definition.name)
        since = engine.clock.now() - round(UNHEARD_S * 1e6)
        new = sorted(wanted - subscribed)
        unheard = [
            event for name in new if not triggers.subscribers(name) for event in triggers.events_since(name, since)
        ]
        changes = [Subscription(name, definition.kind, definition.name) for name in new]
        changes += [
            Subscription(name, definition.kind, definition.name, is_ended=True) for name in sorted(subscribed - wanted)
        ]
        queue = tuple(_queued(event, f"{definition.kind} {definition.name}") for event in unheard)
        return [RunCommit(run_id=RunId(""), events=(), put_work=queue, additions=tuple(changes))] if changes else []

    with engine.access.current() as reader:
        if triggers_of(reader).subscribed(definition.kind, definition.name) == wanted:
            return
    engine.access.exchange(act, engine.durability)
