"""The diagram of a state machine: its transitions with their counts, and the instances in each status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final

import msgspec

from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.deciders.state_machine import ObservedInstance, StateMachine
from ironflow_nb.deciders.transitions import MergedTransition
from ironflow_nb.diagram.draw import Picture, draw_machine
from ironflow_nb.diagram.model import Diagram, Edge, Node, NodeKind, TransitionTone
from ironflow_nb.diagram.sizes import ELLIPSIS
from ironflow_nb.diagram.states import Caption, NodeState, node_states
from ironflow_nb.diagram.svg import element_id
from ironflow_nb.handles.run_picture import bundle_of

INITIAL: Final = "initial"
TIMER_SIGN: Final = "⏲"
TIMES_SIGN: Final = "\u00d7"
N_NUMBERS: Final = 4
"""The number of step numbers shown at one transition. Of more, the first ones and the last are shown."""
_SIMPLE: Final = (str, int, float, bool)
_TONE_WORDS: Final = {
    TransitionTone.SEEN: "seen",
    TransitionTone.POSSIBLE: "never exercised",
    TransitionTone.DRIFT: "seen, but not declared",
    TransitionTone.HINT: "only suggested by the source of decide",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceView:
    """The instance that a diagram is about, with its state and the fields to show."""

    instance: ObservedInstance
    state: Any
    fields: tuple[str, ...]


class StateDiagram:
    """The diagram of a decider or of one instance, at one moment. It displays itself in a notebook."""

    def __init__(self, machine: StateMachine, view: InstanceView | None = None) -> None:
        self.model = model_of(machine, view)
        self.states = _states(machine, view)
        self._caption = _caption(machine, view)
        self.prefix = f"iron-{machine.name}" + (f"-{view.instance.instance_id}" if view is not None else "")

    def picture(self) -> Picture:
        """Return the drawn diagram."""
        return draw_machine(self.model, self.states, caption=self._caption, prefix=self.prefix)

    @property
    def svg(self) -> str | None:
        """The picture as SVG without external resources; None if it could not be drawn."""
        return self.picture().svg

    @property
    def text(self) -> str:
        """The diagram as text: every state with the transitions from it."""
        return self.picture().text

    @property
    def mermaid(self) -> str:
        """The diagram as a ``stateDiagram-v2`` of Mermaid, for Markdown."""
        from ironflow_nb.diagram.text_forms import to_machine_mermaid

        return to_machine_mermaid(self.model, self.states)

    @property
    def dot(self) -> str:
        """The diagram in the language of Graphviz."""
        from ironflow_nb.diagram.text_forms import to_dot

        return to_dot(self.model, self.states)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return bundle_of(self.picture())

    def __repr__(self) -> str:
        return self.text


def model_of(machine: StateMachine, view: InstanceView | None = None) -> Diagram:
    """Return the states and transitions, with the path of the instance in `view`."""
    notes = _notes(machine, view)
    begin = Node(id=INITIAL, kind=NodeKind.INITIAL, label="")
    states = [_node(machine, status, notes.get(status, "")) for status in machine.statuses]
    edges = [_edge(machine, arrow) for arrow in machine.arrows]
    first = Edge(source=INITIAL, target=_id(machine.initial))
    return Diagram(machine.name, (begin, *states), (first, *edges))


def state_element_id(diagram: StateDiagram, status: str) -> str:
    """Return the id that the group of the state has in the SVG of the diagram."""
    return element_id(_id(status), diagram.prefix)


def _id(status: str) -> str:
    return f"state:{status}"


def _node(machine: StateMachine, status: str, note: str) -> Node:
    kind = NodeKind.FINAL if status in machine.terminal else NodeKind.STATE
    return Node(id=_id(status), kind=kind, label=status or "''", step=status, note=note, title=note)


def _edge(machine: StateMachine, arrow: MergedTransition) -> Edge:
    transition = arrow.transition
    numbers = [place for place, key in enumerate(machine.path, 1) if key == transition.key]
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
    """Return the tone of a transition; `is_declared` is True if the machine has a declaration."""
    if arrow.n_seen:
        return TransitionTone.DRIFT if is_declared and not arrow.is_declared else TransitionTone.SEEN
    return TransitionTone.HINT if arrow.is_only_hinted else TransitionTone.POSSIBLE


def _label(arrow: MergedTransition, tone: TransitionTone, numbers: Sequence[int]) -> str:
    transition = arrow.transition
    follows = [*transition.effects, *(f"{TIMER_SIGN} {key}" for key in transition.timers)]
    text = transition.command + (f" / {', '.join(follows)}" if follows else "")
    drift = "! " if tone is TransitionTone.DRIFT else ""
    count = f" {TIMES_SIGN}{arrow.n_seen}" if arrow.n_seen > 1 else ""
    path = f"{_circled(numbers)} " if numbers else ""
    return f"{drift}{path}{text}{count}"


def _circled(numbers: Sequence[int]) -> str:
    """Return the numbers in circles, such as ①③; numbers above twenty in brackets."""
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
        f"on the path shown: {', '.join(map(str, numbers))}" if numbers else "",
    ]
    return "\n".join(filter(None, parts))


def _notes(machine: StateMachine, view: InstanceView | None) -> dict[str, str]:
    """Return the notes below the labels of states: fields of the instance in `view`, or the number of instances."""
    if view is not None:
        return {view.instance.status: ", ".join(_fields(view))}
    counted = Counter(instance.status for instance in machine.history.instances)
    return {status: f"{n_here} here" for status, n_here in counted.items()}


def _fields(view: InstanceView) -> list[str]:
    return [f"{name}={_short_text(getattr(view.state, name, None))}" for name in view.fields]


def _short_text(value: Any) -> str:
    text = value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 24 else text[:23] + ELLIPSIS


def simple_fields(state: Any, *, excluded: str | None) -> tuple[str, ...]:
    """Return the names of the fields that are numbers or nonempty texts, without the excluded one."""
    if is_dataclass(state):
        names = [field.name for field in fields(state)]
    elif isinstance(state, msgspec.Struct):
        names = list(state.__struct_fields__)
    else:
        names = []
    return tuple(name for name in names if name != excluded and _is_shown(getattr(state, name, None)))


def _is_shown(value: Any) -> bool:
    return isinstance(value, _SIMPLE) and value != ""


def _states(machine: StateMachine, view: InstanceView | None) -> dict[str, NodeState]:
    """Return the look of the states that have instances."""
    shown = machine.history.instances if view is None else (view.instance,)
    return node_states((instance.status, _status(instance), 1, None) for instance in shown)


def _status(instance: ObservedInstance) -> StepStatus:
    if instance.n_dead:
        return StepStatus.FAILED
    if instance.is_completed:
        return StepStatus.COMPLETED
    return StepStatus.RUNNING if instance.has_effects else StepStatus.WAITING


def _caption(machine: StateMachine, view: InstanceView | None) -> Caption:
    if view is None:
        return Caption(name=machine.name, summary=_summary(machine.history.instances))
    instance = view.instance
    status = RunStatus.COMPLETED if instance.is_completed else RunStatus.WAITING
    n_steps = len(machine.path)
    summary = [f"{n_steps} command{'' if n_steps == 1 else 's'} accepted", _format_dead_letters(instance.n_dead)]
    return Caption(
        name=f"{machine.name} {instance.instance_id}", run_status=status, summary=", ".join(filter(None, summary))
    )


def _summary(instances: Sequence[ObservedInstance]) -> str:
    n_completed = sum(instance.is_completed for instance in instances)
    n_all = len(instances)
    parts = [
        f"{n_all} instance{'' if n_all == 1 else 's'}" if n_all else "no instance yet",
        f"{n_completed} completed" if n_completed else "",
        _format_dead_letters(sum(instance.n_dead for instance in instances)),
    ]
    return ", ".join(filter(None, parts))


def _format_dead_letters(n_dead: int) -> str:
    return "" if not n_dead else "1 dead letter" if n_dead == 1 else f"{n_dead} dead letters"
