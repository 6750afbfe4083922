"""The lanes of runs: what a run must pass before it begins."""

from __future__ import annotations

from ironflow_nb.core.lanes import ALL_RUNS, Demand, LaneKind
from ironflow_nb.errors import DefinitionError
from ironflow_nb.execution.definitions.run_request import RunRequest
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.steps.lane_gate import LaneGate


def demands_of(engine: Engine, request: RunRequest) -> list[Demand]:
    """Return the places that the run needs: in the lane of its definition, and if it is no child in that of all runs.

    Raises:
        DefinitionError: a run around it is in a lane, too, and the two could wait for each other; or there is no key.
    """
    lane, demands = request.policy.lane, []
    around = None if request.parent is None else engine.sessions.get(request.parent[0])
    if lane is not None:
        if around is not None and around.lanes:
            raise DefinitionError(
                f"{request.name} is in lane {lane.name!r} and was called in run {around.run_id}, which is in lane "
                f"{', '.join(sorted(around.lanes))}: two runs that each hold one and wait for the other's would wait "
                "for ever; let only one of the two flows have a lane"
            )
        demands.append(lane.demand(LaneKind.RUNS, lane.key_of(request.arguments, request.call_key, request.name)))
    if request.parent is None and engine.lanes.max_runs is not None:
        demands.append(Demand(ALL_RUNS, "", LaneKind.RUNS, engine.lanes.max_runs))
    return demands


def admit(engine: Engine, session: Session, request: RunRequest) -> None:
    """Give the session the gate that its run must pass."""
    demands = demands_of(engine, request)
    around = None if request.parent is None else engine.sessions.get(request.parent[0])
    names = {demand.lane for demand in demands if demand.lane != ALL_RUNS}
    gate = LaneGate(session, demands, None, request.policy.priority) if demands else None
    session.admit_by(gate, frozenset(names) | (frozenset() if around is None else around.lanes))
