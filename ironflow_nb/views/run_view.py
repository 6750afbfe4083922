"""The view of a run: its header, nodes, edges, waits, lanes, breakers, progress, and what can be asked of it now.

It has no clock and reads nothing. While nothing happens in the run, its views are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from ironflow_nb.core.breaker_rules import BreakerState
from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.lane_rules import LaneKey, LanePlace
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import CLOSED, FAILURES, OWNED, RunKind, RunStatus, StepStatus
from ironflow_nb.diagram.draw import ShownDiagram
from ironflow_nb.diagram.model import Diagram, Edge, Handled, Node
from ironflow_nb.diagram.states import Caption, NodeState, merged
from ironflow_nb.views import deltas
from ironflow_nb.views.deltas import Delta


class NodeView(msgspec.Struct, frozen=True):
    """A node with its state, None if nothing of it is recorded. A map is one node, whose state counts its items."""

    node: Node
    state: NodeState | None = None


class WaitView(msgspec.Struct, frozen=True, kw_only=True):
    """An open wait. It ends at `due_at` (microseconds UTC), with one of the signals (or all), or with an answer."""

    step: StepRef
    kind: str
    since_at: int
    due_at: int | None = None
    signals: tuple[str, ...] = ()
    question: str | None = None
    fits: str = ""
    """What answers a question, in words."""
    form: str = ""
    """How it is answered: choice, text, number, date, datetime, json, frame (one to edit); empty if by no form."""
    choices: tuple[str, ...] = ()
    """The answers to choose from, as they are typed; none if any answer that fits is taken."""
    payload: str | None = None
    expression: str = ""
    """The expression that answers it."""


class LaneView(msgspec.Struct, frozen=True, kw_only=True):
    """A lane in which the run waits for a place; the numbers are those of all runs."""

    lane: str
    key: str
    limit: int | None
    n_held: int
    n_waiting: int


class BreakerView(msgspec.Struct, frozen=True, kw_only=True):
    """A breaker that the run waits for; once its `open_until` (microseconds UTC) is over, one attempt begins."""

    name: str
    n_failed: int
    open_until: int | None


class ProgressView(msgspec.Struct, frozen=True, kw_only=True):
    """How many steps are done, failed, and known: recorded, or expected as items of a map or a loop."""

    n_done: int = 0
    n_failed: int = 0
    n_known: int = 0
    expected_end_at: int | None = None
    """When it is likely to end, microseconds UTC; None if nothing tells."""


class RunAction(StrEnum):
    """What can be asked of a run."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RETRY = "retry"
    """To try again the failures that its flow has handled."""
    ANSWER = "answer"
    SIGNAL = "signal"
    INJECT = "inject"
    """To give a step a result by hand."""
    FORK = "fork"


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """All that is shown of a run at one moment. Instants are microseconds UTC."""

    run_id: RunId
    kind: str
    caption: Caption
    status: RunStatus
    began_at: int | None = None
    """When its latest continuation began."""
    ended_at: int | None = None
    n_sessions: int = 0
    progress: ProgressView = ProgressView()
    nodes: tuple[NodeView, ...] = ()
    edges: tuple[Edge, ...] = ()
    waits: tuple[WaitView, ...] = ()
    lanes: tuple[LaneView, ...] = ()
    breakers: tuple[BreakerView, ...] = ()
    actions: tuple[RunAction, ...] = ()

    def delta(self, since: RunView) -> Delta:
        """Return what has changed since an earlier view."""
        return deltas.delta(since, self, _KEYS)

    def after(self, change: Delta) -> RunView:
        """Return the view that the change makes of this one."""
        return deltas.applied(self, change, _KEYS)

    @property
    def shown(self) -> ShownDiagram:
        """What its picture and its text are made from."""
        diagram = Diagram(self.caption.name, tuple(each.node for each in self.nodes), self.edges)
        states = {each.node.step: each.state for each in self.nodes if each.node.step and each.state}
        return ShownDiagram(diagram, states, self.caption)


_KEYS: Final[deltas.Keys] = {
    "nodes": lambda each: each.node.id,
    "edges": lambda each: f"{each.source} {each.target} {each.label or ''}",
    "waits": lambda each: each.step,
    "lanes": lambda each: f"{each.lane} {each.key}",
    "breakers": lambda each: each.name,
}


def node_views(shown: ShownDiagram) -> tuple[NodeView, ...]:
    """Return the nodes of a diagram with their states."""
    return tuple(NodeView(node, shown.states.get(node.step) if node.step else None) for node in shown.diagram.nodes)


def progress_view(states: Mapping[str, NodeState]) -> ProgressView:
    """Return the progress that these states are; states of blocks are not among them."""
    whole = merged(states.values())
    if whole is None:
        return ProgressView()
    return ProgressView(
        n_done=whole.n(StepStatus.COMPLETED),
        n_failed=sum(whole.n(status) for status in FAILURES),
        n_known=whole.n_total,
    )


def expected_end(progress: ProgressView, n_before: int, began_at: int, now: int) -> int | None:
    """Return when the last known step ends if each takes as long as those since `began_at` did, in microseconds."""
    n_new, n_left = progress.n_done - n_before, progress.n_known - progress.n_done
    return now + (now - began_at) * n_left // n_new if n_new > 0 and n_left > 0 else None


def breaker_view(state: BreakerState) -> BreakerView:
    """Return what is shown of a breaker."""
    open_until = None if state.opened_at is None else state.opened_at + round(state.open_s * 1e6)
    return BreakerView(name=state.name, n_failed=state.n_failed, open_until=open_until)


def lane_views(places: Iterable[LanePlace]) -> tuple[LaneView, ...]:
    """Return what is shown of lanes with these places, by lane and key."""
    found: dict[LaneKey, list[LanePlace]] = {}
    for place in places:
        found.setdefault(place.lane_key, []).append(place)
    return tuple(
        LaneView(
            lane=lane, key=key, limit=of_lane[-1].limit,
            n_held=sum(place.held_since is not None for place in of_lane),
            n_waiting=sum(place.held_since is None for place in of_lane),
        )
        for (lane, key), of_lane in sorted(found.items())
    )  # fmt: skip


def allowed_actions(
    run: RunRow | None, status: RunStatus, states: Iterable[NodeState], waits: Sequence[WaitView]
) -> tuple[RunAction, ...]:
    """Return what can be asked of a run with that derived status. A decider takes commands, and a cell is run again."""
    if run is None or run.kind not in {RunKind.FLOW, RunKind.GRAPH}:
        return ()
    has_handled = any(state.n(Handled.HANDLED) for state in states)
    is_undone = run.status is RunStatus.COMPENSATING  # to the end, also if its owner is dead
    allowed = {
        RunAction.PAUSE: status in OWNED - {RunStatus.CANCELLING, RunStatus.COMPENSATING},
        RunAction.RESUME: status in {RunStatus.FAILED, RunStatus.INTERRUPTED, RunStatus.PAUSED},
        RunAction.CANCEL: status not in CLOSED | {RunStatus.CANCELLING} and not is_undone,
        RunAction.RETRY: has_handled and status not in OWNED | {RunStatus.CANCELLED},
        RunAction.ANSWER: any(wait.question is not None for wait in waits),
        RunAction.SIGNAL: any(wait.signals for wait in waits),
        RunAction.INJECT: status not in {RunStatus.CANCELLED, RunStatus.COMPENSATING} and not is_undone,
        RunAction.FORK: True,
    }
    return tuple(action for action, is_allowed in allowed.items() if is_allowed)
