"""The diagram of a flow, read from its source: what it would do, before any of it has run.

What is drawn is what matters: calls that are recorded, and the conditions, loops and jumps that decide about them. A
condition with no such call in it, which jumps nowhere, is not drawn. Nothing is executed; names are only looked up.
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ironflow_nb.diagram.model import START_ID, Diagram, DiagramBuilder, NodeKind, OpenEdge, Tails
from ironflow_nb.flows.diagram_branches import BranchReader
from ironflow_nb.flows.diagram_names import Describe, Described, FunctionSource, Helpers, source_with_names

__all__ = ["Describe", "Described", "extract"]

log = logging.getLogger(__name__)

_MOST_THROWING = 3
"""Up to this number of nodes of a try block each has an edge to the handlers; beyond it, only the last one."""


def extract(function: Callable[..., Any], describe: Describe) -> Diagram:
    """Return the diagram of the function; of one that can't be read, a start and an end. It never raises.

    Args:
        function: the undecorated function of a flow.
        describe: tells what an object is that the source names: a step, a child flow, a wait, or None for all else.
    """
    name = "flow"
    try:
        name = str(function.__name__)
        source = source_with_names(function, describe)
        if source is not None:
            return _StatementReader(DiagramBuilder(name), source, Helpers(describe)).read()
    except Exception:
        log.debug("the source of %s could not be read as a diagram", name, exc_info=True)
    return DiagramBuilder(name).diagram((OpenEdge(START_ID),))


class _StatementReader(BranchReader):
    """Reads statements one after another; `caught` are the jumps that end up at the places around them."""

    def __init__(self, builder: DiagramBuilder, source: FunctionSource, helpers: Helpers) -> None:
        super().__init__(builder, source, helpers)
        self._caught: list[dict[str, list[OpenEdge]]] = []
        self._ends: list[OpenEdge] = []

    def read(self) -> Diagram:
        tails = self._block(self._source.tree.body, (OpenEdge(START_ID),))
        return self.builder.diagram((*tails, *self._ends))

    def read_helper(self, source: FunctionSource, tails: Tails) -> Tails:
        """See the base; what the helper raises leads where the code around its call catches that."""
        assert source.helper is not None
        reader = _StatementReader(self.builder, source, self._helpers)
        reader._caught, reader._ends, reader._depth = self._caught, self._ends, self._depth
        reader._open_helpers = (*self._open_helpers, source.helper)
        return reader.body(source.tree, tails)

    def _block(self, statements: Sequence[ast.stmt], tails: Tails) -> Tails:
        for statement in statements:
            if not tails:
                break  # nothing gets here
            tails = self._statement(statement, tails)
        return tails

    def _nested(self, statements: Sequence[ast.stmt], tails: Tails) -> Tails:
        with self.deeper():
            return self._block(statements, tails)

    def _statement(self, statement: ast.stmt, tails: Tails) -> Tails:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                self.define(name, statement)
                return tails
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Lambda() as function):
                self.define(name, function)
                return tails
            case ast.ClassDef():
                return tails
            case ast.If():
                return self._if(statement, tails)
            case ast.For() | ast.AsyncFor():
                return self._for(statement, tails)
            case ast.While():
                return self._while(statement, tails)
            case ast.Try() | ast.TryStar():
                return self._try(statement, tails)
            case ast.Match():
                return self._match(statement, tails)
            case ast.With() | ast.AsyncWith():
                return self._with(statement, tails)
            case ast.Return() | ast.Raise() | ast.Break() | ast.Continue():
                return self._jump_statement(statement, self.children(statement, tails))
            case (
                ast.Assign(targets=[target], value=ast.expr() as value)
                | ast.AnnAssign(target=target, value=ast.expr() as value)
                | ast.AugAssign(target=target, value=ast.expr() as value)
            ):
                with self.kept_in(target):
                    return self.expression(value, tails)
            case ast.Assign():
                return self.expression(statement.value, tails)
            case _:
                return self.children(statement, tails)

    def body(self, function: ast.FunctionDef | ast.AsyncFunctionDef, tails: Tails) -> Tails:
        """See the base; its returns lead to what follows the call."""
        with self._catching("return") as caught:
            tails = self._nested(function.body, tails)
        return (*tails, *caught["return"])

    def _with(self, statement: ast.With | ast.AsyncWith, tails: Tails) -> Tails:
        groups: dict[str, Tails] = {}
        for item in statement.items:
            tails = self.expression(item.context_expr, tails)
            is_group = self._names.is_task_group(item.context_expr) and self.matters(*statement.body)
            if is_group and isinstance(item.optional_vars, ast.Name):
                tails = self.group(item.optional_vars.id, item.context_expr, tails)
                groups[item.optional_vars.id] = tails
        tails = self._nested(statement.body, tails) if groups else self._block(statement.body, tails)
        for name, begun in groups.items():
            tails = self.ended(name, begun, tails)
        return tails

    # -- jumps ---------------------------------------------------------------------------------------------------

    def _jump_statement(self, statement: ast.Return | ast.Raise | ast.Break | ast.Continue, tails: Tails) -> Tails:
        how = type(statement).__name__.lower()
        if isinstance(statement, ast.Raise):
            label = f"raise {ast.unparse(_raised(statement))}".strip() if statement.exc else "raise"
            tails = tuple(OpenEdge(tail.source, tail.label or label, is_dashed=True) for tail in tails)
        return self._jump(how, tails)

    def _jump(self, how: str, tails: Tails) -> Tails:
        """Lead the tails to the place that catches the jump, or to the end; no tail remains."""
        for caught in reversed(self._caught):
            if how in caught:
                caught[how] += tails
                return ()
        self._ends += tails
        return ()

    @contextmanager
    def _catching(self, *hows: str) -> Iterator[dict[str, list[OpenEdge]]]:
        caught: dict[str, list[OpenEdge]] = {how: [] for how in hows}
        self._caught.append(caught)
        try:
            yield caught
        finally:
            self._caught.pop()

    # -- branches ------------------------------------------------------------------------------------------------

    def _if(self, statement: ast.If, tails: Tails) -> Tails:
        tails = self.expression(statement.test, tails)
        if not self.matters(*statement.body, *statement.orelse):
            return tails
        tails = self.add(NodeKind.CONDITION, ast.unparse(statement.test), statement, tails)
        node_id = tails[0].source
        yes = self._nested(statement.body, (OpenEdge(node_id, "yes"),))
        is_elif = len(statement.orelse) == 1 and isinstance(statement.orelse[0], ast.If)
        otherwise = self._block if is_elif else self._nested
        return (*yes, *otherwise(statement.orelse, (OpenEdge(node_id, "no"),)))

    def _match(self, statement: ast.Match, tails: Tails) -> Tails:
        tails = self.expression(statement.subject, tails)
        if not self.matters(*statement.cases):
            return tails
        node_id = self.add(NodeKind.CONDITION, f"match {ast.unparse(statement.subject)}", statement, tails)[0].source
        out: Tails = ()
        for case in statement.cases:
            guard = f" if {ast.unparse(case.guard)}" if case.guard else ""
            out += self._nested(case.body, (OpenEdge(node_id, f"case {ast.unparse(case.pattern)}{guard}"),))
        is_complete = any(_takes_all(case) for case in statement.cases)
        return out if is_complete else (*out, OpenEdge(node_id, "else"))

    # -- loops ---------------------------------------------------------------------------------------------------

    def _for(self, statement: ast.For | ast.AsyncFor, tails: Tails) -> Tails:
        tails = self.expression(statement.iter, tails)
        how = "async for" if isinstance(statement, ast.AsyncFor) else "for"
        label = f"{how} {ast.unparse(statement.target)} in {ast.unparse(statement.iter)}"
        return self._loop(statement, label, tails, test=None)

    def _while(self, statement: ast.While, tails: Tails) -> Tails:
        return self._loop(statement, f"while {ast.unparse(statement.test)}", tails, test=statement.test)

    def _loop(
        self, statement: ast.For | ast.AsyncFor | ast.While, label: str, tails: Tails, *, test: ast.expr | None
    ) -> Tails:
        asked = [] if test is None else [test]
        if not self.matters(*asked, *statement.body, in_loop=True):
            return self._block(statement.orelse, tails)
        tails = self.add(NodeKind.LOOP, label, statement, tails)
        head_id = tails[0].source
        with self._catching("break", "continue") as caught, self.deeper(), self.repeated():
            for expression in asked:
                tails = self.expression(expression, tails)
            done = tuple(OpenEdge(tail.source, tail.label or "done") for tail in tails)
            tails = self._block(statement.body, tails)
        self.builder.join((*tails, *caught["continue"]), head_id, is_back=True)
        is_endless = isinstance(test, ast.Constant) and bool(test.value)
        return (*(() if is_endless else self._block(statement.orelse, done)), *caught["break"])

    # -- failures ------------------------------------------------------------------------------------------------

    def _try(self, statement: ast.Try | ast.TryStar, tails: Tails) -> Tails:
        if not self.matters(*statement.finalbody):
            return self._tried(statement, tails)
        with self._catching("return", "break", "continue", "raise") as caught:
            ordinary = self._tried(statement, tails)
        jumped = tuple(tail for of_how in caught.values() for tail in of_how)
        out = self._block(statement.finalbody, (*ordinary, *jumped))
        for how in (how for how, of_how in caught.items() if of_how):
            self._jump(how, tuple(OpenEdge(tail.source, tail.label or how, is_dashed=True) for tail in out))
        return out if ordinary else ()

    def _tried(self, statement: ast.Try | ast.TryStar, tails: Tails) -> Tails:
        """Read all but the finally block."""
        before, n_before = tails, len(self.builder.nodes)
        with self._catching(*(["raise"] if statement.handlers else [])) as caught:
            tails = self._block(statement.body, tails)
        steps = [node.id for node in self.builder.nodes[n_before:] if node.step is not None]
        throwing = steps if len(steps) <= _MOST_THROWING else steps[-1:]
        thrown = [*(OpenEdge(node_id) for node_id in throwing), *caught.get("raise", [])] or list(before)
        out = self._block(statement.orelse, tails)
        for handler in statement.handlers if self.matters(*statement.body, *statement.handlers) else []:
            label = f"except {ast.unparse(handler.type)}" if handler.type else "except"
            # Said once, at the last of the ways to the handler.
            *others, last = (OpenEdge(tail.source, is_dashed=True) for tail in thrown)
            out += self._nested(handler.body, (*others, last._replace(label=label)))
        return out


def _raised(statement: ast.Raise) -> ast.expr:
    """Return what is raised, without the arguments of the exception."""
    assert statement.exc is not None
    return statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc


def _takes_all(case: ast.match_case) -> bool:
    return case.guard is None and isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None
