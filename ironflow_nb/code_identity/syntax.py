"""Syntax trees written as text, the same for the same code in every version of Python.

Comments, docstrings and formatting are not in it. Not by ``ast.dump``, whose text differs between versions.

Syntax trees of texts, also where other threads make some at the same moment.

The text and the syntax tree of a function, as ``inspect`` finds them.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from tokenize import TokenError
from typing import Any, Final

_ATTEMPTS: Final = 20


def parse(text: str | bytes, filename: str = "<unknown>") -> ast.Module:
    """Return the syntax tree of the text.

    Python 3.11 counts the depth of a tree for all threads together, and raises `SystemError` where another thread makes
    a tree meanwhile; the next attempt meets it no more.

    Raises:
        SyntaxError, ValueError: it is no Python.
    """
    for _ in range(_ATTEMPTS):
        with suppress(SystemError):
            return ast.parse(text, filename)
    return ast.parse(text, filename)


_IGNORED_FIELDS: Final = frozenset({"type_comment", "kind", "ctx"})
_DOCUMENTED: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)


def written(node: ast.AST) -> bytes:
    """Return the tree as text, without positions."""
    return "".join(_written(node)).encode()


def stripped(tree: ast.AST, is_ours: Callable[[ast.expr], bool]) -> ast.AST:
    """Take docstrings out of the tree, and our decorators off it and off what a class has in it."""
    outermost = [tree, *(tree.body if isinstance(tree, ast.ClassDef) else [])]
    for node in outermost:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            node.decorator_list = [decorator for decorator in node.decorator_list if not is_ours(decorator)]
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED):
            node.body = _without_docstring(node.body)
    return tree


def dotted(node: ast.expr) -> tuple[str, ...]:
    """Return the names of ``a.b.c``; nothing for any other expression."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) else ()


def bytecode(code: types.CodeType) -> bytes:
    """Return what identifies code that has no source, in one version of Python."""
    constants = [bytecode(item) if isinstance(item, types.CodeType) else repr(item).encode() for item in code.co_consts]
    return b"\0".join([code.co_code, repr(code.co_names).encode(), repr(code.co_varnames).encode(), *constants])


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    is_docstring = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return body[1:] or [ast.Pass()] if is_docstring else body


def _written(node: Any) -> Iterator[str]:
    """Leave out what is empty: new versions of Python only add empty fields."""
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in _fields(node):
            if name not in _IGNORED_FIELDS and value is not None and value != []:
                yield f" {name}="
                yield from _written(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            yield from _written(item)
        yield "]"
    else:
        yield f"{type(node).__name__}:{node!r};"


def _fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    if isinstance(node, ast.JoinedStr):
        return iter([("values", _joined(node.values))])
    if isinstance(node, ast.FormattedValue):
        spec = node.format_spec
        is_empty = isinstance(spec, ast.JoinedStr) and not _joined(spec.values)
        return iter(
            [("value", node.value), ("conversion", node.conversion), ("format_spec", None if is_empty else spec)]
        )
    return ast.iter_fields(node)


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """Return the parts of an f-string with its texts joined: versions of Python cut them differently."""
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


FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def source_of(function: Callable[..., Any]) -> str:
    """Return the source text of the function, or an empty text where there is none."""
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError, SyntaxError, TokenError):
        return ""


def function_tree(function: Callable[..., Any]) -> FunctionNode | None:
    """Return the syntax tree of the function, or None for a lambda or where there is no source."""
    return named_tree(source_of(function), getattr(function, "__name__", ""))


def named_tree(text: str, name: str) -> FunctionNode | None:
    """Return the tree of the text if it is a function of that name."""
    first = statement(text)
    return first if isinstance(first, FunctionNode) and first.name == name else None


def statement(text: str) -> ast.stmt | None:
    """Return the only statement of the text; a line in it that is not indented may have kept it from being dedented."""
    for block in (text, f"if True:\n{text}"):
        try:
            module = parse(block)
        except (SyntaxError, ValueError):  # or a lambda in the middle of an expression
            continue
        first = module.body[0] if module.body else None
        body = first.body if block is not text and isinstance(first, ast.If) else module.body
        return body[0] if len(body) == 1 else None
    return None


def call_numbers(tree: FunctionNode) -> dict[ast.Call, int]:
    """Return the calls in the body of the function with their numbers, which only another syntax tree changes."""
    calls = (node for statement in tree.body for node in ast.walk(statement) if isinstance(node, ast.Call))
    return {call: number for number, call in enumerate(calls)}
