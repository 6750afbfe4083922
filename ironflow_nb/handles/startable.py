"""The part of flows and graphs that schedules and emitted events use, because it needs no caller."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from ironflow_nb.core.durations import Duration
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.option_values import a_text
from ironflow_nb.errors import RunFinished
from ironflow_nb.execution import REGISTRY, Engine, FlowCall, RunRequest
from ironflow_nb.journal.ports import Addition, QueueItem

if TYPE_CHECKING:
    from ironflow_nb.handles.run import Run
    from ironflow_nb.triggers.event_rules import EventTrigger
    from ironflow_nb.triggers.schedule import Schedule


class Startable(ABC):
    """A flow or graph. A subclass translates between calls and recorded arguments."""

    name: str
    trigger: EventTrigger | None = None

    @property
    def wanted_events(self) -> frozenset[str]:
        """See `StartableDefinition`."""
        return self.trigger.events if self.trigger is not None else frozenset()

    @property
    @abstractmethod
    def kind(self) -> str:
        """The style: flow, graph."""

    @abstractmethod
    def request(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[RunRequest, FlowCall]:
        """Return the request to the engine for the call, and the call of the body."""

    @abstractmethod
    def recorded_call(self, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and keyword arguments of the call that was recorded with these arguments."""

    @abstractmethod
    def _start(self, engine: Engine, request: RunRequest, body: FlowCall) -> Run[Any]:
        """Begin or continue the run in the background."""

    def schedule(  # noqa: PLR0913 -- the options of a schedule; keyword-only
        self,
        cron: str | None = None,
        *,
        every_s: Duration | None = None,
        at: datetime | None = None,
        tz: str | None = None,
        catch_up: str = "latest",
        grace_s: Duration | None = None,
        args: Sequence[Any] = (),
        inputs: Mapping[str, Any] | None = None,
        name: str | None = None,
        replace: bool = False,
    ) -> Schedule:
        """Start a run at each instant that the rule names; return the `Schedule`, which is kept in the journal.

        It fires while a process is there that defines this: however many there are, each instant is one run, with the
        key (schedule, instant). A call with the same rule and arguments returns the schedule that is there already; so
        does one without a rule.

        Args:
            cron: five fields such as ``"0 6 * * MON-FRI"``, or six with seconds first. A daily time that a change of
                the clocks skips is fired right after it; one that comes twice is fired once.
            every_s: an interval, counted from now.
            at: one instant, with a time zone.
            tz: the zone of the cron expression, such as ``"Europe/Berlin"``; by default UTC.
            catch_up: what is fired of the instants that passed while no process was there: only the ``"latest"``,
                ``"all"`` in their order, or ``"none"``.
            grace_s: how late an instant may be fired at most; by default at any time, and 10 s with
                ``catch_up="none"``.
            args: positional arguments of each run.
            inputs: arguments by name; of a graph its input.
            name: the name of the schedule; by default that of the flow.
            replace: put it in the place of another schedule of that name.

        Raises:
            ValueError, TypeError: the rule is invalid, its only instant is past, or the arguments do not fit.
            DuplicateName: a schedule of that name has another rule or other arguments.
            LookupError: no rule is given, and there is no schedule of that name.
            ModuleNotFoundError: a cron expression needs cronsim: ``pip install 'ironflow-nb[schedule]'``.
        """
        from ironflow_nb.core.schedule_rules import schedule_rule
        from ironflow_nb.triggers.schedule import find_schedule, make_schedule

        engine = REGISTRY.engine()
        if cron is None and every_s is None and at is None and not args and inputs is None and not replace:
            return find_schedule(engine, self.kind, self.name, name)
        rule = schedule_rule(cron, every_s=every_s, at=at, tz=tz, catch_up=catch_up, grace_s=grace_s)
        request, _ = self.prepared_request(*self.scheduled_call(args, inputs))
        self.refuse_secrets(name, "the name of a schedule")
        return make_schedule(
            engine, kind=self.kind, flow=self.name, name=name, rule=rule, arguments=request.arguments, replaces=replace
        )

    def requeue(self, *, key: str | None = None) -> int:
        """Put its dead letters back on the queue of work, with all their attempts; return their number.

        They are instants of schedules and emitted events that started no run in the last attempt, and calls of
        functions of `on` after its runs that raised. `work` lists them.

        Args:
            key: only the dead letter with this key.
        """
        from ironflow_nb.triggers.claims import requeue_dead

        key = None if key is None else a_text("key", key)
        return requeue_dead(REGISTRY.engine(), self.kind, self.name, key=key)

    def scheduled_call(
        self, args: Sequence[Any], inputs: Mapping[str, Any] | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the call that a schedule makes."""
        return tuple(args), dict(inputs or {})

    def refuse_secrets(self, given: Any, what: str) -> None:  # noqa: B027 -- only graphs have some
        """Check that what is kept in the clear has none of the definition's secrets, as a graph has them.

        Raises:
            ValueNotStorable: it has one.
        """

    def prepared_request(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[RunRequest, FlowCall]:
        """Return the request to the engine, once everything that the run needs is there."""
        return self.request(args, kwargs)

    def event_call(self, data: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the call for the data of an event."""
        return (data,), {}

    def subscribe(self, engine: Engine) -> None:
        """See `StartableDefinition`."""
        from ironflow_nb.triggers.emission import subscribe

        subscribe(engine, self)

    def start_due(self, engine: Engine, item: QueueItem) -> bool:
        """See `StartableDefinition`."""
        from ironflow_nb.triggers.due_starts import perform

        return perform(engine, self, item)

    def start_keyed(
        self, engine: Engine, call: tuple[tuple[Any, ...], dict[str, Any]], key: str, additions: tuple[Addition, ...]
    ) -> None:
        """Begin the run of that key in the background, and write the rows in the transaction of its beginning."""
        request, body = self.prepared_request(*call)
        policy = msgspec.structs.replace(request.policy, key=key)
        self._start(engine, msgspec.structs.replace(request, policy=policy, additions=additions), body)

    def cancel_run(self, engine: Engine, run_id: RunId) -> None:
        """Cancel a run, unless it has ended."""
        from ironflow_nb.handles.run import Run

        with suppress(RunFinished):
            Run(engine, run_id).cancel()
