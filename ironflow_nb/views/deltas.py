"""Deltas: what of a view has changed, small enough to be sent for each frame.

A view has plain fields, and parts: sequences whose items have keys. A delta has the fields that differ. Of each part
that differs it has the items that differ, by key, and all keys in their order if that is another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

V = TypeVar("V", bound=msgspec.Struct)
Item = TypeVar("Item")


class PartDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What of a part has changed: items by key, and all keys in their order, None if that is as it was."""

    items: Mapping[str, Any] = {}
    keys: Sequence[str] | None = None


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What makes one view into the next; of two equal views it is empty."""

    fields: Mapping[str, Any] = {}
    parts: Mapping[str, PartDelta] = {}

    def __bool__(self) -> bool:
        return bool(self.fields or self.parts)


Keys = Mapping[str, Callable[[Any], str]]
"""The fields of a view that are parts, and the key of an item of each."""


def delta(before: V, after: V, keys: Keys) -> Delta:
    """Return what makes `before` into `after`."""
    differing = [name for name in after.__struct_fields__ if getattr(before, name) != getattr(after, name)]
    return Delta(
        {name: getattr(after, name) for name in differing if name not in keys},
        {
            name: _part_delta(getattr(before, name), getattr(after, name), keys[name])
            for name in differing
            if name in keys
        },
    )


def applied(view: V, change: Delta, keys: Keys) -> V:
    """Return the view after the change; it was made from an equal view."""
    parts = {name: _applied(getattr(view, name), part, keys[name]) for name, part in change.parts.items()}
    return replace(view, **change.fields, **parts)


def _part_delta(before: Iterable[Any], after: Iterable[Any], key_of: Callable[[Any], str]) -> PartDelta:
    old, new = _by_key(before, key_of), _by_key(after, key_of)
    changed = {key: item for key, item in new.items() if key not in old or old[key] != item}
    return PartDelta(changed, None if list(old) == list(new) else tuple(new))


def _applied(before: Iterable[Item], change: PartDelta, key_of: Callable[[Any], str]) -> tuple[Item, ...]:
    items: dict[str, Item] = {**_by_key(before, key_of), **change.items}
    return tuple(items[key] for key in (items if change.keys is None else change.keys))


def _by_key(items: Iterable[Item], key_of: Callable[[Any], str]) -> dict[str, Item]:
    """Return the items by key. Of items with the same key, each later one has its number among them behind the key."""
    found: dict[str, Item] = {}
    n_met: Counter[str] = Counter()
    for item in items:
        key = key_of(item)
        n_met[key] += 1
        found[key if n_met[key] == 1 else f"{key}\n{n_met[key]}"] = item
    return found
