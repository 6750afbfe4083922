"""The diagram of a graph, as it is before anything of it has run."""

from __future__ import annotations

from typing import Final

from ironflow_nb.diagram.model import Diagram, Edge, NodeKind
from ironflow_nb.diagram.model import Node as Drawn
from ironflow_nb.graphs.definition import (
    CONTINUE,
    Assertion,
    Block,
    Branch,
    Condition,
    Definition,
    Loop,
    Node,
    PythonCall,
    Switch,
    While,
    Work,
    Workflow,
)
from ironflow_nb.graphs.ordering import in_order
from ironflow_nb.graphs.templates import Literal, Template, written

START: Final = "start"
END: Final = "end"
_LONGEST: Final = 40

Tail = tuple[str, str | None, bool]
"""Where an edge comes from, what is written on it, and whether it is dashed."""


def shape_of(definition: Definition) -> Diagram:
    """Return the diagram of the graph."""
    drawing = _Drawing(definition.name)
    drawing.nodes.append(Drawn(id=START, kind=NodeKind.START, label="start"))
    tails = drawing.block(definition.block, [(START, None, False)], 0)
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

    def block(self, block: Block, tails: list[Tail], depth: int) -> list[Tail]:
        """Draw a block behind the tails; return those of its last nodes."""
        ends: dict[int, list[Tail]] = {}
        for number in in_order([node.after for node in block.nodes]):
            node = block.nodes[number]
            before = [tail for other in node.after for tail in ends[other]] if node.after else tails
            ends[number] = self._node(node, before, depth)
        waited_for = {number for node in block.nodes for number in node.after}
        last = [tail for number in sorted(ends) if number not in waited_for for tail in ends[number]]
        return last if block.nodes else tails

    def _node(self, node: Node, tails: list[Tail], depth: int) -> list[Tail]:
        skipping: list[Tail] = []
        if node.when is not None:
            test = f"{node.id}?"
            self._add(test, NodeKind.CONDITION, _short(node.when), tails, depth, title=_text(node.when))
            tails, skipping = [(test, "yes", False)], [(test, "no", False)]
        ended = self._task(node, tails, depth)
        if isinstance(node.on_error, Block) and node.on_error.nodes:
            ended = [*ended, *self.block(node.on_error, [(node.id, "on error", True)], depth + 1)]
        return [*ended, *skipping]

    def _task(self, node: Node, tails: list[Tail], depth: int) -> list[Tail]:
        task = node.task
        match task:
            case Condition(test=test, then=then, otherwise=otherwise):
                self._add(node.id, NodeKind.CONDITION, _short(test), tails, depth, node=node, title=_text(test))
                yes = self.block(then, [(node.id, "then", False)], depth + 1)
                return [*yes, *self.block(otherwise, [(node.id, "else", False)], depth + 1)]
            case Switch(value=value, cases=cases, default=default):
                self._add(node.id, NodeKind.CONDITION, _short(value), tails, depth, node=node, title=_text(value))
                ways = [*cases, ("default", default)]
                return [tail for name, each in ways for tail in self.block(each, [(node.id, name, False)], depth + 1)]
            case Branch(choices=choices):
                self._add(node.id, NodeKind.OTHER, node.id, tails, depth, node=node, title="side by side")
                return [
                    tail
                    for choice in choices
                    for tail in self.block(choice.do, [(node.id, _way(choice.name, choice.when), False)], depth + 1)
                ]
            case Loop(items=items, name=name, do=do):
                label = f"for {name} in {_text(items)}"
                self._add(node.id, NodeKind.LOOP, _cut(label), tails, depth, node=node, title=label)
            case While(test=test, do=do):
                label = f"while {_text(test)}"
                self._add(node.id, NodeKind.LOOP, _cut(label), tails, depth, node=node, title=label)
            case Workflow(target=target):
                title = f"workflow {_text(target)}"
                self._add(node.id, NodeKind.CHILD, node.id, tails, depth, node=node, title=title)
                return [(node.id, None, False)]
            case Work() | PythonCall() | Assertion():
                self._add(node.id, NodeKind.STEP, node.id, tails, depth, node=node, title=_titled(node))
                return [(node.id, None, False)]
        self.join(self.block(do, [(node.id, None, False)], depth + 1), node.id, is_back=True)
        return [(node.id, "done", False)]

    def _add(
        self,
        name: str,
        kind: NodeKind,
        label: str,
        tails: list[Tail],
        depth: int,
        *,
        node: Node | None = None,
        title: str = "",
    ) -> None:
        step = None if node is None else f"{self._graph}.{node.id}"
        self.nodes.append(Drawn(id=name, kind=kind, label=label, step=step, title=title, depth=depth))
        self.join(tails, name)


def _titled(node: Node) -> str:
    match node.task:
        case Work(kind=kind):
            what = f"{kind.name}: {kind.description}"
        case PythonCall(function=name):
            what = f"python {name}"
        case _:
            what = type(node.task).__name__.lower()
    more = [node.description] if node.description else []
    more += [f"tried {node.retry.attempts} times"] if node.retry.attempts > 1 else []
    more += ["its failure is passed on as its output"] if node.on_error == CONTINUE else []
    return "\n".join([f"{node.id}: {what}", *more])


def _way(name: str, when: Template | None) -> str:
    return name if when is None else f"{name}, if {_short(when)}"


def _text(template: Template) -> str:
    match template:
        case Literal(value=value):
            return str(value)
        case _:
            try:
                return written(template).removeprefix("{{").removesuffix("}}").strip()
            except TypeError:
                return "..."


def _short(template: Template) -> str:
    return _cut(_text(template))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
