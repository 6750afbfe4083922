"""Functions made from source, as a cell makes them, and their diagrams as text."""

from __future__ import annotations

import linecache
import textwrap
import types
import warnings
from collections.abc import Callable
from itertools import count
from typing import Any

from ironflow_nb.diagram.model import Diagram, NodeKind
from ironflow_nb.flows.diagram_statements import Described, extract

_NUMBERS = count()


class Step:
    """What a step is to the extraction: an object that `describe` knows."""

    def __init__(self, name: str, kind: NodeKind = NodeKind.STEP) -> None:
        self.name = name
        self.kind = kind

    def __get__(self, instance: object, owner: type | None = None) -> object:
        return self if instance is None else types.MethodType(lambda *_: None, instance)


def describe(value: object) -> Described | None:
    if isinstance(value, Step):
        return Described(kind=value.kind, name=value.name, title=f"signature of {value.name}")
    return None


STEPS = {name: Step(name) for name in ("fetch", "parse", "clean", "notify", "publish", "check")}
KNOWN: dict[str, object] = {
    **STEPS,
    "approve": Step("approve", NodeKind.WAIT),
    "child": Step("lib.child", NodeKind.CHILD),
    "lib": types.SimpleNamespace(fetch=Step("lib.fetch")),
}


def function(source: str, **known: object) -> Callable[..., Any]:
    """Return the function that the source defines last, whose source can be found as that of a cell."""
    name = f"<cell {next(_NUMBERS)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    names = {**KNOWN, **known, "__name__": "__main__"}
    with warnings.catch_warnings(action="ignore", category=SyntaxWarning):
        exec(compile(source, name, "exec"), names)
    return next(value for value in reversed(names.values()) if isinstance(value, types.FunctionType))


def read(body: str, *, head: str = "def main(xs, x=0):", **known: object) -> Diagram:
    lines = textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")
    return extract(function(f"{head}\n{lines}\n", **known), describe)


def ways(diagram: Diagram) -> set[str]:
    """Return the edges as text: ``fetch -> parse``, with labels, back edges as ``=>``, dashed ones as ``~>``."""
    labels = {node.id: node.label for node in diagram.nodes}
    arrows = {
        (edge.source, edge.target, edge.label): "=>" if edge.is_back else "~>" if edge.is_dashed else "->"
        for edge in diagram.edges
    }
    return {
        f"{labels[source]} {arrow}{f'[{label}]' if label else ''} {labels[target]}"
        for (source, target, label), arrow in arrows.items()
    }


def labels(diagram: Diagram) -> list[str]:
    return [node.label for node in diagram.nodes[1:-1]]
