"""What is wrong with a state machine, as DataFrames: where code and declaration part, and what can't be right.

Deciders as pictures: the state machine that a decider is, and what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeAlias

from ironflow_nb.core.run_state import RunRow
from ironflow_nb.deciders.decider_definition import Command, DeciderDefinition, Effect, Event, State
from ironflow_nb.deciders.explored_transitions import Explorer
from ironflow_nb.deciders.instances import state_at
from ironflow_nb.deciders.state_machine import StateMachine, state_machine_of
from ironflow_nb.deciders.transitions import MergedTransition
from ironflow_nb.errors import InstanceNotFound
from ironflow_nb.execution import REGISTRY, a_text
from ironflow_nb.history.tables import INSTANT, TEXT, frame_of_records

if TYPE_CHECKING:
    import pandas as pd

    from ironflow_nb.deciders.state_diagram import StateDiagram

DRIFT: Final = {
    "drift": TEXT, "source": TEXT, "command": TEXT, "target": TEXT, "n_seen": "int64", "last_seen_at": INSTANT,
    "effects": "object", "timers": "object",
}  # fmt: skip
FINDINGS: Final = {"finding": TEXT, "status": TEXT, "command": TEXT, "message": TEXT}

NOT_DECLARED: Final = "seen, not declared"
NEVER_SEEN: Final = "declared, never seen"
POSSIBLE: Final = "possible, not declared"

Finding: TypeAlias = tuple[str, str | None, str | None, str]


def drift(machine: StateMachine) -> pd.DataFrame:
    """Return the transitions in which history, code and declaration differ; without a declaration there are none."""
    found = [(_drift(arrow), arrow) for arrow in machine.arrows] if machine.is_declared else []
    order = (NOT_DECLARED, POSSIBLE, NEVER_SEEN)
    ordered = [(kind, arrow) for wanted in order for kind, arrow in found if kind == wanted]
    return frame_of_records(
        DRIFT,
        [
            {
                "drift": kind, "source": arrow.transition.source, "command": arrow.transition.command,
                "target": arrow.transition.target, "n_seen": arrow.n_seen, "last_seen_at": arrow.last_at,
                "effects": list(arrow.transition.effects), "timers": list(arrow.transition.timers),
            }
            for kind, arrow in ordered
        ],
    )  # fmt: skip


def _drift(arrow: MergedTransition) -> str | None:
    if arrow.n_seen:
        return None if arrow.is_declared else NOT_DECLARED
    if arrow.is_declared:
        return NEVER_SEEN
    return POSSIBLE if arrow.is_explored else None


def validate(machine: StateMachine) -> pd.DataFrame:
    """Return what can't be right about the machine, one finding a row."""
    found = [*_unknown(machine), *_unreachable(machine), *_terminal_with_exits(machine), *_dead_ends(machine)]
    found += _never_accepted(machine)
    return frame_of_records(FINDINGS, [dict(zip(FINDINGS, each, strict=True)) for each in found])


def _unknown(machine: StateMachine) -> Iterator[Finding]:
    """Find statuses that only the declaration names, where there is something else that could know them."""
    others = [arrow for arrow in machine.arrows if arrow.n_seen or arrow.is_explored or arrow.is_hinted]
    known = {end for arrow in others for end in (arrow.transition.source, arrow.transition.target)}
    if not machine.is_declared or not known:
        return
    known |= {machine.initial, *machine.named_terminal, *machine.explored.statuses}
    known |= {hint.source for hint in machine.hints}
    declared = [arrow.transition for arrow in machine.arrows if arrow.is_declared]
    for status in dict.fromkeys(end for each in declared for end in (each.source, each.target)):
        if status not in known:
            yield "unknown state", status, None, f"only the declaration knows the state {status!r}; is it misspelt?"


def _unreachable(machine: StateMachine) -> Iterator[Finding]:
    for status in machine.statuses:
        if status not in machine.reachable:
            yield "unreachable state", status, None, f"no transition leads from {machine.initial!r} to {status!r}"


def _terminal_with_exits(machine: StateMachine) -> Iterator[Finding]:
    for arrow in machine.arrows:
        each = arrow.transition
        if each.source in machine.terminal:
            message = f"{each.source!r} is terminal, so {each.command} is never decided there"
            yield "terminal state with an exit", each.source, each.command, message


def _dead_ends(machine: StateMachine) -> Iterator[Finding]:
    left = {arrow.transition.source for arrow in machine.arrows}
    left |= {hint.source for hint in machine.hints}
    for status in machine.statuses:
        if status not in left and status not in machine.terminal:
            yield "dead end", status, None, f"nothing is known to be accepted in {status!r}, and it is not terminal"


def _never_accepted(machine: StateMachine) -> Iterator[Finding]:
    accepted = {arrow.transition.command for arrow in machine.arrows} | {hint.command for hint in machine.hints}
    for command in machine.commands:
        if command not in accepted:
            yield "command never accepted", None, command, f"no state is known to accept {command}"


class DiagramMixin(DeciderDefinition[State, Command, Event, Effect]):
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
        from ironflow_nb.deciders.state_diagram import InstanceView, StateDiagram, simple_fields

        if id is None:
            return StateDiagram(self._machine(samples))
        row = self._row(id)
        machine = self._machine(samples, id)
        resident = next(each for each in machine.past.residents if each.instance == id)
        with REGISTRY.engine().reading() as reader:
            state = state_at(self, reader, row.run_id, id)
        shown = simple_fields(state, but=self.status_field) if fields is None else tuple(fields)
        return StateDiagram(machine, InstanceView(resident=resident, state=state, fields=shown))

    def drift(self, *, samples: Iterable[Command] = ()) -> pd.DataFrame:
        """Return the transitions in which history, code and declaration differ; without a declaration there are none.

        Columns: drift (``seen, not declared``, ``possible, not declared``, ``declared, never seen``, in this order),
        source, command, target, n_seen, last_seen_at, effects, timers.
        """
        return drift(self._machine(samples))

    def validate(self, *, samples: Iterable[Command] = ()) -> pd.DataFrame:
        """Return what can't be right about the state machine, one finding a row; none is good.

        Columns: finding (unknown state, unreachable state, terminal state with an exit, dead end, command never
        accepted), status, command, message.
        """
        return validate(self._machine(samples))

    def _row(self, instance: str) -> RunRow:
        with REGISTRY.engine().reading() as reader:
            row = reader.run_by_key(self.kind, self.name, a_text("instance", instance))
        if row is None:
            raise InstanceNotFound(
                f"there is no {self.name} {instance!r}; see {self.name}.instances()", name=self.name, instance=instance
            )
        return row

    def _machine(self, samples: Iterable[Command], instance: str | None = None) -> StateMachine:
        return state_machine_of(REGISTRY.engine(), self, self._explorer, samples=samples, instance=instance)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        try:
            return self.diagram()._repr_mimebundle_()
        except Exception as error:  # noqa: BLE001 -- a display never raises, whatever became of the journal
            return {"text/plain": f"{self!r}: {error}"}
