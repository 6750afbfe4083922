"""Filling in the expressions of nodes while a graph runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from ironflow_nb.errors import ExpressionFailed, IronflowError
from ironflow_nb.execution import RunContext, deterministic, durable_calls
from ironflow_nb.graphs.compiled_graph import Assertion, GraphNode
from ironflow_nb.graphs.language.budget import Budget
from ironflow_nb.graphs.language.data import coerce, describe, is_true, write_json
from ironflow_nb.graphs.language.evaluation import EvaluationError, evaluate
from ironflow_nb.graphs.language.expression import Expression
from ironflow_nb.graphs.language.templates import Fields, Items, Template, expressions_of, fill, is_repeating
from ironflow_nb.graphs.runtime.activity import NameFrame
from ironflow_nb.graphs.runtime.node_context import NOW, RECORDED, UUID_SEED
from ironflow_nb.graphs.runtime.node_steps import SecretOption

_OF_SEVERAL: Final = frozenset({Fields, Items})

Seal = Callable[[Template], SecretOption | None]


class TemplateValues:
    """Gives the values of the templates of one graph in one continuation of its run."""

    def __init__(self, scope: RunContext, graph: str, *, has_secrets: bool) -> None:
        self._scope = scope
        self._graph = graph
        self._has_secrets = has_secrets
        self._repeating: dict[int, bool] = {}

    def filled(self, template: Template, frame: NameFrame, place: str, *, seal: Seal | None = None) -> Any:
        """Return the value; `place` is the id of the node, and after a comma which of its keys.

        Raises:
            ExpressionFailed: an expression met something else than it was written for.
        """
        __tracebackhide__ = True
        try:
            value = fill(template, lambda expression: self._evaluated(expression, frame, place), seal)
            if type(template) in _OF_SEVERAL and self._is_repeating(template):
                Budget().measure(value)
        except (EvaluationError, ValueError) as error:
            if isinstance(error, IronflowError):
                raise
            raise ExpressionFailed(f"{place}: {error}", node=place.partition(",")[0]) from None
        return value

    def sealed(self, node: GraphNode, template: Template, frame: NameFrame) -> Any:
        """Return the options of a node; those with secrets stay sealed until its step performs it."""
        __tracebackhide__ = True

        def seal(text: Template) -> SecretOption | None:
            names = {name for each in expressions_of(text) for name in each.names}
            if "secrets" not in names:
                return None
            seen = {name: frame[name] for name in sorted(names - {"secrets"})}
            is_nondeterministic = any(each.is_nondeterministic for each in expressions_of(text))
            return SecretOption.of(text, {**seen, **self._drawn(frame, node.id)} if is_nondeterministic else seen)

        return self.filled(template, frame, node.id, seal=seal if self._has_secrets else None)

    def is_true(self, template: Template | None, frame: NameFrame, place: str) -> bool:
        """Tell whether there is no test, or it is true.

        Raises:
            ExpressionFailed: it gives neither true nor false.
        """
        __tracebackhide__ = True
        if template is None:
            return True
        value = self.filled(template, frame, place)
        try:
            return is_true(value)
        except ValueError as error:
            text = next((expression.text for expression in expressions_of(template)), "it")
            raise ExpressionFailed(f"{place}: {text!r} {error}", node=place.partition(",")[0]) from None

    def checks(self, node: GraphNode, assertion: Assertion, frame: NameFrame) -> list[dict[str, Any]]:
        """Return what the checks of an assertion are to look at."""
        __tracebackhide__ = True
        found = []
        for check in assertion.checks:
            operands = [self.filled(each, frame, node.id) for each in check.operands]
            if check.kind == "holds":
                text = next((expression.text for expression in expressions_of(check.operands[0])), "it")
                found.append({"holds": operands[0], "message": check.message, "text": text})
            else:
                found.append({check.kind: operands, "message": check.message})
        return found

    def _is_repeating(self, template: Template) -> bool:
        found = self._repeating.get(id(template))  # a template lives as long as its graph
        if found is None:
            found = self._repeating[id(template)] = is_repeating(template)
        return found

    def _evaluated(self, expression: Expression, frame: NameFrame, place: str) -> Any:
        if not expression.is_nondeterministic:
            return evaluate(expression, frame, RECORDED)
        with self._recorded_at(frame, place):
            return evaluate(expression, frame, RECORDED)

    def _drawn(self, frame: NameFrame, place: str) -> dict[str, Any]:
        """Return what ``now()`` and ``uuid()`` of a sealed option are made of: recorded, as its secrets are not."""
        with self._recorded_at(frame, place):
            return {NOW: deterministic.now(), UUID_SEED: deterministic.uuid4().hex}

    @contextmanager
    def _recorded_at(self, frame: NameFrame, place: str) -> Iterator[None]:
        # What is recorded there is recognised by the place, whichever of several nodes at once is evaluated first.
        with durable_calls.entered(durable_calls.open_branch(self._scope.at(frame.branch), f"{self._graph}.{place}")):
            yield


def as_case(value: Any, node: GraphNode) -> str:
    """Return the name of the case that the value means.

    Raises:
        ExpressionFailed: it is a list or an object.
    """
    value = coerce(value)
    if isinstance(value, str):
        return value
    if isinstance(value, int | float | None):
        return write_json(value)
    raise ExpressionFailed(
        f"{node.id}: switch takes a text, a number or true or false, not {describe(value)}", node=node.id
    )
