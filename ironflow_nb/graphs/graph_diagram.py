"""The diagram of a graph, before any run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, NamedTuple

from ironflow_nb.core.identity import Digest
from ironflow_nb.diagram.model import Diagram, Edge, NodeKind
from ironflow_nb.diagram.model import Node as DiagramNode
from ironflow_nb.errors import GraphInvalid
from ironflow_nb.graphs.compiled_graph import (
    CONTINUE,
    Assertion,
    Block,
    CompiledGraph,
    Condition,
    GraphNode,
    Loop,
    NodeWork,
    ParallelBlocks,
    ParallelBranch,
    PythonCall,
    Switch,
    While,
    Workflow,
    topological_order,
)
from ironflow_nb.graphs.language.templates import Literal, Template, template_text
from ironflow_nb.handles.run_picture import bundle_of

if TYPE_CHECKING:
    from ironflow_nb.diagram.draw import Picture

# No node can have these ids.
START: Final = ":start"
END: Final = ":end"
_LONGEST_LABEL: Final = 40

OpenEdge = tuple[str, str | None, bool]
"""An edge without a target yet: source, label, and whether it is dashed."""


class _Nesting(NamedTuple):
    """Where a node is nested: how deep, in which recorded step, and whether it runs once for each item of a list."""

    depth: int = 0
    within: str = ""
    is_each: bool = False


def build_diagram(definition: CompiledGraph) -> Diagram:
    """Return the diagram of the graph."""
    builder = _DiagramBuilder(definition.name)
    builder.nodes.append(DiagramNode(id=START, kind=NodeKind.START, label="start"))
    edges_in = builder.block(definition.block, [(START, None, False)], _Nesting())
    builder.nodes.append(DiagramNode(id=END, kind=NodeKind.END, label="end"))
    builder.join(edges_in, END)
    return Diagram(definition.name, tuple(builder.nodes), tuple(dict.fromkeys(builder.edges)))


class _DiagramBuilder:
    """Collects the nodes and edges of one diagram."""

    def __init__(self, graph: str) -> None:
        self._graph = graph
        self.nodes: list[DiagramNode] = []
        self.edges: list[Edge] = []

    def join(self, edges_in: list[OpenEdge], target: str, *, is_back: bool = False) -> None:
        for source, label, is_dashed in edges_in:
            self.edges.append(Edge(source=source, target=target, label=label, is_back=is_back, is_dashed=is_dashed))

    def block(self, block: Block, edges_in: list[OpenEdge], nesting: _Nesting) -> list[OpenEdge]:
        """Add a block after the open edges, and return the open edges of its last nodes."""
        ends: dict[int, list[OpenEdge]] = {}
        for number in topological_order([node.after for node in block.nodes]):
            node = block.nodes[number]
            before = [edge for other in node.after for edge in ends[other]] if node.after else edges_in
            ends[number] = self._node(node, before, nesting)
        has_successor = {number for node in block.nodes for number in node.after}
        last = [edge for number in sorted(ends) if number not in has_successor for edge in ends[number]]
        return last if block.nodes else edges_in

    def _node(self, node: GraphNode, edges_in: list[OpenEdge], nesting: _Nesting) -> list[OpenEdge]:
        skipped: list[OpenEdge] = []
        if node.when is not None:
            test = f"{node.id}?"
            title = f"{node.id} runs when {_template_label(node.when)}"
            self.nodes.append(
                DiagramNode(
                    id=test, kind=NodeKind.CONDITION, label=_short_label(node.when), title=title, depth=nesting.depth
                )
            )
            self.join(edges_in, test)
            edges_in, skipped = [(test, "yes", False)], [(test, "no", False)]
        ended = self._task(node, edges_in, nesting)
        if isinstance(node.on_error, Block) and node.on_error.nodes:
            ended = [*ended, *self.block(node.on_error, [(node.id, "on error", True)], self._nested(node, nesting))]
        return [*ended, *skipped]

    def _task(self, node: GraphNode, edges_in: list[OpenEdge], nesting: _Nesting) -> list[OpenEdge]:
        nested = self._nested(node, nesting)
        match node.task:
            case Condition(test=test, then=then, otherwise=otherwise):
                self._add(node, NodeKind.CONDITION, _short_label(test), edges_in, nesting)
                yes = self.block(then, [(node.id, "then", False)], nested)
                return [*yes, *self.block(otherwise, [(node.id, "else", False)], nested)]
            case Switch(value=value, cases=cases, default=default, others=others):
                self._add(node, NodeKind.CONDITION, _short_label(value), edges_in, nesting)
                named = [
                    (", ".join([name, *(each for each, of in others.items() if of == name)]), do) for name, do in cases
                ]
                ways = [*named, ("default", default)]
                return [edge for name, each in ways for edge in self.block(each, [(node.id, name, False)], nested)]
            case ParallelBlocks(branches=branches):
                self._add(node, NodeKind.FORK, "", edges_in, nesting)
                return [
                    edge
                    for branch in branches
                    for edge in self.block(branch.do, [(node.id, _branch_label(branch), False)], nested)
                ]
            case Loop(items=items, name=name, do=do):
                self._add(node, NodeKind.LOOP, f"{name} in {_template_label(items)}", edges_in, nesting)
                nested = nested._replace(is_each=True)
            case While(test=test, do=do, pause=pause):
                self._add(node, NodeKind.LOOP, f"while {_template_label(test)}", edges_in, nesting)
                # Its last edge is the way back, so that the first round begins without it.
                paused = self.block(pause, self.block(do, [(node.id, None, False)], nested), nested)
                self.join(paused, node.id, is_back=True)
                return [(node.id, "done", False)]
            case Workflow():
                self._add(node, NodeKind.CHILD, "", edges_in, nesting)
                return [(node.id, None, False)]
            case NodeWork(kind=kind) if kind.wait is not None and not nesting.is_each:
                self._add(node, NodeKind.WAIT, "", edges_in, nesting)
                return [(node.id, None, False)]
            case NodeWork() | PythonCall() | Assertion():
                # The number of steps is known for a node that runs once for each item in any case.
                is_many = nesting.is_each and node.when is None
                self._add(node, NodeKind.MAP if is_many else NodeKind.STEP, "", edges_in, nesting)
                return [(node.id, None, False)]
        self.join(self.block(do, [(node.id, None, False)], nested), node.id, is_back=True)
        return [(node.id, "done", False)]

    def _nested(self, node: GraphNode, nesting: _Nesting) -> _Nesting:
        return _Nesting(nesting.depth + 1, f"{self._graph}.{node.id}")

    def _add(self, node: GraphNode, kind: NodeKind, test: str, edges_in: list[OpenEdge], nesting: _Nesting) -> None:
        label = _shorten(f"{node.id}: {test}") if test else node.id
        self.nodes.append(
            DiagramNode(
                id=node.id,
                kind=kind,
                label=label,
                step=f"{self._graph}.{node.id}",
                title=_tooltip(node),
                depth=nesting.depth,
                within=nesting.within,
            )
        )
        self.join(edges_in, node.id)


def _tooltip(node: GraphNode) -> str:
    more = [node.description] if node.description else []
    more += [f"up to {node.retry.attempts} attempts"] if node.retry.attempts > 1 else []
    more += ["done once"] if node.once else []
    more += [f"{node.timeout_s:g} s at most"] if node.timeout_s is not None else []
    more += [f"{node.deadline_s:g} s at most, all attempts together"] if node.deadline_s is not None else []
    more += [f"undone by {_task_summary(node.compensate)}"] if node.compensate is not None else []
    more += [f"breaker {node.breaker.name}"] if node.breaker is not None else []
    more += [f"lane {node.lane.name}"] if node.lane is not None else []
    more += ["a failure becomes its output"] if node.on_error == CONTINUE else []
    return "\n".join([_task_summary(node), *more])


def _task_summary(node: GraphNode) -> str:
    match node.task:
        case NodeWork(kind=kind):
            return f"{kind.name}: {kind.description}"
        case PythonCall(function=name):
            return f"python {name}"
        case Condition(test=test):
            return f"condition {_template_label(test)}"
        case Switch(value=value):
            return f"switch {_template_label(value)}"
        case Loop(items=items, name=name, concurrency=n):
            return f"for {name} in {_template_label(items)}" + (f", {n} at once" if n > 1 else "")
        case While(test=test, max_rounds=n):
            return f"while {_template_label(test)}, {n} rounds at most"
        case Workflow(target=target):
            return f"workflow {_template_label(target)}"
        case ParallelBlocks():
            return "side by side"
        case Assertion(checks=checks):
            return f"assert, {len(checks)} check{'' if len(checks) == 1 else 's'}"


def _branch_label(branch: ParallelBranch) -> str:
    return branch.name if branch.when is None else f"{branch.name}, if {_short_label(branch.when)}"


def _template_label(template: Template) -> str:
    match template:
        case Literal(value=value):
            return str(value)
        case _:
            try:
                return template_text(template).removeprefix("{{").removesuffix("}}").strip()
            except TypeError:
                return "..."


def _short_label(template: Template) -> str:
    return _shorten(_template_label(template))


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 3]}..."


class GraphDiagramMixin(ABC):
    """The diagram and its forms, for a class with a compiled graph."""

    @property
    @abstractmethod
    def definition(self) -> CompiledGraph:
        """The compiled graph."""

    @property
    @abstractmethod
    def definition_id(self) -> Digest:
        """The identity of the definition, as a digest."""

    def to_mermaid(self) -> str:
        """Return the diagram of the graph as Mermaid source."""
        from ironflow_nb.diagram.text_forms import to_mermaid

        return to_mermaid(self.diagram_model(), {})

    def diagram_model(self) -> Diagram:
        """Return the diagram of the graph before any run, as data."""
        return build_diagram(self.definition)

    def diagram(self) -> Picture:
        """Return the picture of the graph before any run."""
        from ironflow_nb.diagram.draw import draw

        return draw(self.diagram_model(), {}, prefix=f"iron-{self.definition_id.hex()[2:14]}")

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        try:
            return bundle_of(self.diagram())
        except GraphInvalid as error:
            return {"text/plain": str(error)}
