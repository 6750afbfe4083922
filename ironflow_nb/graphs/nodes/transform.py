"""The kinds of nodes that make data from data: transform, filter, foreach, batch, deduplicate."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any, Final

from ironflow_nb.errors import ExpressionFailed, NodeTimeout
from ironflow_nb.graphs.kinds import Kind, NodeContext, Options, failure, options_schema
from ironflow_nb.graphs.language.budget import Budget, BudgetExceeded
from ironflow_nb.graphs.language.data import coerce, coerce_deep, comparable, describe, is_true
from ironflow_nb.graphs.language.expression import Expression, ExpressionSyntaxError
from ironflow_nb.graphs.language.templates import Template, compile_template, fill

_SEEN: Final = frozenset({"item", "index", "values"})
"""The names that the expressions for each item see."""

LONGEST_S: Final = 600.0
"""The time limit of all items together, unless the node has a `timeout_s`."""

_ITEMS: Final = {"type": "array", "description": "The list."}
_VALUES: Final = {
    "type": "object",
    "description": "What the expression for each item sees beside the item, as values.NAME.",
}


def _transform(options: Options, _context: NodeContext) -> Any:
    return options["value"]


def _filter(options: Options, context: NodeContext) -> list[Any]:
    chosen = []
    for item, index, is_wanted in _evaluate_items(options, options["where"], context):
        try:
            if is_true(is_wanted):
                chosen.append(item)
        except ValueError as error:
            raise failure(context, f"item {index}: where {error}") from None
    return chosen


def _foreach(options: Options, context: NodeContext) -> list[Any]:
    made, budget, size = [], Budget(), 0
    for _, index, value in _evaluate_items(options, options["value"], context):
        try:
            size += budget.measure(value)
            budget.require(size)
        except BudgetExceeded as error:
            raise failure(context, f"item {index}: {error}") from None
        made.append(value)
    return made if options.get("keep_nulls", False) else [value for value in made if value is not None]


def _batch(options: Options, context: NodeContext) -> list[list[Any]]:
    items, size = _list_of(options, context), options["size"]
    return [items[first : first + size] for first in range(0, len(items), size)]


def _deduplicate(options: Options, context: NodeContext) -> list[Any]:
    chosen: dict[Hashable, Any] = {}
    budget = Budget()
    is_last = options.get("keep", "first") == "last"
    for item, index, value in _evaluate_items(options, options.get("by", "{{ item }}"), context):
        try:
            budget.measure(value)
            key = comparable(coerce_deep(value))
            if is_last:
                chosen.pop(key, None)
            chosen.setdefault(key, item)
        except BudgetExceeded as error:
            raise failure(context, f"item {index}: {error}") from None
        except TypeError:
            raise failure(context, f"item {index}: {describe(value)} can't be compared; say by what: by") from None
    return list(chosen.values())


def _list_of(options: Options, context: NodeContext) -> list[Any]:
    items = coerce(options["items"])
    if not isinstance(items, list):
        raise failure(context, f"items is {describe(items)}, and not a list")
    return items


def _evaluate_items(options: Options, written: Any, context: NodeContext) -> Iterator[tuple[Any, int, Any]]:
    """Yield each item with its index and the value of the expression for it."""
    items = _list_of(options, context)
    template = _compile(written, context)
    names: dict[str, Any] = {"values": options.get("values", {})}

    def evaluate(expression: Expression) -> Any:
        return context.evaluate(expression.text, names)

    limit_s = context.timeout_s or LONGEST_S
    until_s = context.monotonic() + limit_s
    for index, item in enumerate(items):
        if context.monotonic() > until_s:
            message = f"{context.node}: it took longer than {limit_s:g} s, and reached item {index}; raise timeout_s"
            raise NodeTimeout(message, node=context.node)
        names["item"], names["index"] = item, index
        try:
            yield item, index, fill(template, evaluate)
        except ExpressionFailed as error:
            message = str(error).removeprefix(f"{context.node}: ")
            raise ExpressionFailed(f"{context.node}: item {index}: {message}", node=context.node) from None
        except ValueError as error:  # an expression beside other text gave a value that has no text
            raise ExpressionFailed(f"{context.node}: item {index}: {error}", node=context.node) from None


def _compile(written: Any, context: NodeContext) -> Template:
    def raise_error(_path: object, error: ExpressionSyntaxError) -> None:
        raise ExpressionFailed(f"{context.node}: {error}", node=context.node)

    return compile_template(written, raise_error)


def _make_kind(name: str, description: str, properties: Mapping[str, Any], **more: Any) -> Kind:
    return Kind(name=name, description=description, schema=options_schema(properties, **more.pop("schema", {})), **more)


TRANSFORM: Final = _make_kind(
    "transform",
    "Gives the value that is written there, with its expressions filled in.",
    {"value": {"description": "Any value: an expression, or an object or a list with expressions in it."}},
    schema={"required": ["value"]},
    perform=_transform,
    shorthand="value",
    is_value_whole=True,
)

FILTER: Final = _make_kind(
    "filter",
    "Gives the items of a list for which a condition holds, in their order.",
    {
        "items": _ITEMS,
        "where": {
            "type": ["string", "boolean"],
            "pattern": r"\{\{",
            "description": "The condition: an expression that sees item, index and values, and gives true or false.",
        },
        "values": _VALUES,
    },
    schema={"required": ["items", "where"]},
    perform=_filter,
    lazy=frozenset({"where"}),
    lazy_names=_SEEN,
)

FOREACH: Final = _make_kind(
    "foreach",
    "Gives a list with a new value for each item of a list; for work on each item there is loop.",
    {
        "items": _ITEMS,
        "value": {
            "description": "The new value: an expression, or a value with expressions, that see item, index and values."
        },
        "values": _VALUES,
        "keep_nulls": {"type": "boolean", "default": False, "description": "Whether nulls stay in the new list."},
    },
    schema={"required": ["items", "value"]},
    perform=_foreach,
    lazy=frozenset({"value"}),
    lazy_names=_SEEN,
)

BATCH: Final = _make_kind(
    "batch",
    "Gives the items of a list, in their order, as lists of a size.",
    {
        "items": _ITEMS,
        "size": {"type": "integer", "minimum": 1, "description": "The items of each batch; the last may have fewer."},
    },
    schema={"required": ["items", "size"]},
    perform=_batch,
)

DEDUPLICATE: Final = _make_kind(
    "deduplicate",
    "Gives the items of a list without those that equal another one, as JSON compares: 1 equals 1.0, and not true.",
    {
        "items": _ITEMS,
        "by": {"description": "What is compared: an expression that sees item, index and values; by default the item."},
        "keep": {"enum": ["first", "last"], "default": "first", "description": "Which of several equal ones stays."},
        "values": _VALUES,
    },
    schema={"required": ["items"]},
    perform=_deduplicate,
    shorthand="items",
    lazy=frozenset({"by"}),
    lazy_names=_SEEN,
)
