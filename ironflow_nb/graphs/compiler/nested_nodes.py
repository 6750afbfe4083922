"""Nodes in other lists: what those are told who look for them where they can't be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from ironflow_nb.graphs.compiler.positions import DataPath


class EnclosingNode(NamedTuple):
    """A node around another: what follows its id in an expression for what is inside; None if it tells nothing."""

    id: str
    after: str | None


class NestedNode(NamedTuple):
    """A node and where it is. The nodes around it come outermost first."""

    id: str
    path: DataPath
    around: tuple[EnclosingNode, ...] = ()

    def is_around(self, path: DataPath) -> bool:
        """Tell whether the path leads into it."""
        return path[: len(self.path)] == self.path

    def is_in_list_around(self, path: DataPath) -> bool:
        """Tell whether the path leads into a list inside of the one that it is in."""
        return path[: len(self.path) - 1] == self.path[:-1]

    def expression(self, sees: Callable[[str], bool]) -> str | None:
        """Return what gives its output from a place that sees so much; None if nothing does."""
        for number, around in enumerate(self.around):
            if sees(around.id):
                inside = self.around[number:]
                if any(each.after is None for each in inside):
                    return None
                return "".join(f"{each.id}{each.after}." for each in inside) + self.id
        return None


class NestedNodes:
    """All nodes of one graph as they are written; looked through when something is not found."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    def find(self, name: str) -> NestedNode | None:
        """Return where the node is; None if there is none of that id."""
        return self._by_id.get(name)

    @cached_property
    def _by_id(self) -> dict[str, NestedNode]:
        found: dict[str, NestedNode] = {}
        for inner in _inside(self._data.get("nodes"), ("nodes",), ()):
            found.setdefault(inner.id, inner)
        return found


def _inside(nodes: Any, path: DataPath, around: tuple[EnclosingNode, ...]) -> Iterator[NestedNode]:
    """Yield the nodes of a list, and of the lists in them."""
    for number, node in enumerate(nodes if isinstance(nodes, list) else ()):
        if not isinstance(node, Mapping) or not isinstance(node.get("id"), str):
            continue
        yield NestedNode(node["id"], (*path, number), around)
        for keys, inside, after in _lists(node):
            yield from _inside(inside, (*path, number, *keys), (*around, EnclosingNode(node["id"], after)))


def _lists(node: Mapping[str, Any]) -> Iterator[tuple[DataPath, Any, str | None]]:
    """Yield the lists of nodes in a node: the keys to each, the list, and what follows the node in an expression."""
    cases, branches = node.get("cases"), node.get("branch")
    for key, after in (("then", ""), ("else", ""), ("default", ""), ("do", "[]"), ("on_error", None)):
        yield (key,), node.get(key), after
    for name, nodes in cases.items() if isinstance(cases, Mapping) else ():
        yield ("cases", name), nodes, ""
    for name, branch in branches.items() if isinstance(branches, Mapping) else ():
        nodes = branch.get("do") if isinstance(branch, Mapping) else None
        yield ("branch", name, "do"), nodes, f".{name}" if name.isidentifier() else f'."{name}"'
