"""What the expressions of a node can see, and what is said of those that look further."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final, NamedTuple

import msgspec

from ironflow_nb.graphs.compiler.compiler_findings import DataPath
from ironflow_nb.graphs.compiler.graph_input import INPUT
from ironflow_nb.graphs.grants import Grants, Need
from ironflow_nb.graphs.language.data import closest
from ironflow_nb.graphs.language.expression import WHOLE_CONTEXT, Expression

SECRETS = "secrets"
ENVIRONMENT = "env"

MOST_SHOWN: Final = 12
"""More names than that are not listed in a message."""

_ELSEWHERE: Final = {
    "error": "it is what on_error handles, inside of that",
    "item": "it is the item of a loop without as:, inside of its do:",
    "index": "it is the number of the item or round, inside of the do: of a loop",
    **{word: f"as a value it stands in backquotes: `{word}`" for word in ("null", "true", "false")},
}


class NameScope(msgspec.Struct, frozen=True):
    """What can be seen from a place in a graph.

    `names` are there for all; of each of the `blocks` around the place those nodes that have ended by then: a mask over
    the numbers of its nodes, which are there by id. So a place in a long chain costs a number, and no set of all that
    went before. `secrets` are those that the graph has; `place` says in words where none may be used, and is empty
    where they may.
    """

    names: frozenset[str]
    blocks: tuple[tuple[int, Mapping[str, int]], ...] = ()
    secrets: frozenset[str] = frozenset()
    place: str = ""
    hidden: Mapping[str, str] = {}
    """Variables of the environment that secrets come from, with the names of those."""
    inputs: frozenset[str] | None = None
    """The inputs that the graph declares, if it does."""

    def with_names(self, names: Iterable[str]) -> NameScope:
        """Return the same place with more to see."""
        return msgspec.structs.replace(self, names=self.names | frozenset(names))

    def with_nodes(self, mask: int, numbers: Mapping[str, int]) -> NameScope:
        """Return a place in a block inside of this one, before which those nodes of it have ended."""
        return msgspec.structs.replace(self, blocks=(*self.blocks, (mask, numbers)))

    def without_secrets(self, place: str) -> NameScope:
        """Return the same place where no secret may be used."""
        return msgspec.structs.replace(self, place=place)

    def only(self, names: Iterable[str]) -> NameScope:
        """Return a place where nothing but these names can be seen."""
        return NameScope(frozenset(names), (), self.secrets, "an expression for each item")

    def sees(self, name: str) -> bool:
        """Tell whether the name can be seen."""
        return name in self.names or any(
            name in numbers and bool(mask >> numbers[name] & 1) for mask, numbers in self.blocks
        )

    def _all(self) -> list[str]:
        inside = [name for _, numbers in self.blocks for name in numbers if self.sees(name)]
        return [*sorted(self.names), *inside]

    def objections(
        self, expression: Expression, grants: Grants, nodes: NestedNodes, path: DataPath
    ) -> Iterator[tuple[str, str]]:
        """Yield the names in the expression that can't be looked at, each with the reason."""
        for name in sorted(expression.names):
            if not self._is_fine(name):
                yield name, self._unseen(name, nodes, path)
        if WHOLE_CONTEXT in expression.names:
            yield WHOLE_CONTEXT, "@ is all that can be seen from here; name what of it is needed"
        if SECRETS in expression.names:
            yield from self._secret(expression)
        for name, field in sorted(expression.fields):
            if name == INPUT and self.inputs is not None and field not in self.inputs:
                meant = closest(field, self.inputs)
                known = (
                    f"; did you mean {meant}?"
                    if meant
                    else f" (it declares: {', '.join(sorted(self.inputs)) or 'none'})"
                )
                yield name, f"the graph declares no input {field!r}{known}"
            if name == ENVIRONMENT and ENVIRONMENT in self.names:
                refusal = self._refusal(field, grants)
                if refusal is not None:
                    yield name, refusal

    def _refusal(self, variable: str, grants: Grants) -> str | None:
        if variable in self.hidden:
            secret = self.hidden[variable]
            return f"env.{variable} is where a secret comes from, and would be recorded; write secrets.{secret}"
        return grants.refusal(Need("env", variable))

    def _is_fine(self, name: str) -> bool:
        return name in {WHOLE_CONTEXT, SECRETS} or self.sees(name)

    def _secret(self, expression: Expression) -> Iterator[tuple[str, str]]:
        if self.place:
            yield SECRETS, f"{self.place} can't use secrets; they are for the options of nodes that do work"
            return
        named = {field for name, field in expression.fields if name == SECRETS}
        if not named:
            yield SECRETS, "a secret is named: secrets.NAME"
        known = ", ".join(sorted(self.secrets)) or "none"
        for name in sorted(named - self.secrets):
            where = f"say where it is: secrets: {{{name}: {{env: ...}}}}"
            yield SECRETS, f"the graph has no secret {name!r} (it has: {known}); {where}"

    def _unseen(self, name: str, nodes: NestedNodes, path: DataPath) -> str:
        other = nodes.find(name)
        if any(name in numbers for _, numbers in self.blocks):
            return f"{name} {self._why_unended(name, other, path)}"
        if other is not None and other.around:
            expression = other.expression(self.sees)
            instead = "" if expression is None else f"; it is known as {expression}"
            return f"{name} is inside of {other.around[-1].id}, and can't be seen from here{instead}"
        if name in _ELSEWHERE:
            return f"there is no {name!r} here: {_ELSEWHERE[name]}"
        seen = self._all()
        meant = closest(name, seen)
        shown = ", ".join(seen[:MOST_SHOWN])
        return f"there is no {name!r} here" + (f"; did you mean {meant}?" if meant else f" (there are: {shown})")

    def _why_unended(self, name: str, node: NestedNode | None, path: DataPath) -> str:
        _, own = self.blocks[-1]
        if node is not None and node.is_around(path):
            if name in own:
                return "is this node itself"
            is_handled = path[len(node.path) : len(node.path) + 1] == ("on_error",)
            return "has failed here; error tells how" if is_handled else "is around this node, and ends after it"
        waiting = "add it to depends_on" if name in own else "let the node around this one wait for it"
        return f"need not have ended by then; {waiting}"


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
