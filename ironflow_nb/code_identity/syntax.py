"""Syntax trees: from a text or a function to a tree, and from a tree to bytes that identify it.

These bytes are equal for equal code in all versions of Python, which ``ast.dump`` does not give. They contain no
comments, docstrings or formatting.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from tokenize import TokenError
from typing import Any, Final, TypeVar

_ATTEMPTS: Final = 20


def parse(text: str | bytes, filename: str = "<unknown>") -> ast.Module:
    """Return the syntax tree of the text.

    Python 3.11 counts the depth of a tree for all threads together. It raises `SystemError` if another thread makes a
    tree at the same time, so the call is repeated.

    Raises:
        SyntaxError, ValueError: the text is not Python.
    """
    for _ in range(_ATTEMPTS):
        with suppress(SystemError):
            return ast.parse(text, filename)
    return ast.parse(text, filename)


_IGNORED_FIELDS: Final = frozenset({"type_comment", "kind", "ctx"})
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
Tree = TypeVar("Tree", bound=ast.AST)


def written(node: ast.AST) -> bytes:
    """Return the bytes that identify the tree, without positions."""
    return "".join(_node_texts(node)).encode()


def stripped(tree: Tree, is_ours: Callable[[ast.expr], bool]) -> Tree:
    """Remove docstrings, and our decorators of the outermost function or class and its methods; return the tree."""
    for node in [tree, *(tree.body if isinstance(tree, ast.ClassDef) else [])]:
        if isinstance(node, FunctionNode | ast.ClassDef):
            node.decorator_list = [decorator for decorator in node.decorator_list if not is_ours(decorator)]
    return without_docstrings(tree)


def without_docstrings(tree: Tree) -> Tree:
    """Remove the docstrings from the tree; return it."""
    for node in ast.walk(tree):
        if isinstance(node, FunctionNode | ast.ClassDef | ast.Module):
            node.body = _without_docstring(node.body)
    return tree


def dotted(node: ast.expr) -> tuple[str, ...]:
    """Return the names of ``a.b.c``; an empty tuple for any other expression."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) else ()


def bytecode(code: types.CodeType) -> bytes:
    """Return bytes that identify code without source, within one version of Python."""
    constants = [bytecode(item) if isinstance(item, types.CodeType) else repr(item).encode() for item in code.co_consts]
    return b"\0".join([code.co_code, repr(code.co_names).encode(), repr(code.co_varnames).encode(), *constants])


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    is_docstring = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return body[1:] or [ast.Pass()] if is_docstring else body


def _node_texts(node: Any) -> Iterator[str]:
    """Yield the text of the node without empty fields, because new versions of Python add only empty ones."""
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in _fields(node):
            if name not in _IGNORED_FIELDS and value is not None and value != []:
                yield f" {name}="
                yield from _node_texts(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            yield from _node_texts(item)
        yield "]"
    else:
        yield f"{type(node).__name__}:{node!r};"


def _fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    if isinstance(node, ast.JoinedStr):
        return iter([("values", _join_texts(node.values))])
    if isinstance(node, ast.FormattedValue):
        spec = node.format_spec
        is_empty = isinstance(spec, ast.JoinedStr) and not _join_texts(spec.values)
        return iter(
            [("value", node.value), ("conversion", node.conversion), ("format_spec", None if is_empty else spec)]
        )
    return ast.iter_fields(node)


def _join_texts(values: list[ast.expr]) -> list[ast.expr]:
    """Return the parts of an f-string with adjacent texts joined: versions of Python split them differently."""
    found: list[ast.expr] = []
    for value in values:
        text = value.value if isinstance(value, ast.Constant) else None
        last = found[-1] if found else None
        if text == "":
            continue
        if isinstance(text, str) and isinstance(last, ast.Constant) and isinstance(last.value, str):
            found[-1] = ast.Constant(last.value + text)
        else:
            found.append(value)
    return found


def source_of(function: Callable[..., Any]) -> str:
    """Return the source text of the function as `inspect` finds it, or an empty text."""
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError, SyntaxError, TokenError):
        return ""


def function_tree(function: Callable[..., Any]) -> FunctionNode | None:
    """Return the syntax tree of the function, or None for a lambda or without source."""
    return named_tree(source_of(function), getattr(function, "__name__", ""))


def named_tree(text: str, name: str) -> FunctionNode | None:
    """Return the tree of the text if it is a function of that name, else None."""
    first = statement(text)
    return first if isinstance(first, FunctionNode) and first.name == name else None


def statement(text: str) -> ast.stmt | None:
    """Return the only statement of the text, or None.

    An indented text is accepted: `textwrap.dedent` does nothing if one of its lines is not indented.
    """
    for block in (text, f"if True:\n{text}"):
        try:
            module = parse(block)
        except (SyntaxError, ValueError):  # also for a lambda in the middle of an expression
            continue
        first = module.body[0] if module.body else None
        body = first.body if block is not text and isinstance(first, ast.If) else module.body
        return body[0] if len(body) == 1 else None
    return None


def call_numbers(tree: FunctionNode) -> dict[ast.Call, int]:
    """Return the calls in the body of the function with their numbers; equal trees have equal numbers."""
    calls = (node for statement in tree.body for node in ast.walk(statement) if isinstance(node, ast.Call))
    return {call: number for number, call in enumerate(calls)}


def awaited_calls(tree: FunctionNode) -> dict[str, ast.Call]:
    """Return the calls whose results are kept under names that are awaited, and stand for nothing else, by the name."""
    nodes = list(ast.walk(tree))
    awaited = {node.value.id for node in nodes if isinstance(node, ast.Await) and isinstance(node.value, ast.Name)}
    n_bound = Counter(node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    found: dict[str, ast.Call] = {}
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call):
                if name in awaited and n_bound[name] == 1:
                    found[name] = call
    return found
