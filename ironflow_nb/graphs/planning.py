"""What an edit of a graph means for what is recorded of a run: told by comparing both definitions, node by node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from msgspec.structs import replace

from ironflow_nb.core.plan import Action, Planned
from ironflow_nb.graphs.formats.findings import Path, dotted
from ironflow_nb.graphs.formats.keys import COMMON_KEYS, CONTROL_KEYS

_SHOWN: Final = 3

NodeData = Mapping[str, Any]

_DECIDING: Final = frozenset(CONTROL_KEYS) - {"workflow", "assert"}


def nodes_of(data: Any) -> dict[str, NodeData]:
    """Return all nodes of a definition by id, those inside of others too."""
    return dict(_nodes(data.get("nodes") if isinstance(data, Mapping) else None))


def _nodes(blocks: Any) -> Iterator[tuple[str, NodeData]]:
    match blocks:
        case list():
            for each in blocks:
                if isinstance(each, Mapping) and isinstance(each.get("id"), str):
                    yield each["id"], each
                    for inside in _inside(each):
                        yield from _nodes(inside)


def _inside(node: NodeData) -> Iterator[Any]:
    for key in ("then", "else", "default", "do", "on_error"):
        yield node.get(key)
    for key in ("cases", "branch"):
        ways = node.get(key)
        for way in ways.values() if isinstance(ways, Mapping) else ():
            yield way.get("do") if isinstance(way, Mapping) else way


def replanned(graph: str, before: Any, now: Any, planned: Iterable[Planned]) -> list[Planned]:
    """Return the plan with what the edit from one definition to the other means for each recorded node.

    A node whose own options were edited runs again if they come to something else; one that is gone is not asked for.
    Whether those behind an edited one are asked for with the same is only known when the graph runs.
    """
    old, new = nodes_of(before), nodes_of(now)
    return [_replanned(each, each.row.name.removeprefix(f"{graph}."), old, new) for each in planned]


def _replanned(planned: Planned, name: str, old: Mapping[str, NodeData], new: Mapping[str, NodeData]) -> Planned:
    node = new.get(name)
    if node is None:
        return replace(planned, action=Action.MISSING, reason=f"there is no node {name} in the graph any more")
    if planned.action is not Action.REUSE or name not in old:
        return planned
    changed = list(_changes(_asked(old[name]), _asked(node), ()))
    if not changed:
        return planned
    shown = ", ".join(dotted(path) for path in changed[:_SHOWN]) + (", ..." if len(changed) > _SHOWN else "")
    return replace(planned, action=Action.REDO, reason=f"edited: {shown}; runs again if that comes to something else")


def _asked(node: NodeData) -> dict[str, Any]:
    """Return what of a node decides on what it is asked to do: neither its order nor how it is tried again."""
    is_deciding = bool(_DECIDING & node.keys())
    inside = {"then", "else", "cases", "default", "do", "on_error"} if is_deciding else {"on_error"}
    left_out = (COMMON_KEYS - {"when"}) | inside | {"concurrency", "as"}
    asked = {key: value for key, value in node.items() if key not in left_out}
    if isinstance(asked.get("branch"), Mapping):
        asked["branch"] = {name: _without_do(way) for name, way in asked["branch"].items()}
    return asked


def _without_do(way: Any) -> Any:
    return {key: value for key, value in way.items() if key != "do"} if isinstance(way, Mapping) else way


def _changes(before: Any, now: Any, path: Path) -> Iterator[Path]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            if key not in before or key not in now:
                yield (*path, key)
            else:
                yield from _changes(before[key], now[key], (*path, key))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from _changes(one, other, (*path, number))
    elif type(before) is not type(now) or before != now:
        yield path
