"""The values of templates while a graph runs: options, tests and checks of its nodes, and its output.

``now()`` and ``uuid()`` are recorded in a branch of their own for each location, so a replay gets the same values in
whatever order the nodes are evaluated. A location is the id of a node, or that and one of its keys: ``send, when``.
"""

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
from ironflow_nb.graphs.language.templates import Fields, Items, Template, expressions_of, fill, is_repeating_template
from ironflow_nb.graphs.runtime.active_block import NameFrame
from ironflow_nb.graphs.runtime.node_environment import NOW, RECORDED, UUID_SEED
from ironflow_nb.graphs.runtime.node_steps import SecretOption

_OF_SEVERAL: Final = frozenset({Fields, Items})

Seal = Callable[[Template], SecretOption | None]
"""Returns the option that stands for a template with a secret; None for a template without one."""


class TemplateValues:
    """Fills the templates of one graph in one continuation of its run."""

    def __init__(self, context: RunContext, graph: str, *, has_secrets: bool) -> None:
        self._context = context
        self._graph = graph
        self._has_secrets = has_secrets
        self._repeating: dict[int, bool] = {}

    def fill(self, template: Template, frame: NameFrame, location: str, *, seal: Seal | None = None) -> Any:
        """Return the value of the template with the names of the frame.

        Raises:
            ExpressionFailed: an expression got a value that it was not written for.
        """
        __tracebackhide__ = True
        try:
            value = fill(template, lambda expression: self._evaluate(expression, frame, location), seal)
            if type(template) in _OF_SEVERAL and self._is_repeating(template):
                Budget().measure(value)
        except (EvaluationError, ValueError) as error:
            if isinstance(error, IronflowError):
                raise
            raise ExpressionFailed(f"{location}: {error}", node=location.partition(",")[0]) from None
        return value

    def fill_options(self, node: GraphNode, template: Template, frame: NameFrame) -> Any:
        """Return the options of a node. An option with a secret stays a `SecretOption` until the step performs it."""
        __tracebackhide__ = True

        def seal(text: Template) -> SecretOption | None:
            names = {name for each in expressions_of(text) for name in each.names}
            if "secrets" not in names:
                return None
            sees = {name: frame[name] for name in sorted(names - {"secrets"})}
            is_nondeterministic = any(each.is_nondeterministic for each in expressions_of(text))
            return SecretOption.of(
                text, {**sees, **self._record_seeds(frame, node.id)} if is_nondeterministic else sees
            )

        return self.fill(template, frame, node.id, seal=seal if self._has_secrets else None)

    def is_true(self, template: Template | None, frame: NameFrame, location: str) -> bool:
        """Return True if there is no test, or its value is true.

        Raises:
            ExpressionFailed: its value is neither true nor false.
        """
        __tracebackhide__ = True
        if template is None:
            return True
        value = self.fill(template, frame, location)
        try:
            return is_true(value)
        except ValueError as error:
            text = _first_expression(template)
            raise ExpressionFailed(f"{location}: {text!r} {error}", node=location.partition(",")[0]) from None

    def fill_checks(self, node: GraphNode, assertion: Assertion, frame: NameFrame) -> list[dict[str, Any]]:
        """Return the checks of an assertion with their operands, for `check_assertions`."""
        __tracebackhide__ = True
        checks = []
        for check in assertion.checks:
            operands = [self.fill(each, frame, node.id) for each in check.operands]
            if check.kind == "holds":
                text = _first_expression(check.operands[0])
                checks.append({"holds": operands[0], "message": check.message, "text": text})
            else:
                checks.append({check.kind: operands, "message": check.message})
        return checks

    def _is_repeating(self, template: Template) -> bool:
        found = self._repeating.get(id(template))  # a template lives as long as its graph
        if found is None:
            found = self._repeating[id(template)] = is_repeating_template(template)
        return found

    def _evaluate(self, expression: Expression, frame: NameFrame, location: str) -> Any:
        if not expression.is_nondeterministic:
            return evaluate(expression, frame, RECORDED)
        with self._branch_of(frame, location):
            return evaluate(expression, frame, RECORDED)

    def _record_seeds(self, frame: NameFrame, location: str) -> dict[str, Any]:
        """Record what ``now()`` and ``uuid()`` of a secret option follow from: its value itself is never recorded."""
        with self._branch_of(frame, location):
            return {NOW: deterministic.now(), UUID_SEED: deterministic.uuid4().hex}

    @contextmanager
    def _branch_of(self, frame: NameFrame, location: str) -> Iterator[None]:
        branch = durable_calls.open_branch(self._context.at(frame.branch), f"{self._graph}.{location}")
        with durable_calls.entered(branch):
            yield


def _first_expression(template: Template) -> str:
    return next((expression.text for expression in expressions_of(template)), "it")


def case_name(value: Any, node: GraphNode) -> str:
    """Return the name of the case that the value of a switch chooses: a text itself, all else as JSON.

    Raises:
        ExpressionFailed: the value is a list or an object.
    """
    value = coerce(value)
    if isinstance(value, str):
        return value
    if isinstance(value, int | float | None):
        return write_json(value)
    raise ExpressionFailed(
        f"{node.id}: switch takes a text, a number or true or false, not {describe(value)}", node=node.id
    )
