"""The identity of code: a hash of the normalised syntax tree of a function.

Comments, docstrings, formatting and our own decorators do not count, so they can be edited without redoing work.
The tree is written out here and not by ``ast.dump``, whose text differs between versions of Python.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, Final

from ironflow_nb.core.identity import RECIPE
from ironflow_nb.core.ids import Digest

DECORATOR_MARK: Final = "__ironflow_decorator__"
"""Set on our own decorators, which say how a function is run and not what it does."""

_IGNORED_FIELDS: Final = frozenset({"type_comment", "kind", "ctx"})


def code_identity(function: Callable[..., Any]) -> Digest:
    """Return the identity of the function's own code; of its bytecode where it has no source."""
    tree = function_tree(function)
    if tree is not None:
        content = "".join(_written(_essence(tree, function))).encode()
    elif isinstance(code := getattr(function, "__code__", None), types.CodeType):
        content = b"bytecode\0" + _bytecode(code)
    else:  # written in C, or an object that can be called: known by its name
        named = function if hasattr(function, "__qualname__") else type(function)
        content = f"named\0{named.__module__}.{named.__qualname__}".encode()
    return Digest(RECIPE + blake2b(content, digest_size=19).digest())


def source_of(function: Callable[..., Any]) -> str:
    """Return the source text of the function, or an empty text where there is none."""
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return ""


def function_tree(function: Callable[..., Any]) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """Return the syntax tree of the function, or None for a lambda or where there is no source."""
    try:
        module = ast.parse(source_of(function))
    except SyntaxError:  # a lambda in the middle of an expression
        return None
    first = module.body[0] if len(module.body) == 1 else None
    is_function = isinstance(first, ast.FunctionDef | ast.AsyncFunctionDef)
    return first if is_function and first.name == function.__name__ else None  # type: ignore[union-attr,return-value]


def _essence(tree: ast.FunctionDef | ast.AsyncFunctionDef, function: Callable[..., Any]) -> ast.AST:
    tree.decorator_list = [node for node in tree.decorator_list if not _is_ours(node, function)]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            node.body = _without_docstring(node.body)
    return tree


def _is_ours(node: ast.expr, function: Callable[..., Any]) -> bool:
    """Tell whether the decorator expression, looked up where the function lives, is one of ours."""
    name = node.func if isinstance(node, ast.Call) else node
    path: list[str] = []
    while isinstance(name, ast.Attribute):
        path.append(name.attr)
        name = name.value
    if not isinstance(name, ast.Name):
        return False
    found: Any = getattr(function, "__globals__", {}).get(name.id)
    for part in reversed(path):
        found = getattr(found, part, None)
    return getattr(found, DECORATOR_MARK, False) is True


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    is_docstring = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return body[1:] or [ast.Pass()] if is_docstring else body


def _written(node: Any) -> Iterator[str]:
    """Write the tree without positions, leaving out what is empty: new versions of Python only add empty fields."""
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
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


def _bytecode(code: types.CodeType) -> bytes:
    constants = [
        _bytecode(item) if isinstance(item, types.CodeType) else repr(item).encode() for item in code.co_consts
    ]
    return b"\0".join([code.co_code, repr(code.co_names).encode(), repr(code.co_varnames).encode(), *constants])
