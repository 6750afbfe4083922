"""Lists and dicts that can't be written out as one text: their parts, one after the other, by number.

It takes what is nested too deep for the stack, what shares its parts too often and what contains itself, as answers of
others may and results of recursions do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from ironflow_nb.values.sharing import Numbering
from ironflow_nb.values.tagged import TAG, Rules, Tree, tag, untag

PARTS: Final = "parts"


def tree_of_parts(value: object, rules: Rules) -> list[Tree]:
    """Return the trees of the lists and dicts in the value, itself first.

    Raises:
        RecursionError: something else in it can't be written out.
    """
    numbering = Numbering()

    def part(item: object, _rules: Rules) -> Tree:
        return {TAG: "part", "v": numbering.number(item)} if type(item) in {list, dict} else tag(item, rules)

    return numbering.forms(value, lambda each: tag(each, replace(rules, part=part)))


def value_of_parts(trees: list[Tree]) -> Any:
    """Return the value of the trees."""
    made: list[Any] = [[] if type(tree) is list else {} for tree in trees]

    def item_of(tree: Tree) -> Any:
        return made[tree["v"]] if type(tree) is dict and tree.get(TAG) == "part" else untag(tree)

    for target, tree in zip(made, trees, strict=True):
        _fill(target, tree, item_of)
    return made[0]


def _fill(target: Any, tree: Tree, item_of: Callable[[Tree], Any]) -> None:
    if type(tree) is list:
        target += map(item_of, tree)
    elif TAG in tree:
        target |= {untag(key): item_of(item) for key, item in tree["v"]}
    else:
        target |= {key: item_of(item) for key, item in tree.items()}
