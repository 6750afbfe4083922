"""What the step of a node does: the work of its kind, a function of Python, a mock, or checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from ironflow_nb.errors import AssertionsFailed, ExpressionFailed, NodeFailed
from ironflow_nb.graphs.compiled_graph import GraphNode, NodeWork, PythonCall
from ironflow_nb.graphs.compiler import schema_check
from ironflow_nb.graphs.compiler.compiler_findings import format_path
from ironflow_nb.graphs.kinds import Kind, WaitCall
from ironflow_nb.graphs.language.data import coerce, coerce_deep, is_true, text_encoder
from ironflow_nb.graphs.language.patterns import has_match
from ironflow_nb.graphs.runtime.node_environment import WorkContext

NodeBody: TypeAlias = Callable[[dict[str, Any]], Any]
"""Does the work of a node with its options."""


def kind_body(node: GraphNode, kind: Kind, context: WorkContext, *, is_checked: bool) -> NodeBody:
    """Return the work of a kind. Options that the compiler could not check are checked before it begins."""

    def perform(options: dict[str, Any]) -> Any:
        __tracebackhide__ = True
        return kind.perform(options if is_checked else _checked_options(node, kind, options), context)

    return perform


def _checked_options(node: GraphNode, kind: Kind, options: dict[str, Any]) -> dict[str, Any]:
    """Return options whose expressions are filled in, as plain data where the schema of the kind needs that.

    Raises:
        NodeFailed: they do not fit the schema.
    """
    __tracebackhide__ = True
    problems = _schema_problems(kind, options)
    if problems:  # an array in the place of a list, for instance
        options = {name: coerce_deep(each) for name, each in options.items()}
        problems = _schema_problems(kind, options)
    if problems:
        message = f"{node.id}: the options of {kind.name} are wrong: {'; '.join(problems)}"
        raise NodeFailed(message, node=node.id, is_retryable=False)
    return options


def _schema_problems(kind: Kind, options: dict[str, Any]) -> list[str]:
    found = schema_check.problems(kind.schema, options, allows_expressions=False)
    return [f"{format_path(path)}: {message}" if path else message for path, message in found]


def call_mock(node: GraphNode, mock: Any, options: dict[str, Any]) -> Any:
    """Return the output of a mock: its value, or the result of a function of the options. An exception is raised."""
    __tracebackhide__ = True
    if isinstance(mock, BaseException):
        raise mock
    if not callable(mock):
        return mock
    given = options["with"] if isinstance(node.task, PythonCall) else options
    return mock(**given) if isinstance(given, dict) else mock(given)


def call_python(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """Call the function with ``with``: arguments by name, a list of arguments, or one argument."""
    __tracebackhide__ = True
    given = options["with"]
    match given:
        case None:
            return function()
        case dict():
            return function(**given)
        case list():
            return function(*given)
        case _:
            return function(given)


# -- checks ------------------------------------------------------------------------------------------------------


def check_assertions(node: GraphNode, options: dict[str, Any]) -> dict[str, Any]:
    """Return how many checks hold.

    Raises:
        AssertionsFailed: some do not; the message has a line for each of them.
    """
    __tracebackhide__ = True
    checks = options["checks"]
    mismatches = [text for check in checks if (text := _mismatch(check)) is not None]
    if mismatches:
        lines = "\n".join(f"  {text}" for text in mismatches)
        raise AssertionsFailed(f"{node.id}: {len(mismatches)} of {len(checks)} checks failed:\n{lines}", node=node.id)
    return {"n_checks": len(checks)}


def _mismatch(check: dict[str, Any]) -> str | None:
    """Return why a check does not hold, or None if it does."""
    message = check["message"]
    match check:
        case {"equals": [left, right]}:
            is_held, reason = _is_equal(left, right), f"{_format_value(left)} is not {_format_value(right)}"
        case {"not_equals": [left, right]}:
            is_held, reason = not _is_equal(left, right), f"expected a value other than {_format_value(left)}"
        case {"matches": [text, pattern]}:
            text = coerce(text)
            is_held = isinstance(text, str) and has_match(str(pattern), text)
            reason = f"{_format_value(text)} does not match {_format_value(pattern)}"
        case {"holds": value}:
            is_held, reason = _check_truth(value, check["text"])
        case _:
            raise AssertionError(check)
    return None if is_held else f"{message}: {reason[:500]}" if message else reason[:500]


def _check_truth(value: Any, text: str) -> tuple[bool, str]:
    try:
        return is_true(value), f"{text} is {_format_value(value)}, not true"
    except ValueError as error:
        return False, f"{text} {error}"


def _format_value(value: Any) -> str:
    """Return the value as JSON, or as Python writes what JSON does not have."""
    try:
        return text_encoder().encode(value).decode()
    except (TypeError, ValueError, msgspec.MsgspecError):
        return repr(value)


def _is_equal(left: Any, right: Any) -> bool:
    """Compare as JSON does: true is not 1, and 1 is 1.0."""
    left, right = coerce(left), coerce(right)
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_is_equal(each, right[key]) for key, each in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_is_equal, left, right))
    return bool(left == right)


def wait_of(node: GraphNode, work: NodeWork, options: dict[str, Any]) -> WaitCall:
    """Return what the node waits for.

    Raises:
        ExpressionFailed: an option is something that can't be waited for.
        NodeFailed: the options do not fit the kind.
    """
    assert work.kind.wait is not None
    try:
        checked = options if work.is_checked else _checked_options(node, work.kind, options)
        return work.kind.wait(checked, node.timeout_s)
    except (TypeError, ValueError) as error:
        raise ExpressionFailed(f"{node.id}: {error}", node=node.id) from None
