"""What the work of a node gets beside its options."""

from __future__ import annotations

import pytest

from ironflow_nb.errors import ExpressionFailed
from tests.graphs.evaluations import context_of

NAMES = {"item": {"n": 1, "name": "a", "none": None}}


def test_a_context_evaluates_an_expression_with_or_without_braces_and_a_text_with_several() -> None:
    context = context_of()
    assert context.evaluate("item.n", NAMES) == 1
    assert context.evaluate(" {{ item.n }} ", NAMES) == 1
    assert context.evaluate("{{ item.n }}-{{ item.name }}", NAMES) == "1-a"
    assert context.evaluate("{{ {a: {b: item.n}} }}", NAMES) == {"a": {"b": 1}}


@pytest.mark.parametrize("text", ["item.", "{{ item. }}", "item.x", "{{ nope }}", "a {{ item.none }}", "{{ item"])
def test_what_can_not_be_evaluated_fails_with_the_name_of_the_node(text: str) -> None:
    with pytest.raises(ExpressionFailed, match=r"^n: ") as caught:
        context_of().evaluate(text, NAMES)
    assert caught.value.is_retryable is False
