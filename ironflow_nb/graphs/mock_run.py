"""Test runs of a graph: in memory, with mocks for nodes that use something outside of the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from ironflow_nb.core.status import RunKind, StepStatus
from ironflow_nb.errors import DefinitionError
from ironflow_nb.execution import MEMORY, Engine, make_engine, run_here
from ironflow_nb.graphs.compiled_graph import Block, GraphNode, NodeWork, While, Workflow, blocks_of, nodes_in
from ironflow_nb.graphs.compiler.schema_check import suggestion
from ironflow_nb.handles.run import Run
from ironflow_nb.journal.ports import Select

if TYPE_CHECKING:
    from ironflow_nb.execution import FlowCall, RunRequest


@dataclass(frozen=True, kw_only=True)
class MockRun:
    """The result of a test run.

    `ran` are the ids of the nodes that ran, in order; an id is repeated if the node ran several times. `outputs` are
    their outputs by id, a list for a node that ran several times. `error` is the error of a failed run, whose `output`
    is None.
    """

    output: Any
    error: BaseException | None
    ran: list[str]
    outputs: dict[str, Any]

    def unwrap(self) -> Any:
        """Return the output, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.output


def check_mocks(block: Block, mocks: Mapping[str, Any]) -> None:
    """Check that every node that uses something outside of the graph has a mock, and every mock a node.

    Raises:
        DefinitionError: a mock is missing, or a mock has no node.
    """
    nodes = {node.id: node for node in nodes_in(block)}
    for name in mocks:
        if name not in nodes:
            raise DefinitionError(f"mock {name!r} has no node of that id{suggestion(name, nodes)}", name=name)
    outside = [f"{node.id} ({_kind_name(node)})" for node in _unmocked(block, mocks) if _is_outside(node)]
    if outside:
        first = outside[0].partition(" ")[0]
        raise DefinitionError(
            f"these nodes use something outside of the graph and have no mock: {', '.join(outside)}; give each a "
            f"value, a function of its options, or an exception: mocks={{{first!r}: ...}}"
        )


def _unmocked(block: Block, mocks: Mapping[str, Any]) -> Iterator[GraphNode]:
    """Yield the nodes that run without a mock; nodes inside a mocked one do not run."""
    for node in block.nodes:
        if node.id in mocks:
            if isinstance(node.on_error, Block):
                yield from _unmocked(node.on_error, mocks)
            continue
        yield node
        for inside in blocks_of(node):
            yield from _unmocked(inside, mocks)


def _is_outside(node: GraphNode) -> bool:
    match node.task:
        case NodeWork(kind=kind):
            return kind.is_outside
        case task:
            return isinstance(task, Workflow)


def _kind_name(node: GraphNode) -> str:
    return node.task.kind.name if isinstance(node.task, NodeWork) else "workflow"


def without_retry_delays(block: Block) -> Block:
    """Return the block with retries without delay."""
    return Block(tuple(map(_without_waiting, block.nodes)))


def _without_waiting(node: GraphNode) -> GraphNode:
    retry = replace(node.retry, delay_s=0.0, max_delay_s=0.0, jitter=0.0)
    task = replace(node.task, pause=Block(())) if isinstance(node.task, While) else node.task
    handler = without_retry_delays(node.on_error) if isinstance(node.on_error, Block) else node.on_error
    return replace(node, task=task, retry=retry, on_error=handler)


def run_with_mocks(request: RunRequest, body: FlowCall) -> MockRun:
    """Run the graph on a journal in memory and return the result; an error of the run is part of it."""
    output, error = None, None
    with make_engine(MEMORY) as engine:
        try:
            output = run_here(engine, request, body)
        except Exception as raised:  # noqa: BLE001 -- any error is a result of the test
            error = raised
        ran, outputs = _recorded_outputs(engine, request.name)
    engine.close()
    return MockRun(output=output, error=error, ran=ran, outputs=outputs)


def _recorded_outputs(engine: Engine, graph: str) -> tuple[list[str], dict[str, Any]]:
    with engine.reading() as reader:
        (run,) = reader.runs(Select(kind=RunKind.GRAPH, name=graph, limit=1))
        rows = reader.steps(Select(run_ids=[run.run_id]))
    latest = {row.step: row for row in rows if row.status is not StepStatus.SKIPPED}
    ran = [row.name.removeprefix(f"{graph}.") for row in latest.values()]
    handle: Run[Any] = Run(engine, run.run_id)
    outputs: dict[str, list[Any]] = {}
    for row in latest.values():
        if row.output_id is not None:
            outputs.setdefault(row.name.removeprefix(f"{graph}."), []).append(handle.value(row.step))
    return ran, {name: values if len(values) > 1 else values[0] for name, values in outputs.items()}
