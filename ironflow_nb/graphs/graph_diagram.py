"""The diagram of a graph, as it is before anything of it has run.

The picture of a graph, before any run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ironflow_nb.core.identity import Digest
from ironflow_nb.diagram.model import Diagram, Edge, NodeKind
from ironflow_nb.diagram.model import Node as Drawn
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
    from ironflow_nb.diagram.model import Diagram

# No node can be called so.
START: Final = ":start"
END: Final = ":end"
_LONGEST: Final = 40

Tail = tuple[str, str | None, bool]
"""Where an edge comes from, what is written on it, and whether it is dashed."""


class _Where(NamedTuple):
    """What a node stands in: how deep, within which recorded step, and whether once for each item of a list."""

    depth: int = 0
    within: str = ""
    is_each: bool = False


def build_diagram(definition: CompiledGraph) -> Diagram:
    """Return the diagram of the graph."""
    drawing = _Drawing(definition.name)
    drawing.nodes.append(Drawn(id=START, kind=NodeKind.START, label="start"))
    tails = drawing.block(definition.block, [(START, None, False)], _Where())
    drawing.nodes.append(Drawn(id=END, kind=NodeKind.END, label="end"))
    drawing.join(tails, END)
    return Diagram(definition.name, tuple(drawing.nodes), tuple(dict.fromkeys(drawing.edges)))


class _Drawing:
    """Nodes and edges so far."""

    def __init__(self, graph: str) -> None:
        self._graph = graph
        self.nodes: list[Drawn] = []
        self.edges: list[Edge] = []

    def join(self, tails: list[Tail], target: str, *, is_back: bool = False) -> None:
        for source, label, is_dashed in tails:
            self.edges.append(Edge(source=source, target=target, label=label, is_back=is_back, is_dashed=is_dashed))

    def block(self, block: Block, tails: list[Tail], where: _Where) -> list[Tail]:
        """Draw a block behind the tails; return those of its last nodes."""
        ends: dict[int, list[Tail]] = {}
        for number in topological_order([node.after for node in block.nodes]):
            node = block.nodes[number]
            before = [tail for other in node.after for tail in ends[other]] if node.after else tails
            ends[number] = self._node(node, before, where)
        waited_for = {number for node in block.nodes for number in node.after}
        last = [tail for number in sorted(ends) if number not in waited_for for tail in ends[number]]
        return last if block.nodes else tails

    def _node(self, node: GraphNode, tails: list[Tail], where: _Where) -> list[Tail]:
        skipping: list[Tail] = []
        if node.when is not None:
            test = f"{node.id}?"
            title = f"{node.id} runs when {_text(node.when)}"
            self.nodes.append(
                Drawn(id=test, kind=NodeKind.CONDITION, label=_short(node.when), title=title, depth=where.depth)
            )
            self.join(tails, test)
            tails, skipping = [(test, "yes", False)], [(test, "no", False)]
        ended = self._task(node, tails, where)
        if isinstance(node.on_error, Block) and node.on_error.nodes:
            ended = [*ended, *self.block(node.on_error, [(node.id, "on error", True)], self._inside(node, where))]
        return [*ended, *skipping]

    def _task(self, node: GraphNode, tails: list[Tail], where: _Where) -> list[Tail]:
        inside = self._inside(node, where)
        match node.task:
            case Condition(test=test, then=then, otherwise=otherwise):
                self._add(node, NodeKind.CONDITION, _short(test), tails, where)
                yes = self.block(then, [(node.id, "then", False)], inside)
                return [*yes, *self.block(otherwise, [(node.id, "else", False)], inside)]
            case Switch(value=value, cases=cases, default=default):
                self._add(node, NodeKind.CONDITION, _short(value), tails, where)
                ways = [*cases, ("default", default)]
                return [tail for name, each in ways for tail in self.block(each, [(node.id, name, False)], inside)]
            case ParallelBlocks(branches=branches):
                self._add(node, NodeKind.FORK, "", tails, where)
                return [
                    tail
                    for branch in branches
                    for tail in self.block(branch.do, [(node.id, _way(branch.name, branch.when), False)], inside)
                ]
            case Loop(items=items, name=name, do=do):
                self._add(node, NodeKind.LOOP, f"{name} in {_text(items)}", tails, where)
                inside = inside._replace(is_each=True)
            case While(test=test, do=do):
                self._add(node, NodeKind.LOOP, f"while {_text(test)}", tails, where)
            case Workflow():
                self._add(node, NodeKind.CHILD, "", tails, where)
                return [(node.id, None, False)]
            case NodeWork() | PythonCall() | Assertion():
                # How many there will be is known of what runs once for each item, whatever the item is.
                is_many = where.is_each and node.when is None
                self._add(node, NodeKind.MAP if is_many else NodeKind.STEP, "", tails, where)
                return [(node.id, None, False)]
        self.join(self.block(do, [(node.id, None, False)], inside), node.id, is_back=True)
        return [(node.id, "done", False)]

    def _inside(self, node: GraphNode, where: _Where) -> _Where:
        return _Where(where.depth + 1, f"{self._graph}.{node.id}")

    def _add(self, node: GraphNode, kind: NodeKind, test: str, tails: list[Tail], where: _Where) -> None:
        label = _cut(f"{node.id}: {test}") if test else node.id
        self.nodes.append(
            Drawn(
                id=node.id,
                kind=kind,
                label=label,
                step=f"{self._graph}.{node.id}",
                title=_titled(node),
                depth=where.depth,
                within=where.within,
            )
        )
        self.join(tails, node.id)


def _titled(node: GraphNode) -> str:
    more = [node.description] if node.description else []
    more += [f"tried {node.retry.attempts} times"] if node.retry.attempts > 1 else []
    more += ["done once"] if node.once else []
    more += [f"{node.timeout_s:g} s at most"] if node.timeout_s is not None else []
    more += ["its failure is passed on as its output"] if node.on_error == CONTINUE else []
    return "\n".join([_does(node), *more])


def _does(node: GraphNode) -> str:
    match node.task:
        case NodeWork(kind=kind):
            return f"{kind.name}: {kind.description}"
        case PythonCall(function=name):
            return f"python {name}"
        case Condition(test=test):
            return f"condition {_text(test)}"
        case Switch(value=value):
            return f"switch {_text(value)}"
        case Loop(items=items, name=name, concurrency=n):
            return f"for {name} in {_text(items)}" + (f", {n} at once" if n > 1 else "")
        case While(test=test, max_rounds=n):
            return f"while {_text(test)}, {n} rounds at most"
        case Workflow(target=target):
            return f"workflow {_text(target)}"
        case ParallelBlocks():
            return "side by side"
        case Assertion(checks=checks):
            return f"assert, {len(checks)} check{'' if len(checks) == 1 else 's'}"


def _way(name: str, when: Template | None) -> str:
    return name if when is None else f"{name}, if {_short(when)}"


def _text(template: Template) -> str:
    match template:
        case Literal(value=value):
            return str(value)
        case _:
            try:
                return template_text(template).removeprefix("{{").removesuffix("}}").strip()
            except TypeError:
                return "..."


def _short(template: Template) -> str:
    return _cut(_text(template))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


class GraphDiagramMixin:
    """What has a definition, and can be drawn."""

    @property
    def definition(self) -> CompiledGraph:
        """The compiled graph."""
        raise NotImplementedError

    @property
    def definition_id(self) -> Digest:
        """The identity of the definition."""
        raise NotImplementedError

    def to_mermaid(self) -> str:
        """Return the diagram of the graph in the language of Mermaid."""
        from ironflow_nb.diagram.markup import to_mermaid

        return to_mermaid(self.shape(), {})

    def shape(self) -> Diagram:
        """Return the diagram of the graph, before any run."""
        return build_diagram(self.definition)

    def diagram(self) -> Picture:
        """Return the picture of the graph, before any run."""
        from ironflow_nb.diagram.draw import draw

        return draw(self.shape(), {}, prefix=f"iron-{self.definition_id.hex()[2:14]}")

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        try:
            return bundle_of(self.diagram())
        except GraphInvalid as error:
            return {"text/plain": str(error)}
