"""Name analysis of a cell (def-use): which names it reads before it assigns them, and which it assigns."""

from __future__ import annotations

import ast
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ironflow_nb.code_identity import syntax
from ironflow_nb.code_identity.definitions import global_names

_FLAGS: Final = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_BY_TEXT: Final = frozenset({"run_line_magic", "run_cell_magic", "system", "getoutput", "exec", "eval"})
"""Functions whose text arguments are code or names of variables."""
_HIDES_ASSIGNMENTS: Final = _BY_TEXT - {"system", "getoutput", "eval"} | {"globals"}
"""Functions that may assign names which are not visible in the cell."""
_SUPPRESSING: Final = frozenset({"suppress", "ignored", "raises", "assertRaises", "move_on_after", "move_on_at"})
"""Context managers that may leave their body early without an error."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def defines_names(node: ast.stmt) -> bool:
    """Return True if the statement only defines code: a function, a class, or a name for a lambda."""
    is_lambda = isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda)
    return isinstance(node, Function | ast.ClassDef) or (
        is_lambda and all(isinstance(target, ast.Name) for target in node.targets)  # type: ignore[attr-defined]
    )


def header_reads(node: ast.stmt) -> set[str]:
    """Return the names that a definition reads when it is executed."""
    if isinstance(node, Function):
        given = [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults]
        return {name for each in given if each is not None for name in expression_reads(each)}
    if isinstance(node, ast.ClassDef):
        return set(global_names(compiled([node])))
    assert isinstance(node, ast.Assign)
    assert isinstance(node.value, ast.Lambda)
    given = [*node.value.args.defaults, *node.value.args.kw_defaults]
    return {name for each in given if each is not None for name in expression_reads(each)}


def defined_names(node: ast.stmt) -> list[str]:
    """Return the names that a definition defines; an empty list for other statements."""
    if isinstance(node, Function | ast.ClassDef):
        return [node.name]
    return list(stored_names(node.targets)) if defines_names(node) else []  # type: ignore[attr-defined]


def names_in(node: ast.AST) -> set[str]:
    """Return every name that is looked up anywhere in the node."""
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}


def immediate_reads(node: ast.AST) -> set[str]:
    """Return the names that are looked up when the node is executed, and not when a function in it is called."""
    if isinstance(node, ast.Name):
        return {node.id}
    inside = [*(node.body if isinstance(node, Function) else [node.body] if isinstance(node, ast.Lambda) else [])]
    return {name for each in ast.iter_child_nodes(node) if each not in inside for name in immediate_reads(each)}


def with_called_reads(names: Iterable[str], later: Mapping[str, set[str]]) -> set[str]:
    """Return the names, and all names that the functions bound to them read when they are called."""
    found: set[str] = set()
    to_do = list(names)
    while to_do:
        name = to_do.pop()
        if name not in found:
            found.add(name)
            to_do += later.get(name, ())
    return found


def expression_reads(node: ast.expr) -> set[str]:
    """Return the free names of the expression."""
    if any(isinstance(each, ast.NamedExpr) for each in ast.walk(node)):
        return names_in(node)
    return set(global_names(compiled([ast.Expr(node)])))


def compiled(body: list[ast.stmt]) -> types.CodeType:
    """Return the statements as the code of a cell, which may await."""
    module = ast.fix_missing_locations(ast.Module(body, []))
    code: types.CodeType = compile(module, "<uses>", "exec", flags=_FLAGS, dont_inherit=True)
    return code


def hides_assignments(call: ast.Call) -> bool:
    """Return True if the call may assign names that are not visible in it."""
    return _called_name(call) in _HIDES_ASSIGNMENTS


def may_suppress(manager: ast.expr) -> bool:
    """Return True if a ``with`` of that manager may skip the rest of its body, as `contextlib.suppress` does."""
    return isinstance(manager, ast.Call) and _called_name(manager) in _SUPPRESSING


def walrus_names(node: ast.AST, *, is_sure: bool = True) -> Iterator[tuple[str, bool]]:
    """Yield each name that ``:=`` binds in the expression, and whether every evaluation binds it."""
    if isinstance(node, ast.NamedExpr):
        yield node.target.id, is_sure
    if not isinstance(node, ast.Lambda):
        skippable = _conditional_parts(node)
        for child in ast.iter_child_nodes(node):
            yield from walrus_names(child, is_sure=is_sure and child not in skippable)


def _conditional_parts(node: ast.AST) -> Sequence[ast.AST]:
    """Return the parts of an expression that are not evaluated each time."""
    match node:
        case ast.BoolOp():
            return node.values[1:]
        case ast.IfExp():
            return [node.body, node.orelse]
        case ast.Compare():
            return node.comparators[1:]
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            return list(ast.iter_child_nodes(node))
    return []


def code_arguments(call: ast.Call) -> list[ast.expr]:
    """Return the arguments that may be code. The first argument of a magic is its name and is left out."""
    called = _called_name(call)
    if called not in _BY_TEXT:
        return []
    return call.args[1:] if called.endswith("_magic") else call.args


def reads_of(node: ast.expr) -> set[str]:
    """Return the names that an expression reads; of a target ``a.b[i]`` these are ``a`` and ``i``."""
    if isinstance(node, ast.Tuple | ast.List) and not isinstance(node.ctx, ast.Load):
        return {name for each in node.elts for name in reads_of(each)}
    if isinstance(node, ast.Starred):
        return reads_of(node.value)
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Load) else set()
    if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
        return expression_reads(node.value)
    if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        return expression_reads(node.value) | expression_reads(node.slice)
    return expression_reads(node)


def stored_names(targets: Iterable[ast.expr]) -> Iterator[str]:
    """Yield the names that assigning to the targets, or deleting them, binds or unbinds."""
    for target in targets:
        for each in ast.walk(target):
            if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load):
                yield each.id


def _called_name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


_WORD: Final = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class NameUses:
    """The names of a cell, each tuple in the order of the code.

    `reads` may be read before the cell assigns them; `mentions` are words of texts such as that of a magic. `assigns`
    are bound to values, `defines` by definitions and `imports` by import statements that can be executed again.
    `unsettled` are pairs of a definition and a name which its header reads and the cell assigns again later.
    """

    reads: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()
    assigns: tuple[str, ...] = ()
    deletes: tuple[str, ...] = ()
    defines: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    """Assigned names that begin with ``_``."""
    contexts: tuple[str, ...] = ()
    """Names that a ``with`` statement bound; their values are often closed after it."""
    unsettled: tuple[tuple[str, str], ...] = ()
    hides_assignments: bool = False
    """Whether the cell may assign names that are not visible in it, as magics do."""


def analyse_names(tree: ast.Module) -> NameUses:
    """Return the names of the cell."""
    flow = _NameFlow()
    flow.block(tree.body, is_outermost=True)
    kept = {*flow.defines, *flow.imports}
    return NameUses(
        reads=tuple(flow.reads),
        mentions=tuple(flow.mentions),
        assigns=tuple(name for name in flow.assigns if not name.startswith("_") and name not in kept),
        private=tuple(name for name in flow.assigns if name.startswith("_") and name.strip("_")),
        deletes=tuple(flow.deletes),
        defines=tuple(flow.defines),
        imports=tuple(flow.imports),
        contexts=tuple(flow.contexts),
        unsettled=tuple(flow.unsettled()),
        hides_assignments=flow.hides_assignments,
    )


class _NameFlow:
    """Walks through the statements in the order of execution; `_assigned` are the names assigned so far on every path.

    A branch or loop that may be skipped assigns nothing for sure. A name too many in `reads` costs one more execution;
    a missing one would restore an outdated result.
    """

    def __init__(self) -> None:
        self.reads: dict[str, None] = {}
        self.mentions: dict[str, None] = {}
        self.assigns: dict[str, None] = {}
        self.deletes: dict[str, None] = {}
        self.defines: dict[str, None] = {}
        self.imports: dict[str, None] = {}
        self.contexts: dict[str, None] = {}
        self.hides_assignments = False
        self._assigned: set[str] = set()
        self._at_breaks: list[set[str]] = []
        self._read_when_called: dict[str, set[str]] = {}
        self._headers: list[tuple[str, set[str], int]] = []
        self._bound: list[str] = []

    def unsettled(self) -> Iterator[tuple[str, str]]:
        """Yield pairs of a definition and a name that its header reads and that is assigned again later."""
        for name, reads, n_bound in self._headers:
            for again in sorted(reads.intersection(self._bound[n_bound:]) - {name}):
                yield name, again

    def block(self, body: Iterable[ast.stmt], *, is_outermost: bool = False) -> None:
        for node in body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._import(node, is_outermost=is_outermost)
            elif defines_names(node):
                self._define(node, is_outermost=is_outermost)
            else:
                self._statement(node)

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.For() | ast.AsyncFor():
                self._expressions(node.iter)
                self._loop([ast.Assign([node.target], ast.Constant(None)), *node.body], node.orelse)
            case ast.While(test=test):
                self._expressions(test)
                at_breaks = self._loop(node.body, node.orelse)
                if isinstance(test, ast.Constant) and test.value and at_breaks:  # such a loop ends only at a break
                    self._assigned = set.intersection(*at_breaks)
            case ast.Break():
                self._at_breaks.append(set(self._assigned))
            case ast.If(test=test):
                self._expressions(test)
                self._branches([node.body, node.orelse])
            case ast.With() | ast.AsyncWith():
                self._with(node)
            case ast.Try() | ast.TryStar():
                self._try(node)
            case ast.Match():
                self._match(node)
            case _:
                self._simple(node)

    def _loop(self, body: list[ast.stmt], orelse: list[ast.stmt]) -> list[set[str]]:
        """Walk through a loop; return the names that are assigned at each of its breaks."""
        outside, self._at_breaks = self._at_breaks, []
        self._branches([body], is_any=True)
        found, self._at_breaks = self._at_breaks, outside
        self._branches([orelse], is_any=True)
        return found

    def _simple(self, node: ast.stmt) -> None:
        targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else []
        match node:
            case ast.AugAssign(target=ast.Name(id=name)):
                self._read(name)
                targets = [node.target]
            case ast.AnnAssign() if node.value is not None:
                targets = [node.target]
        self._expressions(node)
        for name in stored_names(targets):
            if isinstance(node, ast.Delete):
                self._assigned.discard(name)
                self.deletes[name] = None
            else:
                self._bind(name)

    def _with(self, node: ast.With | ast.AsyncWith) -> None:
        before = set(self._assigned)
        for item in node.items:
            self._expressions(item.context_expr)
            for name in stored_names([] if item.optional_vars is None else [item.optional_vars]):
                self._bind(name)
                self.contexts[name] = None
        self.block(node.body)
        if any(may_suppress(item.context_expr) for item in node.items):
            self._assigned &= before

    def _try(self, node: ast.Try | ast.TryStar) -> None:
        handlers: list[list[ast.stmt]] = []
        for handler in node.handlers:
            if handler.type is not None:
                self._expressions(handler.type)
            bound: list[ast.stmt] = (
                [] if handler.name is None else [ast.Assign([ast.Name(handler.name, ast.Store())], ast.Constant(None))]
            )
            is_left = handler.name is not None and not isinstance(handler.body[-1], ast.Raise)
            after: list[ast.stmt] = [ast.Delete([ast.Name(handler.name or "", ast.Del())])] if is_left else []
            handlers.append([*bound, *handler.body, *after])
        self._branches([[*node.body, *node.orelse], *handlers])
        self.block(node.finalbody)

    def _match(self, node: ast.Match) -> None:
        self._expressions(node.subject)
        cases: list[list[ast.stmt]] = []
        for case in node.cases:
            names = [each.name for each in ast.walk(case.pattern) if isinstance(each, ast.MatchAs | ast.MatchStar)]
            bound = [ast.Assign([ast.Name(name, ast.Store())], ast.Constant(None)) for name in names if name]
            guard = [] if case.guard is None else [ast.Expr(case.guard)]
            cases.append([*bound, *guard, *case.body])
        self._branches([*cases, []])

    def _branches(self, bodies: list[list[ast.stmt]], *, is_any: bool = False) -> None:
        """Walk through alternative bodies. Names that all assign are assigned; with `is_any` none may be executed."""
        before = set(self._assigned)
        after: list[set[str]] = [before] if is_any else []
        for body in bodies:
            self._assigned = set(before)
            self.block(body)
            if not (body and isinstance(body[-1], ast.Raise | ast.Break | ast.Continue)):
                after.append(self._assigned)
        self._assigned = set.intersection(*after) if after else before

    def _import(self, node: ast.Import | ast.ImportFrom, *, is_outermost: bool) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            if name != "*":
                self._bind(name, into=self.imports if is_outermost else self.assigns)

    def _define(self, node: ast.stmt, *, is_outermost: bool) -> None:
        reads = header_reads(node)
        for name in sorted(reads):
            self._read(name)
        names = defined_names(node)
        everything = set(global_names(compiled([node])))
        inner = everything - reads
        for name in names:
            if is_outermost:
                self._headers.append((name, immediate_reads(node) & everything, len(self._bound) + 1))
            # Of functions with one name in several branches any may be the one that is called.
            self._read_when_called[name] = inner if is_outermost else inner | self._read_when_called.get(name, set())
            self._bind(name, into=self.defines if is_outermost else self.assigns)
        if isinstance(node, Function | ast.ClassDef) and node.decorator_list:  # the decorator may call it at once
            self._use(names[0])

    # -- names -------------------------------------------------------------------------------------------------------

    def _expressions(self, node: ast.AST) -> None:
        """Note the names that the expressions of the node read and assign, also in texts that are code."""
        found = [node] if isinstance(node, ast.expr) else [
            each for each in ast.iter_child_nodes(node) if isinstance(each, ast.expr)
        ]  # fmt: skip
        for each in found:
            self._follow_texts(each)
            for name in sorted(reads_of(each)):
                self._use(name)
            for name, is_sure in walrus_names(each):
                self._bind(name, is_sure=is_sure)

    def _follow_texts(self, node: ast.expr) -> None:
        for call in (each for each in ast.walk(node) if isinstance(each, ast.Call)):
            self.hides_assignments = self.hides_assignments or hides_assignments(call)
            for text in code_arguments(call):
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    self._follow_text(text.value)

    def _follow_text(self, text: str) -> None:
        """Walk through a text as code if it parses; otherwise each of its words may be a name that is read."""
        words = dict.fromkeys(_WORD.findall(text))
        self.mentions.update(words)
        try:
            tree = syntax.parse(text)
        except SyntaxError:
            for name in words:
                self._use(name)
        else:
            self.block(tree.body)

    def _use(self, name: str) -> None:
        """Note a read of the name, and of all names that the function bound to it reads, because it may be called."""
        for each in sorted(with_called_reads([name], self._read_when_called)):
            self._read(each)

    def _read(self, name: str) -> None:
        if name not in self._assigned:
            self.reads[name] = None

    def _bind(self, name: str, *, into: dict[str, None] | None = None, is_sure: bool = True) -> None:
        self._bound.append(name)
        self.contexts.pop(name, None)
        if is_sure:
            self._assigned.add(name)
        (self.assigns if into is None else into)[name] = None
        if into is None:
            self.deletes.pop(name, None)
