"""The text and the syntax tree of a function, as ``inspect`` finds them."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from tokenize import TokenError
from typing import Any

from ironflow_nb.tracking.parsing import parse

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
