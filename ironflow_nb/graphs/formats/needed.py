"""Which inputs a graph needs for certain: those that a node takes which always runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ironflow_nb.graphs.formats.definition import (
    Assertion,
    Block,
    Branch,
    Condition,
    Loop,
    Node,
    PythonCall,
    Switch,
    While,
    Work,
    Workflow,
)
from ironflow_nb.graphs.formats.inputs import INPUT
from ironflow_nb.graphs.language.expressions import LENIENT_FUNCTIONS, field_of
from ironflow_nb.graphs.language.parsing import Tree
from ironflow_nb.graphs.language.templates import Template, expressions_of

_LENIENT: Final = frozenset({"or_expression", "and_expression", "not_expression", "expref", "literal"})


def needed_inputs(block: Block) -> dict[str, str]:
    """Return the inputs without which a run of the block fails for certain, each with the node that takes it."""
    needed: dict[str, str] = {}
    for node in block.nodes:
        if node.when is None and node.on_error is None:
            for template in _always_filled(node):
                for expression in expressions_of(template):
                    for name, field in _strictly(expression.tree):
                        if name == INPUT:
                            needed.setdefault(field, node.id)
    return needed


def _always_filled(node: Node) -> Iterator[Template]:
    match node.task:
        case Work(options=template) | PythonCall(arguments=template):
            yield template
        case Condition(test=template) | Switch(value=template) | Loop(items=template) | While(test=template):
            yield template
        case Workflow(target=target, input=given):
            yield from (target, given)
        case Branch(choices=choices):
            yield from (choice.when for choice in choices if choice.when is not None)
        case Assertion(checks=checks):
            yield from (operand for check in checks for operand in check.operands)


def _strictly(tree: Tree) -> Iterator[tuple[str, str]]:
    """Yield the names with their fields that the expression looks at, and fails without."""
    left = [tree]
    while left:
        node = left.pop()
        kind, children = node["type"], [each for each in node.get("children", ()) if isinstance(each, dict)]
        if kind == "subexpression":
            found = field_of(node)
            if found is not None:
                yield found
            left.append(children[0])
        elif kind in {"multi_select_list", "multi_select_dict", "key_val_pair", "function_expression", "comparator"}:
            left += () if _is_lenient(node, children) else children
        elif kind not in _LENIENT and children:
            left.append(children[0])


def _is_lenient(node: Tree, children: list[Tree]) -> bool:
    if node["type"] == "function_expression":
        return node["value"] in LENIENT_FUNCTIONS
    return node["type"] == "comparator" and any(
        each["type"] == "literal" and each["value"] is None for each in children
    )
