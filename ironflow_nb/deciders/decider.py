"""Deciders: `send`, effects in the background, history and diagrams."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Final, Generic

from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.moments import Moment
from ironflow_nb.core.option_values import a_text
from ironflow_nb.core.plan import NONE, ResumeOptions
from ironflow_nb.core.replay_decision import OnChange
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.deciders import decider_frames
from ironflow_nb.deciders.commands import send
from ironflow_nb.deciders.decider_definition import Command, DeciderDefinition, Effect, Event, State
from ironflow_nb.deciders.decisions import Outcome
from ironflow_nb.deciders.due_work import DueWorkThread, requeue, run_until_idle
from ironflow_nb.deciders.given_when_then import Given, When
from ironflow_nb.deciders.instances import moment_of, state_at
from ironflow_nb.deciders.possible_transitions import Explorer
from ironflow_nb.deciders.state_machine import StateMachine, drift, state_machine_of, validate
from ironflow_nb.errors import InstanceNotFound
from ironflow_nb.execution import REGISTRY, Engine, logger, say

if TYPE_CHECKING:
    import pandas as pd

    from ironflow_nb.deciders.state_diagram import StateDiagram
    from ironflow_nb.handles.slider import Slider

_HIDDEN: Final = frozenset({
    "checks_purity", "code", "command_codec", "command_names", "continue_run", "decide_with", "definition_id",
    "effect_codec", "event_codec", "evolve_code", "evolve_with", "functions", "handlers", "has_unique_key",
    "initial_text", "instance_of", "is_terminal", "memories", "module", "on_change", "samples", "status_field",
    "status_of", "terminal_statuses", "unique_key_of", "warned_in",
})  # fmt: skip
"""Attributes for the package, which completion does not show."""


class Decider(DeciderDefinition[State, Command, Event, Effect]):
    """A state machine that decides commands, records events, performs effects and fires timers.

    `evolve`, `decide` and `perform` register its functions. A new decider of the same name replaces the old one and
    stops its background thread. A warning is logged if the other one is of another module.
    """

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in _HIDDEN]

    def _register(self) -> None:
        """Make the decider known to the process, in place of one of the same name."""
        self._background: DueWorkThread | None = None
        self.module = _module_of_caller()
        self._replace(REGISTRY.find(self.kind, self.name))
        REGISTRY.define(self)

    def _replace(self, other: object) -> None:
        if not isinstance(other, Decider):
            return
        if other.module != self.module:
            logger().warning(
                "decider %s is defined in %s and in %s, and they share one journal; give one of them another name",
                self.name, other.module, self.module,
            )  # fmt: skip
        if other.is_performing:
            other.stop()
            say(f"{self.name} was defined again, and its background thread has stopped; call {self.name}.start() again")

    def send(self, command: Command, *, key: str | None = None, expected_version: int | None = None) -> Outcome:
        """Decide the command, and commit its events, effects and timers in one transaction.

        Args:
            command: an object of a class of commands, with the id of its instance.
            key: a command with the same key is decided once; sent again, its outcome is returned.
            expected_version: the version that the instance must have.

        Raises:
            DecisionError: the command has no id of an instance, or `decide` returned no decision.
            VersionConflict: the instance has another version than `expected_version`.
            UniqueKeyTaken: another open instance has the unique key.
            DuplicateKey: another command was sent with the key.
            EventUnreadable, ValueNotStorable: a stored event can't be read, or a new one can't be stored.
            ValueError: the key is not a text.
        """
        if key is not None:
            a_text("key", key)
        outcome = send(REGISTRY.engine(), self, command, key=key, expected_version=expected_version)
        if self._background is not None:
            self._background.wake()
        return outcome

    # -- effects and timers --------------------------------------------------------------------------------------

    def run_until_idle(self, *, wait: Duration = 0.0) -> int:
        """Perform the effects and fire the timers that are due, in this thread; return their number.

        Effects without a handler in this process stay on the queue; a message names them. With `wait`, attempts and
        timers that become due within that time are waited for.
        """
        return run_until_idle(REGISTRY.engine(), self, wait_s=seconds(wait))

    def start(self) -> None:
        """Perform effects and fire timers in a background thread, until `stop` or the end of the process."""
        engine = REGISTRY.engine()
        if self._background is not None and self._background.engine is not engine:
            self.stop()
        if self._background is None or self._background.is_stopped:
            self._background = DueWorkThread(engine, self)

    @property
    def is_performing(self) -> bool:
        """Whether the background thread runs."""
        return self._background is not None and not self._background.is_stopped

    def stop(self) -> None:
        """Stop the background thread after the effect that it is performing."""
        if self._background is not None:
            self._background.stop()

    def dead_letters(self, *, instance: str | None = None, limit: int | None = 100) -> pd.DataFrame:
        """Return the effects and timers that failed in their last attempt, one a row, newest first.

        A timer fails if its command can't be decided. It has five attempts, with the default delays of an effect, and
        no `on_dead_letter`: mend `decide`, then call `requeue`.

        Columns: instance, kind (effect or timer), name, data, attempts, error, created_at, dead_at, key, run_id.
        """
        return decider_frames.dead_letters(REGISTRY.engine(), self, instance, limit)

    def requeue(self, *, instance: str | None = None, key: str | None = None) -> int:
        """Put dead letters back on the queue with all their attempts; return their number.

        Args:
            instance: only those of this instance.
            key: only the one of this key; see `dead_letters`.
        """
        return requeue(REGISTRY.engine(), self, instance=instance, key=None if key is None else a_text("key", key))

    # -- history -------------------------------------------------------------------------------------------------

    def state(self, instance: str, *, at: Moment | None = None) -> State:
        """Return the state of the instance: now, after the event of a version, or at an instant; see `Run.at`.

        Versions are those of `history`, of outcomes and of `expected_version`; 0 is before the first event, -1 the
        newest.

        Raises:
            InstanceNotFound: no instance has that id.
            VersionNotFound: the instance has no such version, or did not exist at that instant.
            TypeError, ValueError: `at` names no moment.
        """
        engine, row = REGISTRY.engine(), self._row(instance)
        with engine.reading() as reader:
            version, microseconds = moment_of(self, reader, row, at, engine.clock.now())
            found: State = state_at(self, reader, row.run_id, instance, version=version, at=microseconds)
        return found

    def history(self, instance: str) -> pd.DataFrame:
        """Return the events of the instance in order, one a row.

        Columns: version (effects and timers have versions too; see `state`), at, event, data, status (after the event).

        Raises:
            InstanceNotFound: no instance has that id.
        """
        return decider_frames.history(REGISTRY.engine(), self, self._row(instance))

    def instances(self) -> pd.DataFrame:
        """Return the instances, one a row, with the latest activity first.

        Columns: instance, status ("unreadable" if its events can't be decoded or folded), is_completed, n_events,
        started_at, updated_at, completed_at, n_pending and n_dead (effects and timers), run_id.
        """
        return decider_frames.instances(REGISTRY.engine(), self)

    def slider(self, instance: str) -> Slider:
        """Return the moments of the instance to be moved through; it displays itself, in a notebook as a slider.

        Raises:
            InstanceNotFound: no instance has that id.
        """
        from ironflow_nb.deciders.instance_moments import InstanceMoments
        from ironflow_nb.handles.slider import Slider

        return Slider(InstanceMoments(REGISTRY.engine(), self, self._row(instance), self._explorer))

    def observations(self, instance: str | None = None) -> pd.DataFrame:
        """Return every command that was sent with its outcome, one a row, oldest first.

        Columns: instance, at, command, data, outcome (accepted, rejected, already_completed), reason, n_events,
        version, status_before, status_after, effects, timers, source (user, an effect, a timer), key.
        """
        chosen = None if instance is None else a_text("instance", instance)
        return decider_frames.observations(REGISTRY.engine(), self, chosen)

    def what_if(self, instance: str, command: Command, *, at: Moment | None = None) -> When:
        """Return the decision of the instance, now or at a version or instant; nothing is written.

        Raises:
            InstanceNotFound: no instance has that id.
            VersionNotFound: the instance has no such version.
        """
        engine = REGISTRY.engine()
        now = engine.access.instant(engine.clock.now())
        return Given(self, (), now, (self.state(instance, at=at),)).when(command)

    def given(self, *events: Event) -> Given:
        """Return the decider after these events, for a test of its decisions. It uses no journal."""
        return Given(self, events)

    def _row(self, instance: str) -> RunRow:
        with REGISTRY.engine().reading() as reader:
            row = reader.run_by_key(self.kind, self.name, a_text("instance", instance))
        if row is None:
            raise InstanceNotFound(
                f"there is no {self.name} {instance!r}; see {self.name}.instances()", name=self.name, instance=instance
            )
        return row

    # -- diagrams ------------------------------------------------------------------------------------------------

    @cached_property
    def _explorer(self) -> Explorer:
        return Explorer()

    def diagram(
        self,
        id: str | None = None,  # noqa: A002 -- instances have an id everywhere
        *,
        fields: Iterable[str] | None = None,
        samples: Iterable[Command] = (),
    ) -> StateDiagram:
        """Return the state diagram at this moment, from declaration, history, exploration and source.

        Transitions that happened are solid, others dashed, and those that only the source suggests dotted. Transitions
        that happened without being declared are red, with a ``!``. The diagram has `svg`, `text`, `mermaid` and `dot`.

        Args:
            id: the instance whose state and numbered path are shown; by default the number of instances in each state.
            fields: the fields of its state that are shown; by default texts and numbers.
            samples: more commands for the exploration.

        Raises:
            InstanceNotFound: no instance has that id.
        """
        from ironflow_nb.deciders.state_diagram import InstanceView, StateDiagram, simple_fields

        if id is None:
            return StateDiagram(self._state_machine(samples))
        row = self._row(id)
        machine = self._state_machine(samples, id)
        instance = next(each for each in machine.history.instances if each.instance_id == id)
        with REGISTRY.engine().reading() as reader:
            state = state_at(self, reader, row.run_id, id)
        shown = simple_fields(state, excluded=self.status_field) if fields is None else tuple(fields)
        return StateDiagram(machine, InstanceView(instance=instance, state=state, fields=shown))

    def drift(self, *, samples: Iterable[Command] = ()) -> pd.DataFrame:
        """Return the transitions in which history, code and declaration differ; none without a declaration.

        Columns: drift (``seen, not declared``, ``possible, not declared``, ``declared, never seen``, in this order),
        source, command, target, n_seen, last_seen_at, effects, timers.
        """
        return drift(self._state_machine(samples))

    def validate(self, *, samples: Iterable[Command] = ()) -> pd.DataFrame:
        """Return faults of the state machine, one finding a row; none is good.

        Columns: finding (unknown state, unreachable state, terminal state with an exit, dead end, command never
        accepted), status, command, message.
        """
        return validate(self._state_machine(samples))

    def _state_machine(self, samples: Iterable[Command], instance: str | None = None) -> StateMachine:
        return state_machine_of(REGISTRY.engine(), self, self._explorer, samples=samples, instance=instance)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        try:
            return self.diagram()._repr_mimebundle_()
        except Exception as error:  # noqa: BLE001 -- a display never raises, whatever is wrong with the journal
            return {"text/plain": f"{self!r}: {error}"}

    # -- a definition --------------------------------------------------------------------------------------------

    def continue_run(self, engine: Engine, run: RunRow, options: ResumeOptions = NONE) -> RunId:
        """Do nothing: an instance continues with its next command."""
        del engine, options
        return run.run_id

    @property
    def on_change(self) -> OnChange:
        """The rule for finished steps with changed code. A decider has no steps."""
        return OnChange.KEEP

    def __repr__(self) -> str:
        return f"decider {self.name}"


def _module_of_caller() -> str:
    """Return the name of the module that makes a decider.

    Two deciders of one name in one module are one decider that was edited.
    """
    frame = inspect.currentframe()
    own = (__name__, DeciderDefinition.__module__, Generic.__module__)  # the last one makes a ``Decider[...](...)``
    while frame is not None and frame.f_globals.get("__name__") in own:
        frame = frame.f_back
    return "?" if frame is None else str(frame.f_globals.get("__name__"))
