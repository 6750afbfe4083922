"""Which recorded steps got the result of another one as an argument, as far as the records of their calls show it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from ironflow_nb.core.identity import StepRef

_ENCODER: Final = msgspec.json.Encoder(order="sorted")


class FinishedCall(msgspec.Struct, frozen=True):
    """A finished call: its arguments by name and its output, each as the id of a value, or as a tree where it is small.

    A tree is plain data; `tree` is None if the output is not recorded as one.
    """

    step: StepRef
    trees: Mapping[str, Any]
    ids: Mapping[str, str]
    output_id: str
    tree: Any = None


def dependents(calls: Iterable[FinishedCall], edited: Collection[StepRef]) -> dict[StepRef, tuple[str, StepRef]]:
    """Return the steps that depend on an edited one, each with the argument and the step whose result that argument is.

    `calls` are in the order of their beginnings. A result that is recorded as a part of a larger value that is stored
    elsewhere is not seen; an equal one that came from elsewhere is taken for it.
    """
    changed: dict[str | bytes, StepRef] = {}
    found: dict[StepRef, tuple[str, StepRef]] = {}
    for call in calls:
        use = None if call.step in edited else _use(call, changed)
        if use is not None:
            found[call.step] = use
        if use is not None or call.step in edited:
            changed[call.output_id] = call.step
            if call.tree is not None:
                changed[_ENCODER.encode(call.tree)] = call.step
    return found


def _use(call: FinishedCall, changed: Mapping[str | bytes, StepRef]) -> tuple[str, StepRef] | None:
    if not changed:
        return None
    for name, value_id in call.ids.items():
        if value_id in changed:
            return name, changed[value_id]
    for name, tree in call.trees.items():
        for part in _parts(tree):
            step = changed.get(_ENCODER.encode(part))
            if step is not None:
                return name, step
    return None


def _parts(tree: Any) -> Iterator[Any]:
    yield tree
    if isinstance(tree, dict | list):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _parts(part)
