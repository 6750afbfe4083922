"""Deciders, and what can be asked of them."""

from __future__ import annotations

import inspect
from datetime import datetime
from typing import TYPE_CHECKING, Final, Generic

from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.plan import NONE, ResumeOptions
from ironflow_nb.core.replay_decision import OnChange
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.deciders import decider_frames
from ironflow_nb.deciders.commands import send
from ironflow_nb.deciders.decider_definition import Command, DeciderDefinition, Effect, Event, State
from ironflow_nb.deciders.decisions import Outcome
from ironflow_nb.deciders.diagram_mixin import DiagramMixin
from ironflow_nb.deciders.due_work import DueWorkThread, requeue, run_until_idle
from ironflow_nb.deciders.given_when_then import Given, When
from ironflow_nb.deciders.instances import moment, require_version, state_at
from ironflow_nb.execution import REGISTRY, Engine, a_text, logger, say

if TYPE_CHECKING:
    import pandas as pd

_INSIDE: Final = frozenset({
    "checks_purity", "code", "command_codec", "command_names", "continue_run", "decide_with", "definition_id",
    "effect_codec", "event_codec", "evolve_code", "evolve_with", "functions", "handlers", "has_unique_key",
    "instance_of", "is_terminal", "keep_state", "known_state", "memory", "module", "on_change", "samples",
    "status_field", "status_of", "terminal_statuses", "unique_key_of", "warned_in",
})  # fmt: skip
"""What is the package's own, and nothing to choose from with Tab."""


class Decider(DiagramMixin[State, Command, Event, Effect]):
    """A state machine: commands are decided, events recorded, effects performed, timers fired.

    Its functions are given with `evolve`, `decide` and `perform`. Defining one of the same name again replaces it, and
    ends what the one before does in the background; where another module defines it, a warning says so.
    """

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in _INSIDE]

    def _is_made(self) -> None:
        """Let the process know the machine; one of the same name gives way."""
        self._background: DueWorkThread | None = None
        self.module = _module_of_caller()
        self._take_the_place_of(REGISTRY.find(self.kind, self.name))
        REGISTRY.define(self)

    def _take_the_place_of(self, other: object) -> None:
        if not isinstance(other, Decider):
            return
        if other.module != self.module:
            logger().warning(
                "decider %s is defined in %s and in %s, and they share one journal; give one of them another name",
                self.name, other.module, self.module,
            )  # fmt: skip
        if other.is_performing:
            other.stop()
            say(f"{self.name} was defined again, and what {self.name}.start() began has ended; call it again")

    def send(self, command: Command, *, key: str | None = None, expected_version: int | None = None) -> Outcome:
        """Decide the command, and commit what follows from it in one transaction.

        Args:
            command: what is asked.
            key: a command with the same key is decided once; sent again, its outcome is returned.
            expected_version: the version that the instance must have, else nothing is decided.

        Raises:
            DecisionError: the command says no instance, or `decide` returned no decision.
            VersionConflict, UniqueKeyTaken, DuplicateKey: see there; nothing is stored.
            EventUnreadable, ValueNotStorable: an event can't be read, or can't be kept.
            ValueError: the key is no text.
        """
        if key is not None:
            a_text("key", key)
        outcome = send(REGISTRY.engine(), self, command, key=key, expected_version=expected_version)
        if self._background is not None:
            self._background.nudge()
        return outcome

    # -- effects and timers --------------------------------------------------------------------------------------

    def run_until_idle(self, *, wait: Duration = 0.0) -> int:
        """Perform the effects and fire the timers that are due, in this thread; return how many.

        Effects whose handler is not defined here are left alone, and named. With `wait`, what becomes due meanwhile is
        waited for: another attempt, a timer.
        """
        return run_until_idle(REGISTRY.engine(), self, wait_s=seconds(wait))

    def start(self) -> None:
        """Perform effects and fire timers in the background from now on, until `stop` or the end of the process."""
        engine = REGISTRY.engine()
        if self._background is not None and self._background.engine is not engine:
            self.stop()
        if self._background is None or self._background.is_stopped:
            self._background = DueWorkThread(engine, self)

    @property
    def is_performing(self) -> bool:
        """Whether effects are performed in the background."""
        return self._background is not None and not self._background.is_stopped

    def stop(self) -> None:
        """End what `start` began, after what is being performed."""
        if self._background is not None:
            self._background.stop()

    def dead_letters(self, *, instance: str | None = None, limit: int | None = 100) -> pd.DataFrame:
        """Return effects and timers that failed for good, newest first.

        A timer fails when its command can't be decided, five times, with the delays of an effect. There is nobody to
        answer its dead letter, as `on_dead_letter` of `perform` does: mend `decide`, and requeue it.

        Columns: instance, kind (effect or timer), name, data, attempts, error, created_at, dead_at, key, run_id.
        """
        return decider_frames.dead_letters(REGISTRY.engine(), self, instance, limit)

    def requeue(self, *, instance: str | None = None, key: str | None = None) -> int:
        """Let dead letters be tried again from the first attempt on; return how many there were.

        Args:
            instance: only those of this instance.
            key: only the one of this key; see `dead_letters`.
        """
        return requeue(REGISTRY.engine(), self, instance=instance, key=None if key is None else a_text("key", key))

    # -- history -------------------------------------------------------------------------------------------------

    def state(self, instance: str, *, at: int | datetime | None = None) -> State:
        """Return the state of the instance, now or after the event of a version or at an instant.

        Versions are those of `history`, of outcomes and of `expected_version`; 0 is before the first event.

        Raises:
            InstanceNotFound: there is none of that id.
            VersionNotFound: it has no such version.
            TypeError: `at` is neither a version nor an instant.
        """
        engine, row = REGISTRY.engine(), self._row(instance)
        version, microseconds = moment(at)
        with engine.reading() as reader:
            require_version(self, reader, row, version)
            found: State = state_at(self, reader, row.run_id, instance, version=version, at=microseconds)
        return found

    def history(self, instance: str) -> pd.DataFrame:
        """Return the events of the instance in order, one a row.

        Columns: version (which effects and timers count up, too; see `state`), at, event, data, status (after it).

        Raises:
            InstanceNotFound: there is none of that id.
        """
        return decider_frames.history(REGISTRY.engine(), self, self._row(instance))

    def instances(self) -> pd.DataFrame:
        """Return the instances, one a row, with the latest activity first.

        Columns: instance, status ("unreadable" where its events, or `evolve`, do not tell), is_completed, n_events,
        started_at, updated_at, completed_at, n_pending and n_dead (effects and timers), run_id.
        """
        return decider_frames.instances(REGISTRY.engine(), self)

    def observations(self, instance: str | None = None) -> pd.DataFrame:
        """Return every command that was sent, with what came of it, in order.

        Columns: instance, at, command, data, outcome (accepted, rejected, already_completed), reason, n_events,
        version, status_before, status_after, effects, timers, source (user, an effect, a timer), key.
        """
        chosen = None if instance is None else a_text("instance", instance)
        return decider_frames.observations(REGISTRY.engine(), self, chosen)

    def what_if(self, instance: str, command: Command, *, at: int | datetime | None = None) -> When:
        """Return what the instance would decide, now or at a version or instant; nothing is written."""
        engine = REGISTRY.engine()
        now = engine.access.instant(engine.clock.now())
        return Given(self, (), now, (self.state(instance, at=at),)).when(command)

    def given(self, *events: Event) -> Given:
        """Return the machine after these events, to let it decide a command: pure, without a journal."""
        return Given(self, events)

    def continue_run(self, engine: Engine, run: RunRow, orders: ResumeOptions = NONE) -> RunId:
        """Do nothing: an instance goes on when it is sent a command."""
        del engine, orders
        return run.run_id

    @property
    def on_change(self) -> OnChange:
        """What happens to finished steps whose code has changed: a decider has none."""
        return OnChange.KEEP

    def __repr__(self) -> str:
        return f"decider {self.name}"


def _module_of_caller() -> str:
    """Return the name of the module that makes a decider: two of one name in one module are one that was edited."""
    frame = inspect.currentframe()
    own = (__name__, DeciderDefinition.__module__, Generic.__module__)  # the last one calls for ``Decider[...](...)``
    while frame is not None and frame.f_globals.get("__name__") in own:
        frame = frame.f_back
    return "?" if frame is None else str(frame.f_globals.get("__name__"))
