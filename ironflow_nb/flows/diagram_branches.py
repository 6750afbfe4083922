"""Reads expressions in the order in which Python evaluates them, with the functions and branches in them.

Inner functions, helpers, and calls that run side by side are read in the place where the flow names them.
"""

from __future__ import annotations

import ast
import inspect
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final, NamedTuple

from ironflow_nb.code_identity.syntax import awaited_calls
from ironflow_nb.core.wait_rules import EMIT
from ironflow_nb.diagram.model import DiagramBuilder, Node, NodeKind, OpenEdge, Tails
from ironflow_nb.flows.diagram_names import Described, FunctionSource, Helpers

_LONGEST_TITLE = 300
_OWN_SCOPE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)

Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class ExpressionReader:
    """Adds the recorded calls of expressions to a builder."""

    def __init__(self, builder: DiagramBuilder, source: FunctionSource) -> None:
        self.builder = builder
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
        step, node_id = (None if found is None else found.name), self.builder.fresh_id()
        site = None if found is None else self._site(source)
        node = Node(id=node_id, kind=kind, label=label, step=step, title=title, depth=self._depth, site=site)
        return self.builder.add(node, tails)

    def _site(self, source: ast.stmt | ast.expr) -> str | None:
        """Return the site of the call that a node for that piece of the source shows."""
        return self._source.site(source)

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
        if (found.kind is NodeKind.WAIT or found.name == EMIT) and call.args:
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
        self.builder.join(tails, head_id, is_back=True)
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


_MAX_DEPTH: Final = 5
"""The helpers that are read within each other at most."""

InnerFunction = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class _Group(NamedTuple):
    """A task group that is open: how its tasks end, and in how many loops it stands."""

    ends: list[OpenEdge]
    n_loops: int


class BranchReader(ExpressionReader, ABC):
    """Reads an inner function where it is named first: called there, or given to what will call it."""

    def __init__(self, builder: DiagramBuilder, source: FunctionSource, helpers: Helpers) -> None:
        super().__init__(builder, source)
        self._helpers = helpers
        self._open_helpers: tuple[Callable[..., Any], ...] = ()
        self._functions: dict[str, InnerFunction] = {}
        self._drawn: set[str] = set()
        self._looked_at: set[str] = set()
        self._makers: list[ast.Call] = []
        self._maker_of: dict[str, ast.Call] | None = None
        self._awaited = set(awaited_calls(self._source.tree).values())
        self._given: set[tuple[object, ast.Call]] = set()
        self._groups: dict[str, _Group] = {}
        self._n_loops = 0

    @abstractmethod
    def body(self, function: ast.FunctionDef | ast.AsyncFunctionDef, tails: Tails) -> Tails:
        """Read the statements of an inner function."""

    @contextmanager
    def repeated(self) -> Iterator[None]:
        """Count one more loop around what is read meanwhile."""
        self._n_loops += 1
        try:
            yield
        finally:
            self._n_loops -= 1

    # -- inner functions -----------------------------------------------------------------------------------------

    def define(self, name: str, function: InnerFunction) -> None:
        """Register an inner function without decorators; a decorator may replace it."""
        if isinstance(function, ast.Lambda) or not function.decorator_list:
            self._functions[name] = function
            self._drawn.discard(name)

    def expression(self, node: ast.expr | ast.keyword, tails: Tails) -> Tails:
        """See the base; a function that is named here is read here."""
        match node:
            case ast.Lambda():
                with self._in_function():
                    return self.expression(node.body, tails)
            case ast.Name(id=name) if name in self._functions:
                return self._inner(name, tails)
            case ast.Await(value=ast.Call() as call):
                self._awaited.add(call)
        return super().expression(node, tails)

    def _inner(self, name: str, tails: Tails) -> Tails:
        """Read the function, once: what it calls has one place in the source, wherever it is called from."""
        if not self._is_to_draw(name):
            return tails
        self._drawn.add(name)
        function = self._functions[name]
        if isinstance(function, ast.Lambda):
            return self.expression(function, tails)
        with self._in_function():
            return self.body(function, tails)

    def _matters(self, node: ast.AST, *, in_loop: bool) -> bool:
        match node:
            case ast.Lambda():
                return self._has_calls(node.body)
            case ast.Name(id=name) if name in self._functions:
                return self._is_to_draw(name)
            case ast.Call() if self._names.runs_step(node) or any(map(self._is_readable, self._names.helpers_in(node))):
                return True
        return super()._matters(node, in_loop=in_loop)

    def _is_to_draw(self, name: str) -> bool:
        if name in self._drawn or name in self._looked_at:
            return False
        self._looked_at.add(name)
        function = self._functions[name]
        found = self._has_calls(*([function.body] if isinstance(function, ast.Lambda) else function.body))
        self._looked_at.discard(name)
        return found

    def _has_calls(self, *nodes: ast.AST) -> bool:
        return any(
            (isinstance(each, ast.Call) and self._matters(each, in_loop=False))
            or (isinstance(each, ast.Name) and each.id in self._functions and self._is_to_draw(each.id))
            for node in nodes
            for each in ast.walk(node)
        )

    # -- helpers -------------------------------------------------------------------------------------------------

    @abstractmethod
    def read_helper(self, source: FunctionSource, tails: Tails) -> Tails:
        """Read the statements of a helper with a reader of its own."""

    def _is_readable(self, helper: types.FunctionType) -> bool:
        is_deeper = helper not in self._open_helpers and len(self._open_helpers) < _MAX_DEPTH
        return is_deeper and self._helpers.calls_steps(helper)

    def _helper(self, helper: types.FunctionType, site: str | None, tails: Tails) -> Tails:
        """Read the helper in the place of its call; one that calls itself is read once."""
        source = self._helpers.source(helper) if self._is_readable(helper) else None
        return tails if source is None else self.read_helper(source._replace(within=site and f"{site}."), tails)

    def _given_helper(self, helper: types.FunctionType, tails: Tails) -> Tails:
        """Read a helper that the flow's own code does not call, once: several could not be distinguished."""
        return tails if self._is_given(helper) else self._helper(helper, self._site_of_maker(), tails)

    def _is_given(self, what: object) -> bool:
        """Return True if the call around was given the same before."""
        if not self._makers:
            return False
        key = (what, self._makers[-1])
        is_known = key in self._given
        self._given.add(key)
        return is_known

    # -- calls that are given functions and coroutines -----------------------------------------------------------

    @contextmanager
    def _given_to(self, call: ast.Call) -> Iterator[None]:
        """Take the call for the one that runs what is named meanwhile, without being called or awaited itself."""
        self._makers.append(call)
        try:
            yield
        finally:
            self._makers.pop()

    @contextmanager
    def kept_in(self, target: ast.expr) -> Iterator[None]:
        """Take what is read meanwhile for what the one call runs that is given the variable."""
        if self._maker_of is None:
            self._maker_of = self._makers_of_variables()
        maker = self._maker_of.get(target.id) if isinstance(target, ast.Name) else None
        with nullcontext() if maker is None else self._given_to(maker):
            yield

    def _makers_of_variables(self) -> dict[str, ast.Call]:
        """Return the variables that are given to one call only, which makes tasks or branches or is awaited."""
        found: dict[str, list[ast.Call]] = {}
        nodes = list(ast.walk(self._source.tree))
        awaited = {node.value for node in nodes if isinstance(node, ast.Await)}
        for call in nodes:
            if isinstance(call, ast.Call) and (call in awaited or self._names.is_maker(call)):
                for given in call.args:
                    variable = given.value if isinstance(given, ast.Starred) else given
                    if isinstance(variable, ast.Name):
                        found.setdefault(variable.id, []).append(call)
        return {name: calls[0] for name, calls in found.items() if len(calls) == 1}

    @contextmanager
    def _in_function(self) -> Iterator[None]:
        """Read the body of an inner function, which no call around it runs anything of."""
        before, self._makers = self._makers, []
        try:
            yield
        finally:
            self._makers = before

    def _site_of_maker(self) -> str | None:
        """Return the site of what is given to a call: a task has that of the call which makes it, or awaits it."""
        return self._source.site(self._makers[-1]) if self._makers else None

    # -- side by side --------------------------------------------------------------------------------------------

    def _call(self, call: ast.Call, tails: Tails) -> Tails:
        match call.func:
            case ast.Name(id=name) if name in self._functions:
                parts: list[ast.expr | ast.keyword] = [*call.args, *call.keywords]
                for part in parts:
                    tails = self.expression(part, tails)
                return self._inner(name, tails)
            case ast.Attribute(value=ast.Name(id=name), attr="create_task") if name in self._groups:
                with self._given_to(call):
                    return self._task(self._groups[name], call, tails)
            case ast.Attribute(value=ast.Name() as variable, attr="append"):
                with self.kept_in(variable):
                    return self._single_call(call, tails)
        with self._given_to(call) if call in self._awaited or self._names.is_maker(call) else nullcontext():
            return self._gather(call, tails) if self._names.is_gather(call) else self._single_call(call, tails)

    def _single_call(self, call: ast.Call, tails: Tails) -> Tails:
        if self._names.is_partial(call) and (found := self._names.called(call)) is not None:
            return self._add_given(found, call, self.children(call, tails))
        helper = next(self._names.helpers_in(call), None)
        if helper is None:
            return super()._call(call, tails)
        tails = self.children(call, tails)
        is_given = inspect.iscoroutinefunction(helper) and call not in self._awaited
        if is_given or self._names.is_partial(call):
            return self._given_helper(helper, tails)
        return self._helper(helper, self._site(call), tails)

    def _gather(self, call: ast.Call, tails: Tails) -> Tails:
        branches = [each for each in call.args if self._is_branch(each)]
        is_fork = len(branches) > 1
        tails = self.add(NodeKind.FORK, "gather", call, tails) if is_fork else tails
        out: Tails = ()
        with self.deeper() if is_fork else nullcontext():
            for branch in branches:
                ends = self._branch(branch, tails)
                out += ends if ends != tails else ()
        return out or tails

    def _is_branch(self, expression: ast.expr) -> bool:
        helper = self._names.helper(expression)
        is_given = self._names.given(expression) is not None or (helper is not None and self._is_readable(helper))
        return is_given or self.matters(expression)

    def _branch(self, expression: ast.expr, tails: Tails) -> Tails:
        found, helper = self._names.given(expression), self._names.helper(expression)
        if found is not None:
            return self._add_given(found, expression, tails)
        return self.expression(expression, tails) if helper is None else self._given_helper(helper, tails)

    def _add_given(self, found: Described, source: ast.expr, tails: Tails) -> Tails:
        """Add a step that the flow's own code does not call, once: several could not be distinguished."""
        if self._is_given(found.name):
            return tails
        label = found.label or (found.name or ast.unparse(source)).rpartition(".")[2]
        return self.add(found.kind, label, source, tails, found=found)

    def _site(self, source: ast.stmt | ast.expr) -> str | None:
        if isinstance(source, ast.Call) and not self._names.is_partial(source):
            return super()._site(source)
        return self._site_of_maker()

    def group(self, name: str, call: ast.expr, tails: Tails) -> Tails:
        """Open a task group of that name: from here its tasks begin."""
        self._groups[name] = _Group([], self._n_loops)
        return self.add(NodeKind.FORK, "TaskGroup", call, tails)

    def ended(self, name: str, begun: Tails, tails: Tails) -> Tails:
        """Close the task group that has begun there; what follows waits for all of its tasks."""
        ends = self._groups.pop(name).ends
        return (*(tail for tail in tails if not ends or tail not in begun), *ends)

    def _task(self, group: _Group, call: ast.Call, tails: Tails) -> Tails:
        """Read a task of the group, which begins here and goes its own way; in a loop the next one follows it."""
        out = self.children(call, tails)
        if out == tails or self._n_loops > group.n_loops:
            return out
        group.ends.extend(out)
        return tails

    def _comprehension(self, node: Comprehension, tails: Tails) -> Tails:
        with self.repeated():
            return super()._comprehension(node, tails)
