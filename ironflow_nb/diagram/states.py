"""What the nodes of a diagram show: the recorded steps of a run, folded by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Final

import msgspec

from ironflow_nb.core.durations import spoken
from ironflow_nb.core.status import OWNED, RunStatus, StepStatus
from ironflow_nb.diagram.model import Diagram, Edge, Handled, Node, NodeKind, NodeStatus

IMPORTANCE: Final[tuple[NodeStatus, ...]] = (
    StepStatus.FAILED,
    StepStatus.TIMED_OUT,
    StepStatus.UNKNOWN,
    StepStatus.RUNNING,
    StepStatus.RETRYING,
    StepStatus.WAITING,
    StepStatus.INTERRUPTED,
    StepStatus.PENDING,
    StepStatus.CANCELLED,
    StepStatus.COMPENSATED,
    Handled.HANDLED,
    StepStatus.COMPLETED,
    StepStatus.SKIPPED,
)
"""The statuses by importance: a node of many steps shows the most important one.

First those that need a person, then running ones, then those to come, then those that are over.
"""


LIVELY: Final = frozenset({StepStatus.RUNNING, StepStatus.RETRYING})
"""The statuses of what is being worked on."""

_BLOCKS: Final = frozenset({NodeKind.LOOP, NodeKind.FORK})
"""The kinds of nodes whose state is that of the nodes inside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """The steps recorded under one name. `duration_s` is the sum of those known, None without any."""

    status: NodeStatus
    n_total: int = 1
    n_by_status: Mapping[NodeStatus, int] = field(default_factory=dict, hash=False)
    duration_s: float | None = None
    progress: str = ""
    """The progress of the only running step: that of a child run."""
    reported: str = ""
    """How far the only running step says that it is."""
    share: float | None = None
    """The share of that step that is done, if it says so."""
    words: str = ""
    """The words of the node in place of its status or counts."""
    detail: str = ""
    """More text for the tooltip of the node: the runs of its children."""
    reasons: tuple[str, ...] = ()
    """The recorded reasons why steps of it were skipped."""
    n_before: int = 0
    """The number of its completed steps that are not of the latest continuation."""
    before: str = ""
    """The word for these steps: reused."""

    @property
    def is_past(self) -> bool:
        """Whether it is over."""
        return self.status in {StepStatus.COMPLETED, StepStatus.COMPENSATED, StepStatus.SKIPPED, Handled.HANDLED}

    def n(self, status: NodeStatus) -> int:
        """Return how many of the steps have that status."""
        return self.n_by_status.get(status, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """Figures of a run that its steps do not have: its duration by the clock, and the steps that were not done anew."""

    wall_s: float | None = None
    is_continued: bool = False
    """Whether that is the time since it was continued."""
    n_reused: int = 0
    n_tried_again: int = 0
    reported: str = ""
    """How far the flow says that it is."""

    @property
    def words(self) -> str:
        """The figures in words, what is zero or unknown left out."""
        counted = {"reused": self.n_reused, "tried again": self.n_tried_again}
        since = " since continued" if self.is_continued else ""
        took = [] if self.wall_s is None else [f"{spoken(self.wall_s)}{since}"]
        said = [self.reported] if self.reported else []
        return " · ".join([*said, *took, *(f"{n} {what}" for what, n in counted.items() if n)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """The text above a diagram; status and id are None for a flow that has not run. The summary counts its steps."""

    name: str
    run_status: RunStatus | None = None
    run_id: str | None = None
    summary: str = ""
    figures: RunFigures = RunFigures()


def node_states(
    records: Iterable[tuple[str, NodeStatus, int, float | None]],
    *,
    n_expected: Mapping[str, int] | None = None,
    reasons: Mapping[str, Iterable[str]] | None = None,
) -> dict[str, NodeState]:
    """Fold recorded steps (name, status, how many, their seconds) into one state for each name.

    Args:
        records: how many steps of one name have one status, by their latest attempts.
        n_expected: how many steps there will be under a name, where that is known; those missing count as pending.
        reasons: why steps of a name were skipped.
    """
    counted: dict[str, dict[NodeStatus, int]] = {}
    durations: dict[str, float] = {}
    for name, status, n_steps, duration_s in records:
        of_name = counted.setdefault(name, {})
        of_name[status] = of_name.get(status, 0) + n_steps
        if duration_s is not None:
            durations[name] = durations.get(name, 0.0) + duration_s
    for name, n_wanted in (n_expected or {}).items():
        _expect(counted.setdefault(name, {}), n_wanted)
    why = {name: tuple(dict.fromkeys(given)) for name, given in (reasons or {}).items()}
    return {
        name: replace(_state(of_name, durations.get(name)), reasons=why.get(name, ()))
        for name, of_name in counted.items()
        if of_name
    }


def _expect(of_name: dict[NodeStatus, int], n_expected: int) -> None:
    n_missing = n_expected - sum(of_name.values())
    if n_missing > 0:
        of_name[StepStatus.PENDING] = of_name.get(StepStatus.PENDING, 0) + n_missing


def _state(of_name: dict[NodeStatus, int], duration_s: float | None) -> NodeState:
    status = next(status for status in IMPORTANCE if status in of_name)
    ordered = {status: of_name[status] for status in IMPORTANCE if status in of_name}
    return NodeState(status=status, n_total=sum(of_name.values()), n_by_status=ordered, duration_s=duration_s)


def with_left_out(
    diagram: Diagram, states: Mapping[str, NodeState], *, run_status: RunStatus | None
) -> dict[str, NodeState]:
    """Return the states with skipped ones added: of nodes without steps inside of a completed node.

    Nodes within others come after them.
    """
    found = dict(states)
    labels = {node.step: node.id for node in diagram.nodes}
    for node in diagram.nodes:
        if node.step is None or node.within is None or node.step in found:
            continue
        around = found.get(node.within)
        is_over = run_status is RunStatus.COMPLETED if not node.within else around is not None and around.is_past
        if is_over:
            why = f"{labels.get(node.within, 'the run')} ended without it"
            found[node.step] = NodeState(status=StepStatus.SKIPPED, n_by_status={StepStatus.SKIPPED: 1}, reasons=(why,))
    return found


def with_blocks(
    diagram: Diagram, states: Mapping[str, NodeState], *, run_status: RunStatus | None
) -> tuple[Diagram, dict[str, NodeState]]:
    """Return diagram and states with a state for each loop, gather and task group of which a node has begun.

    A block itself is not recorded while it runs, and that of a flow never is. Its state follows from the nodes inside,
    which come after it and are deeper.
    """
    if run_status is None:
        return diagram, dict(states)
    found, nodes = dict(states), list(diagram.nodes)
    for position, node in enumerate(nodes):
        if node.kind not in _BLOCKS:
            continue
        inside = _nodes_inside(nodes, position)
        is_left = _is_left(diagram, {node.id, *(each.id for each in inside)}, states)
        is_over = run_status not in OWNED or is_left
        state = _block_state([each for other in inside if (each := state_of(other, states))], is_over=is_over)
        if state is not None and state.is_past and run_status is RunStatus.INTERRUPTED and not is_left:
            state = NodeState(status=StepStatus.INTERRUPTED, n_by_status={StepStatus.INTERRUPTED: 1})
        key = node.step or f"block:{node.id}"
        if state is not None and (key not in states or state.status in LIVELY):
            found[key] = state
            nodes[position] = msgspec.structs.replace(node, step=key)
    return Diagram(diagram.name, tuple(nodes), diagram.edges), found


def _nodes_inside(nodes: Sequence[Node], position: int) -> list[Node]:
    """Return the nodes inside of the node at that position: those after it that are deeper."""
    depth = nodes[position].depth
    return list(takewhile(lambda node: node.depth > depth, nodes[position + 1 :]))


def _is_left(diagram: Diagram, block: set[str], states: Mapping[str, NodeState]) -> bool:
    """Return True if something that comes after the block has begun."""
    steps = {node.id: node.step for node in diagram.nodes}
    reached = set(block)
    while after := {edge.target for edge in diagram.edges if edge.source in reached and not edge.is_back} - reached:
        if any(steps[node_id] in states for node_id in after):
            return True
        reached |= after
    return False


def _block_state(inside: Sequence[NodeState], *, is_over: bool) -> NodeState | None:
    """Return the state of a block with these states inside; of those that have not begun nothing follows."""
    whole = merged(state for state in inside if state.status is not StepStatus.SKIPPED)
    if whole is None:
        return None
    status = whole.status
    if any(whole.n(each) for each in LIVELY):
        status = StepStatus.RUNNING
    elif not is_over:
        status = StepStatus.WAITING if whole.n(StepStatus.WAITING) else StepStatus.RUNNING
    elif status is Handled.HANDLED:  # the block went on after it
        status = StepStatus.COMPLETED
    return NodeState(status=status, n_by_status={status: 1})


def state_of(node: Node, states: Mapping[str, NodeState]) -> NodeState | None:
    """Return the state that the node shows, or None if nothing of it is recorded."""
    return None if node.step is None else states.get(node.step)


def merged(states: Iterable[NodeState]) -> NodeState | None:
    """Return the states as one, or None if there are none."""
    of_all: dict[NodeStatus, int] = {}
    durations: list[float] = []
    for state in states:
        for status, n_steps in (state.n_by_status or {state.status: state.n_total}).items():
            of_all[status] = of_all.get(status, 0) + n_steps
        durations += [] if state.duration_s is None else [state.duration_s]
    return _state(of_all, sum(durations) if durations else None) if of_all else None


def counts(state: NodeState) -> str:
    """Return what there is to count: ``812 of 1000, 3 failed``; an empty text for a single step."""
    if state.n_total == 1:
        return ""
    return ", ".join([f"{state.n(StepStatus.COMPLETED)} of {state.n_total}", *_not_done(state)])


def in_words(status: NodeStatus) -> str:
    """Return the status in words."""
    return status.words if isinstance(status, Handled) else str(status).replace("_", " ")


def with_reasons(words: str, state: NodeState) -> str:
    """Return the words for the state with why steps of it were skipped, if that is recorded."""
    return f"{words} ({'; '.join(state.reasons)})" if state.reasons else words


def _not_done(state: NodeState) -> list[str]:
    said = (StepStatus.COMPLETED, StepStatus.PENDING)
    return [f"{n} {in_words(status)}" for status, n in state.n_by_status.items() if n and status not in said]


def state_words(state: NodeState) -> str:
    """Return the state in words: its counts, or its status, unless that is the ordinary end."""
    if state.words:
        return state.words
    if state.n_total > 1:
        return f"{counts(state)} ({state.reported})" if state.reported else counts(state)
    if state.status is StepStatus.RUNNING and (state.progress or state.reported):
        return state.progress or state.reported
    return "" if state.status is StepStatus.COMPLETED else in_words(state.status)


def state_words_with_time(state: NodeState) -> str:
    """Return the state in words, with how long its steps took, if that is known."""
    before = f"{state.n_before} {state.before}" if state.n_total > 1 else state.before
    said = ", ".join(filter(None, [state_words(state), before if state.n_before else ""]))
    if state.duration_s is None:
        return said or in_words(state.status)
    took = spoken(state.duration_s) if state.n_total == 1 else f"{spoken(state.duration_s)} of work"
    return f"{said} · {took}" if said else took


def caption(diagram: Diagram, states: Mapping[str, NodeState], given: Caption) -> Caption:
    """Return the caption of the diagram of a run, or of a flow that has not run."""
    whole = merged(states.values())
    n_done = 0 if whole is None else whole.n(StepStatus.COMPLETED)
    done = f"{n_done} step{'' if n_done == 1 else 's'} done"
    summary = "" if whole is None else ", ".join([done, *_not_done(whole)])
    return replace(given, name=diagram.name, summary=given.summary or summary)


def with_recorded(diagram: Diagram, names: Iterable[str]) -> Diagram:
    """Return the diagram with a node for each recorded name that it lacks: a step that a helper called, for example.

    They hang from the start by dashed edges, which is made if the diagram has none.
    """
    known = {node.step for node in diagram.nodes}
    missing = [name for name in dict.fromkeys(names) if name not in known]
    if not missing:
        return diagram
    taken = {node.id for node in diagram.nodes}
    nodes = diagram.nodes
    start = next((node for node in nodes if node.kind is NodeKind.START), None)
    if start is None:
        start = Node(id=_fresh("start", taken), kind=NodeKind.START, label="start")
        nodes = (start, *nodes)
    extra = tuple(_recorded_node(name, taken | {start.id}) for name in missing)
    edges = tuple(Edge(source=start.id, target=node.id, is_dashed=True) for node in extra)
    return Diagram(diagram.name, nodes + extra, diagram.edges + edges)


def _recorded_node(name: str, taken: Set[str]) -> Node:
    label = name.rpartition(".")[2] or name
    title = f"{name}\nrecorded, but not seen in the source of the flow"
    return Node(id=_fresh(f"recorded:{name}", taken), kind=NodeKind.OTHER, label=label, step=name, title=title)


def _fresh(wanted: str, taken: Set[str]) -> str:
    while wanted in taken:
        wanted += "'"
    return wanted
