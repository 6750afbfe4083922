"""The diagram of a state machine: which command leads where, what was seen of it, and who stands where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final

import msgspec

from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.deciders.observed_transitions import ObservedInstance
from ironflow_nb.deciders.state_machine import StateMachine
from ironflow_nb.deciders.transitions import MergedTransition
from ironflow_nb.diagram.draw import Picture, draw_machine
from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind, TransitionTone
from ironflow_nb.diagram.sizes import ELLIPSIS
from ironflow_nb.diagram.states import Caption, NodeState, node_states
from ironflow_nb.handles.run_picture import bundle_of

INITIAL: Final = "initial"
TIMER_SIGN: Final = "⏲"
TIMES_SIGN: Final = "\u00d7"
N_NUMBERS: Final = 4
"""So many numbers of a way stand at one transition; of more the first ones and the last."""
_SIMPLE: Final = (str, int, float, bool)
_TONE_WORDS: Final = {
    TransitionTone.SEEN: "seen",
    TransitionTone.POSSIBLE: "never exercised",
    TransitionTone.DRIFT: "seen, but not declared",
    TransitionTone.HINT: "only suggested by the source of decide",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceView:
    """The instance that is looked at, and its state."""

    resident: ObservedInstance
    state: Any
    fields: tuple[str, ...]


class StateDiagram:
    """The diagram of a decider, or of one instance of it, as it was when it was asked for. It shows itself."""

    def __init__(self, machine: StateMachine, looked: InstanceView | None = None) -> None:
        self.model = model_of(machine, looked)
        self.states = _states(machine, looked)
        self._caption = _caption(machine, looked)
        self._prefix = f"iron-{machine.name}" + (f"-{looked.resident.instance}" if looked is not None else "")

    def picture(self) -> Picture:
        """Draw it."""
        return draw_machine(self.model, self.states, caption=self._caption, prefix=self._prefix)

    @property
    def svg(self) -> str | None:
        """The picture, without anything that must be fetched; None if it could not be drawn."""
        return self.picture().svg

    @property
    def text(self) -> str:
        """The diagram as text: every state, and where commands lead from there."""
        return self.picture().text

    @property
    def mermaid(self) -> str:
        """The diagram for Markdown."""
        from ironflow_nb.diagram.markup import to_mermaid

        return to_mermaid(self.model, self.states)

    @property
    def dot(self) -> str:
        """The diagram for Graphviz."""
        from ironflow_nb.diagram.markup import to_dot

        return to_dot(self.model, self.states)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return bundle_of(self.picture())

    def __repr__(self) -> str:
        return self.text


def model_of(machine: StateMachine, looked: InstanceView | None = None) -> Diagram:
    """Return the states and transitions, with the way of the instance that is looked at."""
    notes = _notes(machine, looked)
    begin = Node(id=INITIAL, kind=NodeKind.INITIAL, label="")
    states = [_node(machine, status, notes.get(status, "")) for status in machine.statuses]
    edges = [_edge(machine, arrow) for arrow in machine.arrows]
    first = Edge(source=INITIAL, target=_id(machine.initial))
    return Diagram(machine.name, (begin, *states), (first, *edges))


def _id(status: str) -> str:
    return f"state:{status}"


def _node(machine: StateMachine, status: str, note: str) -> Node:
    kind = NodeKind.FINAL if status in machine.terminal else NodeKind.STATE
    return Node(id=_id(status), kind=kind, label=status or "''", step=status, note=note, title=note)


def _edge(machine: StateMachine, arrow: MergedTransition) -> Edge:
    transition = arrow.transition
    numbers = [place for place, key in enumerate(machine.way, 1) if key == transition.key]
    tone = tone_of(arrow, is_declared=machine.is_declared)
    return Edge(
        source=_id(transition.source),
        target=_id(transition.target),
        label=_label(arrow, tone, numbers),
        tone=tone,
        n_seen=arrow.n_seen,
        is_taken=bool(numbers),
        title=_title(arrow, tone, numbers),
    )


def tone_of(arrow: MergedTransition, *, is_declared: bool) -> TransitionTone:
    """Return what is to be said of the transition, of a machine that has a declaration or none."""
    if arrow.n_seen:
        return TransitionTone.DRIFT if is_declared and not arrow.is_declared else TransitionTone.SEEN
    return TransitionTone.HINT if arrow.is_only_hinted else TransitionTone.POSSIBLE


def _label(arrow: MergedTransition, tone: TransitionTone, numbers: Sequence[int]) -> str:
    transition = arrow.transition
    follows = [*transition.effects, *(f"{TIMER_SIGN} {key}" for key in transition.timers)]
    said = transition.command + (f" / {', '.join(follows)}" if follows else "")
    drift = "! " if tone is TransitionTone.DRIFT else ""
    count = f" {TIMES_SIGN}{arrow.n_seen}" if arrow.n_seen > 1 else ""
    way = f"{_numbered(numbers)} " if numbers else ""
    return f"{drift}{way}{said}{count}"


def _numbered(numbers: Sequence[int]) -> str:
    """Return the numbers in circles: ①③; those above twenty in brackets."""
    shown = list(numbers) if len(numbers) <= N_NUMBERS else [*numbers[: N_NUMBERS - 1], 0, numbers[-1]]
    return "".join(chr(0x2460 + n - 1) if 0 < n <= 20 else f"({n})" if n else ELLIPSIS for n in shown)


def _title(arrow: MergedTransition, tone: TransitionTone, numbers: Sequence[int]) -> str:
    transition = arrow.transition
    times = f" {arrow.n_seen} times" if arrow.n_seen > 1 else " once" if arrow.n_seen else ""
    parts = [
        f"{transition.source}: {transition.command} leads to {transition.target}",
        f"{_TONE_WORDS[tone]}{times if tone is TransitionTone.SEEN else f' ({times.strip()})' if times else ''}",
        f"effects: {', '.join(transition.effects)}" if transition.effects else "",
        f"timers: {', '.join(transition.timers)}" if transition.timers else "",
        f"on the way shown: {', '.join(map(str, numbers))}" if numbers else "",
    ]
    return "\n".join(filter(None, parts))


def _notes(machine: StateMachine, looked: InstanceView | None) -> dict[str, str]:
    """Return what states show below their labels: the fields of the one that is looked at, or how many stand there."""
    if looked is not None:
        return {looked.resident.status: ", ".join(_fields(looked))}
    counted = Counter(resident.status for resident in machine.past.residents)
    return {status: f"{n_here} here" for status, n_here in counted.items()}


def _fields(looked: InstanceView) -> list[str]:
    return [f"{name}={_short(getattr(looked.state, name, None))}" for name in looked.fields]


def _short(value: Any) -> str:
    said = value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else repr(value)
    return said if len(said) <= 24 else said[:23] + ELLIPSIS


def simple_fields(state: Any, *, but: str | None) -> tuple[str, ...]:
    """Return the fields of a state that are numbers, and texts that are not empty, without that one."""
    if is_dataclass(state):
        names = [field.name for field in fields(state)]
    elif isinstance(state, msgspec.Struct):
        names = list(state.__struct_fields__)
    else:
        names = []
    return tuple(name for name in names if name != but and _is_told(getattr(state, name, None)))


def _is_told(value: Any) -> bool:
    return isinstance(value, _SIMPLE) and value != ""


def _states(machine: StateMachine, looked: InstanceView | None) -> dict[str, NodeState]:
    """Return how the states look in which somebody stands."""
    shown = machine.past.residents if looked is None else (looked.resident,)
    return node_states((resident.status, _status(resident), 1, None) for resident in shown)


def _status(resident: ObservedInstance) -> StepStatus:
    if resident.n_dead:
        return StepStatus.FAILED
    if resident.is_completed:
        return StepStatus.COMPLETED
    return StepStatus.RUNNING if resident.has_effects else StepStatus.WAITING


def _caption(machine: StateMachine, looked: InstanceView | None) -> Caption:
    if looked is None:
        return Caption(name=machine.name, summary=_summary(machine.past.residents))
    resident = looked.resident
    status = RunStatus.COMPLETED if resident.is_completed else RunStatus.WAITING
    n_steps = len(machine.way)
    summary = [f"{n_steps} command{'' if n_steps == 1 else 's'} accepted", _dead(resident.n_dead)]
    return Caption(
        name=f"{machine.name} {resident.instance}", run_status=status, summary=", ".join(filter(None, summary))
    )


def _summary(residents: Sequence[ObservedInstance]) -> str:
    n_completed = sum(resident.is_completed for resident in residents)
    n_all = len(residents)
    parts = [
        f"{n_all} instance{'' if n_all == 1 else 's'}" if n_all else "no instance yet",
        f"{n_completed} completed" if n_completed else "",
        _dead(sum(resident.n_dead for resident in residents)),
    ]
    return ", ".join(filter(None, parts))


def _dead(n_dead: int) -> str:
    return "" if not n_dead else "1 dead letter" if n_dead == 1 else f"{n_dead} dead letters"
