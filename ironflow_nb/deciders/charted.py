"""Deciders as pictures: the state machine that a decider is, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from ironflow_nb.core.rows import RunRow
from ironflow_nb.deciders import state_findings
from ironflow_nb.deciders.exploring import Explorer
from ironflow_nb.deciders.loading import state_at
from ironflow_nb.deciders.machine import Command, Effect, Event, Machine, State
from ironflow_nb.deciders.state_machine import StateMachine, state_machine_of
from ironflow_nb.errors import InstanceNotFound
from ironflow_nb.execution.home import HOME
from ironflow_nb.execution.spec import a_text

if TYPE_CHECKING:
    import pandas as pd

    from ironflow_nb.deciders.state_diagram import StateDiagram


class Charted(Machine[State, Command, Event, Effect]):
    """A machine that shows itself as a state diagram."""

    @cached_property
    def _explorer(self) -> Explorer:
        return Explorer()

    def diagram(
        self,
        id: str | None = None,  # noqa: A002 -- what instances have is called an id everywhere
        *,
        fields: Iterable[str] | None = None,
        samples: Iterable[Command] = (),
    ) -> StateDiagram:
        """Return the state diagram as it is now: what is declared, was seen, can be reached, or stands in the source.

        Solid is what happened, dashed what never did, dotted what only the source suggests; red, with a ``!``, happened
        though it is not declared. It has `svg`, `text`, `mermaid` and `dot`.

        Args:
            id: the instance whose state and numbered way are shown; by default how many there are in each state.
            fields: the fields of its state that are shown; by default texts and numbers.
            samples: more commands with which `decide` is asked what it would accept.

        Raises:
            InstanceNotFound: there is none of that id.
        """
        from ironflow_nb.deciders.state_diagram import Looked, StateDiagram, simple_fields

        if id is None:
            return StateDiagram(self._machine(samples))
        row = self._row(id)
        machine = self._machine(samples, id)
        resident = next(each for each in machine.past.residents if each.instance == id)
        with HOME.engine().reading() as reader:
            state = state_at(self, reader, row.run_id, id)
        shown = simple_fields(state, but=self.status_field) if fields is None else tuple(fields)
        return StateDiagram(machine, Looked(resident=resident, state=state, fields=shown))

    def drift(self, *, samples: Iterable[Command] = ()) -> pd.DataFrame:
        """Return the transitions in which history, code and declaration differ; without a declaration there are none.

        Columns: drift (``seen, not declared``, ``possible, not declared``, ``declared, never seen``, in this order),
        source, command, target, n_seen, last_seen_at, effects, timers.
        """
        return state_findings.drift(self._machine(samples))

    def validate(self, *, samples: Iterable[Command] = ()) -> pd.DataFrame:
        """Return what can't be right about the state machine, one finding a row; none is good.

        Columns: finding (unknown state, unreachable state, terminal state with an exit, dead end, command never
        accepted), status, command, message.
        """
        return state_findings.validate(self._machine(samples))

    def _row(self, instance: str) -> RunRow:
        with HOME.engine().reading() as reader:
            row = reader.run_by_key(self.kind, self.name, a_text("instance", instance))
        if row is None:
            raise InstanceNotFound(
                f"there is no {self.name} {instance!r}; see {self.name}.instances()", name=self.name, instance=instance
            )
        return row

    def _machine(self, samples: Iterable[Command], instance: str | None = None) -> StateMachine:
        return state_machine_of(HOME.engine(), self, self._explorer, samples=samples, instance=instance)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        try:
            return self.diagram()._repr_mimebundle_()
        except Exception as error:  # noqa: BLE001 -- a display never raises, whatever became of the journal
            return {"text/plain": f"{self!r}: {error}"}
