"""A graph as it is run: compiled nodes in blocks, with everything known that can be known before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from ironflow_nb.core.retry import NEVER, Retry
from ironflow_nb.graphs.compiler.compiler_findings import DataPath
from ironflow_nb.graphs.compiler.graph_input import GraphInput
from ironflow_nb.graphs.kinds import Kind
from ironflow_nb.graphs.language.templates import Template

CONTINUE: Final = "continue"

CheckKind: TypeAlias = Literal["equals", "not_equals", "holds", "matches"]


class Block(msgspec.Struct, frozen=True):
    """Nodes that belong together: of the graph itself, or of a branch, a loop, a handler."""

    nodes: tuple[GraphNode, ...]


class NodeWork(msgspec.Struct, frozen=True):
    """Work of a registered kind. `is_checked` says that its options have no expressions, and fit the schema."""

    kind: Kind
    options: Template
    is_checked: bool


class PythonCall(msgspec.Struct, frozen=True):
    """A call of a step or function that Python knows by that name."""

    function: str
    arguments: Template


class Condition(msgspec.Struct, frozen=True):
    """One of two blocks."""

    test: Template
    then: Block
    otherwise: Block


class Switch(msgspec.Struct, frozen=True):
    """The block of the case that the value has, as a text."""

    value: Template
    cases: tuple[tuple[str, Block], ...]
    default: Block


class ParallelBranch(msgspec.Struct, frozen=True):
    """One way of a branch, taken if `when` is true, or there is none."""

    name: str
    when: Template | None
    do: Block


class ParallelBlocks(msgspec.Struct, frozen=True):
    """Blocks side by side; it ends when all that were chosen have."""

    branches: tuple[ParallelBranch, ...]


class Loop(msgspec.Struct, frozen=True):
    """A block for each item of a list."""

    items: Template
    name: str
    concurrency: int
    do: Block


class While(msgspec.Struct, frozen=True):
    """A block again and again, as long as a test is true, and `max_rounds` times at most."""

    test: Template
    max_rounds: int
    name: str
    do: Block


class Workflow(msgspec.Struct, frozen=True):
    """A graph or a flow as a child run."""

    target: Template
    input: Template


class Check(msgspec.Struct, frozen=True):
    """One thing that must hold."""

    kind: CheckKind
    operands: tuple[Template, ...]
    message: str


class Assertion(msgspec.Struct, frozen=True):
    """Things that must hold, all of which are looked at."""

    checks: tuple[Check, ...]


Task: TypeAlias = NodeWork | PythonCall | Condition | Switch | ParallelBlocks | Loop | While | Workflow | Assertion
"""What a node does."""

Control: TypeAlias = Condition | Switch | ParallelBlocks | Loop | While


class GraphNode(msgspec.Struct, frozen=True, kw_only=True):
    """One node of a block. `after` are the numbers of those in its block that must have ended before."""

    id: str
    task: Task
    after: tuple[int, ...]
    path: DataPath
    when: Template | None = None
    retry: Retry = NEVER
    retry_options: Mapping[str, Any] = {}
    timeout_s: float | None = None
    on_error: Block | Literal["continue"] | None = None
    once: bool = False
    cache: bool | float | str | None = None
    description: str = ""


class CompiledGraph(msgspec.Struct, frozen=True, kw_only=True):
    """A whole graph. `data` is what it was compiled from."""

    name: str
    inputs: GraphInput
    block: Block
    output: Template | None
    concurrency: int
    secrets: Mapping[str, Mapping[str, str]]
    data: Mapping[str, Any]


def blocks_of(node: GraphNode) -> tuple[Block, ...]:
    """Return the blocks inside of a node, its handler last."""
    match node.task:
        case Condition(then=then, otherwise=otherwise):
            inside: tuple[Block, ...] = (then, otherwise)
        case Switch(cases=cases, default=default):
            inside = (*(block for _, block in cases), default)
        case ParallelBlocks(branches=branches):
            inside = tuple(branch.do for branch in branches)
        case Loop(do=do) | While(do=do):
            inside = (do,)
        case NodeWork() | PythonCall() | Workflow() | Assertion():
            inside = ()
    return (*inside, node.on_error) if isinstance(node.on_error, Block) else inside


def nodes_in(block: Block) -> Iterator[GraphNode]:
    """Yield the nodes of the block and of all blocks inside of it, each before those inside of it."""
    for node in block.nodes:
        yield node
        for inner in blocks_of(node):
            yield from nodes_in(inner)


Dependencies = Sequence[tuple[int, ...]]
"""For each node the numbers of those that it waits for."""


def find_cycle(after: Dependencies) -> list[int] | None:
    """Return a circle of nodes that wait for each other, the first of them again at its end; None if there is none."""
    state = [0] * len(after)  # 0 unseen, 1 on the way, 2 done
    for first in range(len(after)):
        way: list[tuple[int, int]] = [(first, 0)]
        if state[first]:
            continue
        state[first] = 1
        while way:
            number, position = way.pop()
            if position == len(after[number]):
                state[number] = 2
                continue
            way.append((number, position + 1))
            following = after[number][position]
            if state[following] == 1:
                numbers = [each for each, _ in way]
                return [*numbers[numbers.index(following) :], following]
            if state[following] == 0:
                state[following] = 1
                way.append((following, 0))
    return None


def ended_masks(after: Dependencies) -> list[int]:
    """Return for each node a mask over the numbers of those that have ended before it begins; there is no circle."""
    masks: dict[int, int] = {}
    for first in range(len(after)):
        left = [first]
        while left:
            number = left[-1]
            unknown = [each for each in after[number] if each not in masks]
            if unknown:
                left += unknown
                continue
            left.pop()
            mask = 0
            for each in after[number]:
                mask |= masks[each] | (1 << each)
            masks[number] = mask
    return [masks[number] for number in range(len(after))]


def topological_order(after: Dependencies) -> list[int]:
    """Return the numbers so that each comes behind those it waits for, otherwise as they stand; there is no circle."""
    ordered: dict[int, None] = {}
    for first in range(len(after)):
        left = [first]
        while left:
            open_ones = [each for each in reversed(after[left[-1]]) if each not in ordered]
            if open_ones:
                left += open_ones
            else:
                ordered.setdefault(left.pop())
    return list(ordered)
