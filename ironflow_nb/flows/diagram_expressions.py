"""Expressions of a flow's source, read in the order in which Python evaluates them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager

from ironflow_nb.diagram.model import DiagramBuilder, Node, NodeKind, OpenEdge, Tails
from ironflow_nb.flows.diagram_names import Described, FunctionSource

_LONGEST_TITLE = 300
_OWN_SCOPE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class ExpressionReader:
    """Adds the recorded calls of expressions to a sketch."""

    def __init__(self, sketch: DiagramBuilder, source: FunctionSource) -> None:
        self.sketch = sketch
        self._source = source
        self._names = source.names
        self._depth = 0

    @contextmanager
    def deeper(self) -> Iterator[None]:
        """Add nodes one level deeper meanwhile."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def add(
        self, kind: NodeKind, label: str, source: ast.stmt | ast.expr, tails: Tails, *, found: Described | None = None
    ) -> Tails:
        """Add a node for that piece of the source at the end of the tails; return the tail that leaves it."""
        about = [found.title] if found is not None and found.title else []
        if kind not in {NodeKind.CONDITION, NodeKind.LOOP} or len(label) > 40:
            about.append(_shortened(ast.unparse(source)))
        of_helper = f" of {self._source.helper.__name__}" if self._source.helper is not None else ""
        title = "\n".join([*about, f"line {self._source.first_line + source.lineno - 1}{of_helper}"])
        step, node_id = (None if found is None else found.name), self.sketch.fresh_id()
        site = None if found is None else self._site(source)
        node = Node(id=node_id, kind=kind, label=label, step=step, title=title, depth=self._depth, site=site)
        return self.sketch.add(node, tails)

    def _site(self, source: ast.stmt | ast.expr) -> int | None:
        """Return the number of the call that a node for that piece of the source shows."""
        if self._source.helper is not None:
            return self._source.site
        return self._source.numbers.get(source) if isinstance(source, ast.Call) else None

    def matters(self, *nodes: ast.AST, in_loop: bool = False) -> bool:
        """Return True if the nodes have a recorded call or a jump out of them; in a loop, `break` is no such jump."""
        return any(self._matters(node, in_loop=in_loop) for node in nodes)

    def _matters(self, node: ast.AST, *, in_loop: bool) -> bool:
        match node:
            case ast.Return() | ast.Raise():
                return True
            case ast.Break() | ast.Continue() if not in_loop:
                return True
            case ast.Call() if self._names.called(node) is not None:
                return True
        if isinstance(node, _OWN_SCOPE):
            return False
        inside = in_loop or isinstance(node, _LOOPS)
        return any(self._matters(child, in_loop=inside) for child in ast.iter_child_nodes(node))

    def children(self, node: ast.AST, tails: Tails) -> Tails:
        """Read the expressions that the node is made of."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr | ast.keyword):
                tails = self.expression(child, tails)
        return tails

    def expression(self, node: ast.expr | ast.keyword, tails: Tails) -> Tails:
        """Read an expression: what is evaluated first comes first."""
        match node:
            case ast.Lambda():
                return tails
            case ast.Call():
                return self._call(node, tails)
            case ast.IfExp() if self.matters(node.body, node.orelse):
                return self._conditional(node, tails)
            case ast.BoolOp() if self.matters(*node.values[1:]):
                return self._boolean(node, tails)
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                return self._comprehension(node, tails)
            case ast.Dict():
                return self._dict(node, tails)
            case _:
                return self.children(node, tails)

    def _call(self, call: ast.Call, tails: Tails) -> Tails:
        tails = self.children(call, tails)
        found = self._names.called(call)
        if found is None:
            return tails
        label = found.label or (found.name or ast.unparse(call.func)).rpartition(".")[2]
        if found.kind is NodeKind.WAIT and call.args:
            label = f"{label}({ast.unparse(call.args[0])})"
        return self.add(found.kind, label, call, tails, found=found)

    def _conditional(self, node: ast.IfExp, tails: Tails) -> Tails:
        tails = self.expression(node.test, tails)
        node_id = self.add(NodeKind.CONDITION, ast.unparse(node.test), node, tails)[0].source
        with self.deeper():
            yes = self.expression(node.body, (OpenEdge(node_id, "yes"),))
            return (*yes, *self.expression(node.orelse, (OpenEdge(node_id, "no"),)))

    def _boolean(self, node: ast.BoolOp, tails: Tails) -> Tails:
        """Read ``a() and b()``: from every operand the next one is reached, or what comes after all of them."""
        first, *others = node.values
        tails = self.expression(first, tails)
        reached, passed = ("if true", "if false") if isinstance(node.op, ast.And) else ("if false", "if true")
        out: Tails = ()
        for value in others:
            if self.matters(value):
                out += tuple(OpenEdge(tail.source, tail.label or passed, tail.is_dashed) for tail in tails)
                tails = tuple(OpenEdge(tail.source, tail.label or reached, tail.is_dashed) for tail in tails)
            tails = self.expression(value, tails)
        return (*tails, *out)

    def _comprehension(self, node: Comprehension, tails: Tails) -> Tails:
        """Read a comprehension as the loop that it is."""
        first, *others = node.generators
        tails = self.expression(first.iter, tails)
        results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        inner = [*first.ifs, *(part for other in others for part in (other.iter, *other.ifs)), *results]
        if not self.matters(*inner):
            return tails
        label = " ".join(_loop_label(generator) for generator in node.generators)
        tails = self.add(NodeKind.LOOP, label, node, tails)
        head_id = tails[0].source
        with self.deeper():
            for part in inner:
                tails = self.expression(part, tails)
        self.sketch.join(tails, head_id, is_back=True)
        return (OpenEdge(head_id, "done"),)

    def _dict(self, node: ast.Dict, tails: Tails) -> Tails:
        for key, value in zip(node.keys, node.values, strict=True):
            tails = tails if key is None else self.expression(key, tails)
            tails = self.expression(value, tails)
        return tails


def _loop_label(generator: ast.comprehension) -> str:
    return f"{'async ' * generator.is_async}for {ast.unparse(generator.target)} in {ast.unparse(generator.iter)}"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_TITLE else f"{text[:_LONGEST_TITLE]}…"
