"""One event of every type, and any event at all."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec
from hypothesis import strategies as st
from msgspec.structs import fields

from ironflow_nb.core import events
from ironflow_nb.core.events import EVENT_TYPES, RunEvent
from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.status import EffectOutcome
from tests.core.made import digest, run_started, step_started, value

OUTPUT, ERROR = value("output"), value("error")

SAMPLES: Final[dict[str, RunEvent]] = {
    type(event).__name__: event
    for event in (
        run_started(),
        events.RunContinued(reason="rerun", owner="you", definition=digest("edited"), durability="process"),
        events.RunInterrupted(reason="KeyboardInterrupt"),
        events.RunQueued(waits_for="lane api"),
        events.RunAdmitted(),
        events.RunWaiting(waiting_for="an answer"),
        events.RunDetached(asked_by="you"),
        events.RunPaused(asked_by="you"),
        events.RunCancelRequested(asked_by="you"),
        events.RunCompleted(output=OUTPUT),
        events.RunFailed(error=ERROR, caused_by=(StepRef("fetch[0]"),)),
        events.RunCancelled(reason="no longer wanted"),
        events.CompensationStarted(error=ERROR, caused_by=(StepRef("fetch[0]"),)),
        events.CompensationRegistered(undo="unfetch", arguments=value("arguments")),
        events.StepCompensated(by=StepRef("unfetch[0]")),
        events.StepQueued(
            name="fetch", index=0, identity=digest("fetch 0"), code=digest("code"), waits_for="lane api (ann)"
        ),
        step_started(),
        events.StepCompleted(output=OUTPUT, duration_s=1.5),
        events.StepFailed(error=ERROR, duration_s=1.5),
        events.StepRetryScheduled(due_at=9_000_000),
        events.StepReused(
            name="fetch",
            index=0,
            identity=digest("fetch 0"),
            code=digest("code"),
            output=OUTPUT,
            origin_run_id=RunId("ba9876543210"),
            origin_step=StepRef("fetch[7]"),
        ),
        events.StepSkipped(name="fetch", index=0, identity=digest("skipped"), reason="when is false"),
        events.ItemsCounted(name="fetch", n_items=61),
        events.StepDiscarded(reason="late", n_bytes=12),
        events.SignalReceived(name="go", signal_id=3),
        events.WaitStarted(
            name="iron.wait_for",
            index=0,
            identity=digest("wait 0"),
            code=digest("wait"),
            wait_kind="signal",
            signals=("go",),
            due_at=9_000_000,
        ),
        events.WaitEnded(outcome="signal", duration_s=1.5, output=OUTPUT),
        events.TimerSet(key="alarm", due_at=9_000_000),
        events.TimerFired(key="alarm"),
        events.TimerCancelled(key="alarm"),
        events.OutputInjected(
            output=value("by hand"), reason="the page was empty", name="fetch", index=0, identity=digest("fetch 0")
        ),
        events.InjectionUndone(output=value("by hand"), edited_by="ann"),
        events.ChildEdited(child_run_id=RunId("ba9876543210")),
        events.EffectRequested(effect_id="mail 1", kind="mail"),
        events.EffectSettled(effect_id="mail 1", outcome=EffectOutcome.PERFORMED),
        events.SessionEnded(n_reused=4, not_asked_for=(StepRef("fetch[3]"),)),
        events.StepRedacted(by="ada@here", output=value("marker"), inputs=value("record"), reason="private"),
        events.RunRedacted(by="ada@here", output=value("marker")),
        events.RunDeleted(kind="flow", name="digest", by="ada@here"),
        events.DomainEvent(type="order.Shipped", data=msgspec.Raw(b'{"parcels":2}')),
    )
}

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def any_event(kind: type[RunEvent]) -> st.SearchStrategy[RunEvent]:
    """Return events of that type with any data; the data of a decider's is canonical JSON, as it is written."""
    if kind is events.DomainEvent:
        types = st.tuples(st.text(), st.text()).map(".".join)
        data = st.dictionaries(st.text(), _JSON).map(
            lambda made: msgspec.Raw(msgspec.json.encode(made, order="sorted"))
        )
        return st.builds(events.DomainEvent, type=types, data=data)
    strategies: dict[str, st.SearchStrategy[Any]] = {}
    for field in fields(kind):
        if field.type in (float, float | None):
            strategies[field.name] = st.floats(allow_nan=False, allow_infinity=False)
        else:
            strategies[field.name] = st.from_type(field.type)
    return cast("st.SearchStrategy[RunEvent]", st.builds(kind, **strategies))


KINDS: Final = sorted(EVENT_TYPES)
