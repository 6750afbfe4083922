"""Evaluating expressions strictly: what is not there is an error that says where, and never a silent null.

JMESPath gives null for a field that is missing, for an index beyond the end, and for a projection of what is no list.
Here that is an error, except where the expression itself allows for it: as an argument of ``default``, ``coalesce``
and ``not_null``, left of ``||``, in ``&&`` and ``!``, and compared with null. Of the elements of a projection or filter
some may lack a field; if all do, that is an error too, for it is most often misspelt.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import date
from functools import cache
from typing import Any, Final

from ironflow_nb.graphs.language.budget import Budget, BudgetExceeded
from ironflow_nb.graphs.language.data import PLAIN, Tree, coerce, coerce_deep, describe, tree_text
from ironflow_nb.graphs.language.expression import LENIENT_FUNCTIONS, Expression
from ironflow_nb.graphs.language.functions import RecordedValues, call_function


class MissingValue(LookupError):
    """Something was not there; `path` is where it was looked for."""

    def __init__(self, wanted: str, met: str) -> None:
        super().__init__(wanted, met)
        self.wanted = wanted
        self.met = met
        self.path = ""

    def below(self, tree: Tree) -> None:
        """Note that it was looked for in what the tree gives."""
        text = tree_text(tree)
        self.path = f"{text}.{self.path}" if self.path else text

    def __str__(self) -> str:
        return f"{self.path or 'the context'} is {self.met}, without {self.wanted}"


class EvaluationError(ValueError):
    """An expression could not be evaluated; the message names it, and what it met."""


def evaluate(expression: Expression, context: Mapping[str, Any], recorded: RecordedValues) -> Any:
    """Return what the expression gives in the context.

    Raises:
        EvaluationError: something is missing, a function can't take what it is given, or it is too much work.
    """
    interpreter = _class()(recorded)
    if expression.is_repeating:
        interpreter.is_repeating = True
    try:
        return interpreter.visit(expression.tree, context)
    except MissingValue as missing:
        raise EvaluationError(f"{expression.text!r} failed: {missing}") from None
    except RecursionError:
        raise EvaluationError(f"{expression.text[:200]!r} is nested too deep") from None
    except (ValueError, TypeError, KeyError, OverflowError, OSError) as error:
        raise EvaluationError(f"{expression.text!r} failed: {_said(error)}") from None


def _said(error: Exception) -> str:
    """Return what is wrong, without any content: JMESPath's own message shows the value, which may be a secret."""
    wanted = getattr(error, "expected_types", None)
    if wanted is None:
        return str(error)
    kinds = " or ".join(wanted)
    return f"it takes {kinds}, not {describe(getattr(error, 'current_value', None))}"


@cache
def _class() -> Any:
    from jmespath.visitor import TreeInterpreter

    class _StrictVisitor(TreeInterpreter, Budget):  # type: ignore[misc]
        is_repeating = False

        def __init__(self, recorded: RecordedValues) -> None:  # one is made for each evaluation: so, nothing else
            self.recorded = recorded

        @property
        def budget(self) -> Budget:
            return self

        def visit(self, node: Tree, value: Any) -> Any:
            return methods[node["type"]](self, node, value)

        def visit_literal(self, node: Tree, _value: Any) -> Any:
            written_value = node["value"]  # a copy of it: whoever gets it may change it in place
            is_changeable = isinstance(written_value, list | dict)
            return copy.deepcopy(written_value) if is_changeable else written_value

        # -- what may not be missing -----------------------------------------------------------------------------

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

        def _chain(self, node: Tree, value: Any) -> Any:
            for number, child in enumerate(node["children"]):
                try:
                    value = self.visit(child, value)
                except MissingValue as missing:
                    for before in reversed(node["children"][:number]):
                        missing.below(before)
                    raise
            return value

        visit_subexpression = visit_index_expression = visit_pipe = _chain

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
            for item in self._items(node["children"][0], value):
                found = coerce(item)
                items += found if isinstance(found, list) else [item]
            return items

        def visit_projection(self, node: Tree, value: Any) -> Any:
            base, then = node["children"]
            return self._project(then, self._items(base, value), base)

        def visit_value_projection(self, node: Tree, value: Any) -> Any:
            tree, then = node["children"]
            base = self.visit(tree, value)
            if not isinstance(base, Mapping):
                raise self._at(tree, "values", base)
            return self._project(then, list(base.values()), tree)

        def visit_filter_projection(self, node: Tree, value: Any) -> Any:
            base, then, condition = node["children"]
            items = self._items(base, value)
            chosen = [self._is_true(held) for held in self._each(condition, items, base)]
            return self._project(then, [item for item, is_chosen in zip(items, chosen, strict=True) if is_chosen], base)

        def _items(self, tree: Tree, value: Any) -> list[Any]:
            base = self.visit(tree, value)
            items = coerce(base)
            if not isinstance(items, list):
                raise self._at(tree, "items", base)
            return items

        def _at(self, tree: Tree, wanted: str, met: Any) -> MissingValue:
            missing = MissingValue(wanted, describe(met))
            missing.below(tree)
            return missing

        def _project(self, tree: Tree, items: list[Any], base: Tree) -> list[Any]:
            return [found for found in self._each(tree, items, base) if found is not None]

        def _each(self, tree: Tree, items: list[Any], base: Tree) -> list[Any]:
            self.spend(len(items) * tree["weight"])
            found: list[Any] = []
            missing: MissingValue | None = None
            n_missing = 0
            for item in items:
                try:
                    found.append(self.visit(tree, item))
                except MissingValue as error:
                    missing = missing or error
                    n_missing += 1
                    found.append(None)
            if missing is not None and n_missing == len(found):
                missing.path = f"each item of {tree_text(base)}" + (f", at {missing.path}," if missing.path else "")
                raise missing
            return found

        def _is_false(self, value: Any) -> bool:
            value = coerce(value)
            return value is None or value is False or (type(value) in MAY_BE_EMPTY and not value)

        # -- what may be missing ----------------------------------------------------------------------------------

        def _leniently(self, tree: Tree, value: Any) -> Any:
            try:
                return self.visit(tree, value)
            except MissingValue:
                return None

        def visit_or_expression(self, node: Tree, value: Any) -> Any:
            left = self._leniently(node["children"][0], value)
            return self.visit(node["children"][1], value) if self._is_false(left) else left

        def visit_and_expression(self, node: Tree, value: Any) -> Any:
            left = self._leniently(node["children"][0], value)
            return left if self._is_false(left) else self._leniently(node["children"][1], value)

        def visit_not_expression(self, node: Tree, value: Any) -> Any:
            return self._is_false(self._leniently(node["children"][0], value))

        def visit_comparator(self, node: Tree, value: Any) -> Any:
            is_test = any(child["type"] == "literal" and child["value"] is None for child in node["children"])
            look = self._leniently if is_test else self.visit
            left, right = (look(child, value) for child in node["children"])
            if type(left) not in PLAIN or type(right) not in PLAIN:
                left, right = _alike(left, right)
            compare = self.COMPARATOR_FUNC[node["value"]]
            if node["value"] not in self._EQUALITY_OPS and not _is_ordered(left, right):
                raise TypeError(f"{describe(left)} and {describe(right)} have no order")
            return compare(left, right)

        def visit_function_expression(self, node: Tree, value: Any) -> Any:
            name = node["value"]
            look = self._leniently if name in LENIENT_FUNCTIONS else self.visit
            try:
                arguments = [coerce(look(child, value)) for child in node["children"]]
                n_given = sum([len(each) for each in arguments if type(each) in _ITEMS])
                self.spend(n_given * node["weight"] if "weight" in node else n_given)
                return self._called(name, arguments)
            except MissingValue as missing:  # in an expression that the function applies to the items of a list
                missing.path = f"an item in {name}()" + (f", at {missing.path}," if missing.path else "")
                raise
            except (ValueError, TypeError, KeyError, OverflowError) as error:
                raise ValueError(f"{name}(): {_said(error)}") from None

        def _called(self, name: str, arguments: list[Any]) -> Any:
            try:
                found = call_function(name, arguments, self)
            except BudgetExceeded:
                raise
            except (TypeError, ValueError):  # a decimal or time among the items of a list, for instance
                found = call_function(name, [coerce_deep(argument) for argument in arguments], self)
            if type(found) in MAY_BE_EMPTY:
                if self.is_repeating:
                    self.measure(found)
                elif len(found) > _SMALL:
                    self.make(len(found))
            return found

    methods = {
        name.removeprefix("visit_"): getattr(_StrictVisitor, name) for name in dir(_StrictVisitor) if "visit_" in name
    }
    return _StrictVisitor


MAY_BE_EMPTY: Final = frozenset({str, list, dict})

_ITEMS: Final = frozenset({list, dict})

_SMALL: Final = 1_000
"""What a function gives counts from this size on: less is not more than what it was given."""

_ORDERED: Final = ((int, float), str, date)


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    """Return what two values are compared by: times by themselves, for there are many texts for one."""
    return (
        (left, right) if isinstance(left, date) and isinstance(right, date) else (coerce_deep(left), coerce_deep(right))
    )


def _is_ordered(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return False
    return any(isinstance(left, kind) and isinstance(right, kind) for kind in _ORDERED)
