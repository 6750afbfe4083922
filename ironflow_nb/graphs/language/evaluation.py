"""Strict evaluation of expressions: a missing value is an error that names its path, never a silent null.

JMESPath gives null for a missing field, for an index beyond the end, and for a projection of a value that is not a
list. Here these are errors, unless the expression allows for them: as an argument of ``default``, ``coalesce`` or
``not_null``, left of ``||``, in ``&&`` and ``!``, and in a comparison with null. Some items of a projection or filter
may lack a field. If all items lack it, that is an error too, because the field is most often misspelt.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import date
from typing import Any, Final

from jmespath.visitor import TreeInterpreter

from ironflow_nb.graphs.language.budget import Budget, BudgetExceeded
from ironflow_nb.graphs.language.data import PLAIN, Tree, coerce, coerce_deep, describe, tree_text
from ironflow_nb.graphs.language.expression import LENIENT_FUNCTIONS, Expression
from ironflow_nb.graphs.language.functions import RecordedValues, calculate, call_function


class MissingValue(LookupError):
    """A value is missing; `path` is the expression of the value that should contain it."""

    def __init__(self, wanted: str, met: str) -> None:
        super().__init__(wanted, met)
        self.wanted = wanted
        self.met = met
        self.path = ""

    def prepend(self, tree: Tree) -> None:
        """Put the expression of the tree in front of `path`."""
        text = tree_text(tree)
        self.path = f"{text}.{self.path}" if self.path else text

    def __str__(self) -> str:
        return f"{self.path or 'the context'} is {self.met}, without {self.wanted}"


class EvaluationError(ValueError):
    """An expression failed; the message names the expression and the value that it met, without content."""


def evaluate(expression: Expression, context: Mapping[str, Any], recorded: RecordedValues) -> Any:
    """Return the result of the expression in the context.

    Raises:
        EvaluationError: a value is missing, a function refuses its arguments, or the budget is exceeded.
    """
    interpreter = _StrictVisitor(recorded)
    if expression.is_repeating:
        interpreter.is_repeating = True
    try:
        return interpreter.visit(expression.tree, context)
    except MissingValue as missing:
        raise EvaluationError(f"{expression.text!r} failed: {missing}") from None
    except RecursionError:
        raise EvaluationError(f"{expression.text[:200]!r} is nested too deep") from None
    except (ValueError, TypeError, KeyError, OverflowError, OSError) as error:
        raise EvaluationError(f"{expression.text!r} failed: {_error_text(error)}") from None


def _error_text(error: Exception) -> str:
    """Return the message without content. JMESPath's own message shows the value, which may be secret."""
    wanted = getattr(error, "expected_types", None)
    if wanted is None:
        return str(error)
    kinds = " or ".join(wanted)
    return f"it takes {kinds}, not {describe(getattr(error, 'current_value', None))}"


MAY_BE_EMPTY: Final = frozenset({str, list, dict})

_ITEMS: Final = frozenset({list, dict})

_SMALL: Final = 1_000
"""Results of functions count from this size on. Smaller ones are not larger than their arguments."""

_ORDERED: Final = ((int, float), str, date)


class _StrictVisitor(TreeInterpreter, Budget):  # type: ignore[misc]
    is_repeating = False

    def __init__(self, recorded: RecordedValues) -> None:  # one per evaluation, so it does nothing else
        self.recorded = recorded

    @property
    def budget(self) -> Budget:
        return self

    def visit(self, node: Tree, value: Any) -> Any:
        return _METHODS[node["type"]](self, node, value)

    def visit_literal(self, node: Tree, _value: Any) -> Any:
        literal = node["value"]
        # A copy, because user code may change the value in place and the tree is shared.
        return copy.deepcopy(literal) if isinstance(literal, list | dict) else literal

    # -- values that must exist -----------------------------------------------------------------------------

    def visit_field(self, node: Tree, value: Any) -> Any:
        name = node["value"]
        if not isinstance(value, Mapping):
            raise MissingValue(f"a field {tree_text(node)}", describe(value))
        if name not in value:
            raise MissingValue(f"a field {tree_text(node)}", describe(value))
        return value[name]

    def visit_index(self, node: Tree, value: Any) -> Any:
        items = value if type(value) is list else coerce(value)
        if not isinstance(items, list) or not -len(items) <= node["value"] < len(items):
            raise MissingValue(f"an item {tree_text(node)}", describe(value))
        return items[node["value"]]

    def visit_slice(self, node: Tree, value: Any) -> Any:
        items = coerce(value)
        if not isinstance(items, list):
            raise MissingValue("items", describe(value))
        return items[slice(*node["children"])]

    def _visit_chain(self, node: Tree, value: Any) -> Any:
        for number, child in enumerate(node["children"]):
            try:
                value = self.visit(child, value)
            except MissingValue as missing:
                for before in reversed(node["children"][:number]):
                    missing.prepend(before)
                raise
        return value

    visit_subexpression = visit_index_expression = visit_pipe = _visit_chain

    def visit_multi_select_dict(self, node: Tree, value: Any) -> Any:
        made = {child["value"]: self.visit(child, value) for child in node["children"]}
        if self.is_repeating:
            self.measure(made)
        return made

    def visit_multi_select_list(self, node: Tree, value: Any) -> Any:
        made = [self.visit(child, value) for child in node["children"]]
        if self.is_repeating:
            self.measure(made)
        return made

    # -- lists ------------------------------------------------------------------------------------------------

    def visit_flatten(self, node: Tree, value: Any) -> Any:
        items: list[Any] = []
        for item in self._visit_list(node["children"][0], value):
            found = coerce(item)
            items += found if isinstance(found, list) else [item]
        return items

    def visit_projection(self, node: Tree, value: Any) -> Any:
        base, then = node["children"]
        return self._project(then, self._visit_list(base, value), base)

    def visit_value_projection(self, node: Tree, value: Any) -> Any:
        tree, then = node["children"]
        base = self.visit(tree, value)
        if not isinstance(base, Mapping):
            raise self._missing_in(tree, "values", base)
        return self._project(then, list(base.values()), tree)

    def visit_filter_projection(self, node: Tree, value: Any) -> Any:
        base, then, condition = node["children"]
        items = self._visit_list(base, value)
        chosen = [self._is_true(result) for result in self._visit_items(condition, items, base)]
        return self._project(then, [item for item, is_chosen in zip(items, chosen, strict=True) if is_chosen], base)

    def _visit_list(self, tree: Tree, value: Any) -> list[Any]:
        base = self.visit(tree, value)
        items = coerce(base)
        if not isinstance(items, list):
            raise self._missing_in(tree, "items", base)
        return items

    def _missing_in(self, tree: Tree, wanted: str, met: Any) -> MissingValue:
        missing = MissingValue(wanted, describe(met))
        missing.prepend(tree)
        return missing

    def _project(self, tree: Tree, items: list[Any], base: Tree) -> list[Any]:
        return [found for found in self._visit_items(tree, items, base) if found is not None]

    def _visit_items(self, tree: Tree, items: list[Any], base: Tree) -> list[Any]:
        self.spend(len(items) * tree["weight"])
        found: list[Any] = []
        missing: MissingValue | None = None
        n_missing = 0
        for item in items:
            try:
                found.append(self.visit(tree, item))
            except MissingValue as error:
                missing = missing or error  # the first one is reported
                n_missing += 1
                found.append(None)
        if missing is not None and n_missing == len(found):
            missing.path = f"each item of {tree_text(base)}" + (f", at {missing.path}," if missing.path else "")
            raise missing
        return found

    def _is_false(self, value: Any) -> bool:
        value = coerce(value)
        return value is None or value is False or (type(value) in MAY_BE_EMPTY and not value)

    # -- values that may be missing --------------------------------------------------------------------------------

    def _visit_or_null(self, tree: Tree, value: Any) -> Any:
        try:
            return self.visit(tree, value)
        except MissingValue:
            return None

    def visit_or_expression(self, node: Tree, value: Any) -> Any:
        left = self._visit_or_null(node["children"][0], value)
        return self.visit(node["children"][1], value) if self._is_false(left) else left

    def visit_and_expression(self, node: Tree, value: Any) -> Any:
        left = self._visit_or_null(node["children"][0], value)
        return left if self._is_false(left) else self._visit_or_null(node["children"][1], value)

    def visit_not_expression(self, node: Tree, value: Any) -> Any:
        return self._is_false(self._visit_or_null(node["children"][0], value))

    def visit_comparator(self, node: Tree, value: Any) -> Any:
        is_null_test = any(child["type"] == "literal" and child["value"] is None for child in node["children"])
        visit = self._visit_or_null if is_null_test else self.visit
        left, right = (visit(child, value) for child in node["children"])
        if type(left) not in PLAIN or type(right) not in PLAIN:
            left, right = _comparable(left, right)
        compare = self.COMPARATOR_FUNC[node["value"]]
        if node["value"] not in self._EQUALITY_OPS and not _is_ordered(left, right):
            raise TypeError(f"{describe(left)} and {describe(right)} have no order")
        return compare(left, right)

    def visit_arithmetic(self, node: Tree, value: Any) -> Any:
        left, right = (self._visit_number(child, value, node["value"]) for child in node["children"])
        return calculate(node["value"], left, right)

    def _visit_number(self, tree: Tree, value: Any, operator: str) -> int | float:
        found = coerce(self.visit(tree, value))
        if isinstance(found, bool) or not isinstance(found, int | float):
            hint = "; concat() joins texts" if isinstance(found, str) and operator == "+" else ""
            raise TypeError(f"{operator} takes numbers, and {tree_text(tree)} is {describe(found)}{hint}")
        return found

    def visit_function_expression(self, node: Tree, value: Any) -> Any:
        name = node["value"]
        visit = self._visit_or_null if name in LENIENT_FUNCTIONS else self.visit
        try:
            arguments = [coerce(visit(child, value)) for child in node["children"]]
            n_given = sum([len(each) for each in arguments if type(each) in _ITEMS])
            self.spend(n_given * node["weight"] if "weight" in node else n_given)
            return self._call(name, arguments)
        except MissingValue as missing:  # of an expression argument, which the function applies to items
            missing.path = f"an item in {name}()" + (f", at {missing.path}," if missing.path else "")
            raise
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise ValueError(f"{name}(): {_error_text(error)}") from None

    def _call(self, name: str, arguments: list[Any]) -> Any:
        try:
            found = call_function(name, arguments, self)
        except BudgetExceeded:
            raise
        except (TypeError, ValueError):  # an item may be a decimal or a time, which needs coercion
            found = call_function(name, [coerce_deep(argument) for argument in arguments], self)
        if type(found) in MAY_BE_EMPTY:
            if self.is_repeating:
                self.measure(found)
            elif len(found) > _SMALL:
                self.make(len(found))
        return found


_METHODS: Final = {
    name.removeprefix("visit_"): getattr(_StrictVisitor, name)
    for name in dir(_StrictVisitor)
    if name.startswith("visit_")
}


def _comparable(left: Any, right: Any) -> tuple[Any, Any]:
    """Return both values in a form that compares: times unchanged, because one time has many texts."""
    return (
        (left, right) if isinstance(left, date) and isinstance(right, date) else (coerce_deep(left), coerce_deep(right))
    )


def _is_ordered(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return False
    return any(isinstance(left, kind) and isinstance(right, kind) for kind in _ORDERED)
