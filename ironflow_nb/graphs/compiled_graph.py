"""The compiled graph: nodes in blocks, ready to run, and the order of the nodes of a block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from ironflow_nb.core.breaker_rules import BreakerRule
from ironflow_nb.core.lanes import Lane
from ironflow_nb.core.retry import NEVER, Retry
from ironflow_nb.graphs.compiler.compiler_findings import DataPath
from ironflow_nb.graphs.compiler.graph_input import GraphInput
from ironflow_nb.graphs.host_auth import HostAuth
from ironflow_nb.graphs.kinds import Kind
from ironflow_nb.graphs.language.templates import Template

CONTINUE: Final = "continue"

CheckKind: TypeAlias = Literal["equals", "not_equals", "holds", "matches"]


class Block(msgspec.Struct, frozen=True):
    """A list of nodes: of the graph itself, or of a branch, a loop or an error handler."""

    nodes: tuple[GraphNode, ...]


class NodeWork(msgspec.Struct, frozen=True):
    """Work of a registered kind. `is_checked`: its options have no expressions, and were checked against the schema."""

    kind: Kind
    options: Template
    is_checked: bool


class PythonCall(msgspec.Struct, frozen=True):
    """A call of the step or function that has that name in Python."""

    function: str
    arguments: Template


class Condition(msgspec.Struct, frozen=True):
    """Runs one of two blocks."""

    test: Template
    then: Block
    otherwise: Block


class Switch(msgspec.Struct, frozen=True):
    """Runs the block whose case equals the value, compared as text.

    A case is called by its first value; `others` has the further ones, each with that name.
    """

    value: Template
    cases: tuple[tuple[str, Block], ...]
    default: Block
    others: Mapping[str, str] = {}


class ParallelBranch(msgspec.Struct, frozen=True):
    """One block of a `branch` node; it runs if `when` is true or None."""

    name: str
    when: Template | None
    do: Block


class ParallelBlocks(msgspec.Struct, frozen=True):
    """Runs blocks in parallel and ends when all of them have ended."""

    branches: tuple[ParallelBranch, ...]


class Loop(msgspec.Struct, frozen=True):
    """Runs a block for each item of a list; `name` is the item in it."""

    items: Template
    name: str
    concurrency: int
    do: Block


class While(msgspec.Struct, frozen=True):
    """Runs a block while the test is true, at most `max_rounds` times; `name` is ``{index, last}`` in it.

    `pause` has the node that waits before each round but the first.
    """

    test: Template
    max_rounds: int
    name: str
    do: Block
    pause: Block = Block(())


class Workflow(msgspec.Struct, frozen=True):
    """Runs a graph or a flow as a child run."""

    target: Template
    input: Template


class Check(msgspec.Struct, frozen=True):
    """One check of an assertion."""

    kind: CheckKind
    operands: tuple[Template, ...]
    message: str


class Assertion(msgspec.Struct, frozen=True):
    """Checks that must hold; all are evaluated, also after one failed."""

    checks: tuple[Check, ...]


Task: TypeAlias = NodeWork | PythonCall | Condition | Switch | ParallelBlocks | Loop | While | Workflow | Assertion
"""What a node does."""


class GraphNode(msgspec.Struct, frozen=True, kw_only=True):
    """One node of a block. `after` are the indexes in its block of the nodes that it waits for.

    `compensate` is the node that undoes it.
    """

    id: str
    task: Task
    after: tuple[int, ...]
    path: DataPath
    when: Template | None = None
    retry: Retry = NEVER
    retry_options: Mapping[str, Any] = {}
    timeout_s: float | None = None
    deadline_s: float | None = None
    on_error: Block | Literal["continue"] | None = None
    overlap: bool = False
    once: bool = False
    cache: bool | float | str | None = None
    compensate: GraphNode | None = None
    breaker: BreakerRule | None = None
    lane: Lane | None = None
    description: str = ""


class CompiledGraph(msgspec.Struct, frozen=True, kw_only=True):
    """A whole graph. `data` is its definition."""

    name: str
    inputs: GraphInput
    block: Block
    output: Template | None
    concurrency: int
    secrets: Mapping[str, Mapping[str, str]]
    auths: tuple[HostAuth, ...]
    data: Mapping[str, Any]


def blocks_of(node: GraphNode) -> tuple[Block, ...]:
    """Return the blocks inside a node, its error handler last."""
    match node.task:
        case Condition(then=then, otherwise=otherwise):
            blocks: tuple[Block, ...] = (then, otherwise)
        case Switch(cases=cases, default=default):
            blocks = (*(block for _, block in cases), default)
        case ParallelBlocks(branches=branches):
            blocks = tuple(branch.do for branch in branches)
        case Loop(do=do):
            blocks = (do,)
        case While(do=do, pause=pause):
            blocks = (pause, do)
        case NodeWork() | PythonCall() | Workflow() | Assertion():
            blocks = ()
    return (*blocks, node.on_error) if isinstance(node.on_error, Block) else blocks


def nodes_in(block: Block) -> Iterator[GraphNode]:
    """Yield the nodes of the block and all nested nodes, each before those inside it."""
    for node in block.nodes:
        yield node
        for inner in blocks_of(node):
            yield from nodes_in(inner)


Dependencies = Sequence[tuple[int, ...]]
"""For each node of a block the indexes of the nodes that it waits for."""


def find_cycle(after: Dependencies) -> list[int] | None:
    """Return the indexes of a cycle, with the first one repeated at the end; None if there is no cycle."""
    state = [0] * len(after)  # 0 unvisited, 1 on the current path, 2 finished
    for first in range(len(after)):
        path: list[tuple[int, int]] = [(first, 0)]
        if state[first]:
            continue
        state[first] = 1
        while path:
            number, position = path.pop()
            if position == len(after[number]):
                state[number] = 2
                continue
            path.append((number, position + 1))
            following = after[number][position]
            if state[following] == 1:
                numbers = [each for each, _ in path]
                return [*numbers[numbers.index(following) :], following]
            if state[following] == 0:
                state[following] = 1
                path.append((following, 0))
    return None


def ended_masks(after: Dependencies) -> list[int]:
    """Return for each node a bit mask of the nodes that ended before it starts. The dependencies must have no cycle."""
    masks: dict[int, int] = {}
    for first in range(len(after)):
        pending = [first]
        while pending:
            number = pending[-1]
            unknown = [each for each in after[number] if each not in masks]
            if unknown:
                pending += unknown
                continue
            pending.pop()
            mask = 0
            for each in after[number]:
                mask |= masks[each] | (1 << each)
            masks[number] = mask
    return [masks[number] for number in range(len(after))]


def topological_order(after: Dependencies) -> list[int]:
    """Return the indexes in a stable order in which each node follows its dependencies, which must have no cycle."""
    ordered: dict[int, None] = {}
    for first in range(len(after)):
        pending = [first]
        while pending:
            unordered = [each for each in reversed(after[pending[-1]]) if each not in ordered]
            if unordered:
                pending += unordered
            else:
                ordered.setdefault(pending.pop())
    return list(ordered)
