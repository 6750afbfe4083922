"""Name scopes: which nodes and other names an expression can use, and the messages for names out of scope."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final, NamedTuple

import msgspec

from ironflow_nb.graphs.compiler.compiler_findings import DataPath
from ironflow_nb.graphs.compiler.graph_input import INPUT
from ironflow_nb.graphs.grants import Grants, Need
from ironflow_nb.graphs.kinds import Kind
from ironflow_nb.graphs.language.data import closest, field_text
from ironflow_nb.graphs.language.expression import WHOLE_CONTEXT, Expression
from ironflow_nb.graphs.language.templates import compile_template, expressions_of

SECRETS = "secrets"
ENVIRONMENT = "env"

MOST_SHOWN: Final = 12
"""Messages list at most this many names."""

_ELSEWHERE: Final = {
    "error": "it exists inside on_error",
    "item": "it is the item of a loop without as:, inside its do:",
    "index": "it is the number of the item or round, inside the do: of a loop",
    **{word: f"write the value in backquotes: `{word}`" for word in ("null", "true", "false")},
}


class NameScope(msgspec.Struct, frozen=True):
    """The names that are visible at one place of a graph.

    `names` are always visible. `blocks` are the enclosing blocks, innermost last. Each has a bit mask of the nodes that
    have ended, and the numbers of its nodes by id. A mask costs less than a set of ids in a long chain.
    `secrets` are those that the graph declares. `no_secrets_in` names a place that can't use them, else it is empty.
    """

    names: frozenset[str]
    blocks: tuple[tuple[int, Mapping[str, int]], ...] = ()
    secrets: frozenset[str] = frozenset()
    no_secrets_in: str = ""
    hidden: Mapping[str, str] = {}
    """Environment variables that secrets are read from, with the names of the secrets."""
    inputs: frozenset[str] | None = None
    """The declared inputs; None without a declaration."""

    def with_names(self, names: Iterable[str]) -> NameScope:
        """Return the scope with more names."""
        return msgspec.structs.replace(self, names=self.names | frozenset(names))

    def with_nodes(self, mask: int, numbers: Mapping[str, int]) -> NameScope:
        """Return the scope of a node in a nested block; `mask` has the nodes of that block that ended before it."""
        return msgspec.structs.replace(self, blocks=(*self.blocks, (mask, numbers)))

    def without_secrets(self, place: str) -> NameScope:
        """Return the scope without secrets; `place` names it in messages."""
        return msgspec.structs.replace(self, no_secrets_in=place)

    def only(self, names: Iterable[str]) -> NameScope:
        """Return a scope of only these names, without secrets."""
        return NameScope(frozenset(names), (), self.secrets, "an expression for each item")

    def sees(self, name: str) -> bool:
        """Return True if the name is visible."""
        return name in self.names or any(
            name in numbers and bool(mask >> numbers[name] & 1) for mask, numbers in self.blocks
        )

    def _visible_names(self) -> list[str]:
        inside = [name for _, numbers in self.blocks for name in numbers if self.sees(name)]
        return [*sorted(self.names), *inside]

    def scope_errors(
        self, expression: Expression, grants: Grants, nodes: NestedNodes, path: DataPath
    ) -> Iterator[tuple[str, str]]:
        """Yield the names of the expression that it can't use, each with a message."""
        for name in sorted(expression.names):
            if name not in {WHOLE_CONTEXT, SECRETS} and not self.sees(name):
                yield name, self._invisible_message(name, nodes, path)
        if WHOLE_CONTEXT in expression.names:
            yield WHOLE_CONTEXT, "@ would be the whole context; use the name of what is needed"
        if SECRETS in expression.names:
            yield from self._secret_errors(expression)
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
                refusal = self._variable_refusal(field, grants)
                if refusal is not None:
                    yield name, refusal

    def _variable_refusal(self, variable: str, grants: Grants) -> str | None:
        if variable in self.hidden:
            secret = self.hidden[variable]
            return f"env.{variable} is the source of a secret, and would be recorded; write secrets.{secret}"
        return grants.refusal(Need("env", variable))

    def _secret_errors(self, expression: Expression) -> Iterator[tuple[str, str]]:
        if self.no_secrets_in:
            yield SECRETS, f"{self.no_secrets_in} can't use secrets; they are for the options of nodes that do work"
            return
        named = {field for name, field in expression.fields if name == SECRETS}
        if not named:
            yield SECRETS, "name the secret: secrets.NAME"
        known = ", ".join(sorted(self.secrets)) or "none"
        for name in sorted(named - self.secrets):
            where = f"declare its source: secrets: {{{name}: {{env: ...}}}}"
            yield SECRETS, f"the graph has no secret {name!r} (it has: {known}); {where}"

    def _invisible_message(self, name: str, nodes: NestedNodes, path: DataPath) -> str:
        other = nodes.find(name)
        if any(name in numbers for _, numbers in self.blocks):
            return f"{name} {self._not_ended_message(name, other, path)}"
        if other is not None and other.enclosing:
            expression = other.expression(self.sees)
            instead = "" if expression is None else f"; write {expression}"
            return f"{name} is inside {other.enclosing[-1].id} and not visible here{instead}"
        if name in _ELSEWHERE:
            return f"there is no {name!r} here: {_ELSEWHERE[name]}"
        seen = self._visible_names()
        known = (each for _, numbers in self.blocks for each in numbers)
        dashed = next((each for each in known if name in each.split("-")), None)
        if dashed is not None:
            return f'there is no {name!r} here; a name with dashes stands in quotes: "{dashed}"'
        meant = closest(name, seen)
        shown = ", ".join(seen[:MOST_SHOWN])
        return f"there is no {name!r} here" + (f"; did you mean {meant}?" if meant else f" (there are: {shown})")

    def _not_ended_message(self, name: str, node: NestedNode | None, path: DataPath) -> str:
        _, own = self.blocks[-1]
        if node is not None and node.encloses(path):
            if name in own:
                return "is this node itself"
            is_handled = path[len(node.path) : len(node.path) + 1] == ("on_error",)
            return "has failed here; use error" if is_handled else "contains this node and ends after it"
        waiting = "add it to depends_on" if name in own else "make the node that contains this one depend on it"
        return f"may not have ended by then; {waiting}"


class EnclosingNode(NamedTuple):
    """A node that contains another one. `after` follows its id in an expression; None if there is no way in."""

    id: str
    after: str | None


class NestedNode(NamedTuple):
    """A node with its path and the nodes that contain it, outermost first."""

    id: str
    path: DataPath
    enclosing: tuple[EnclosingNode, ...] = ()

    def encloses(self, path: DataPath) -> bool:
        """Return True if the path leads into this node."""
        return path[: len(self.path)] == self.path

    def is_in_outer_list_of(self, path: DataPath) -> bool:
        """Return True if the path leads into the list of this node, or a nested one."""
        return path[: len(self.path) - 1] == self.path[:-1]

    def expression(self, sees: Callable[[str], bool]) -> str | None:
        """Return the expression of its output where `sees` is true for visible names; None if there is none."""
        for number, outer in enumerate(self.enclosing):
            if sees(outer.id):
                inside = self.enclosing[number:]
                if any(each.after is None for each in inside):
                    return None
                return "".join(f"{field_text(each.id)}{each.after}." for each in inside) + field_text(self.id)
        return None


class NestedNodes:
    """All nodes of a graph's data by id, for messages; the index is made when it is first needed."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    def find(self, name: str) -> NestedNode | None:
        """Return the node of that id, or None."""
        return self._by_id.get(name)

    @cached_property
    def _by_id(self) -> dict[str, NestedNode]:
        found: dict[str, NestedNode] = {}
        for inner in _nested_nodes(self._data.get("nodes"), ("nodes",), ()):
            found.setdefault(inner.id, inner)
        return found


def _nested_nodes(nodes: Any, path: DataPath, enclosing: tuple[EnclosingNode, ...]) -> Iterator[NestedNode]:
    """Yield the nodes of a list and, after each, those inside it."""
    for number, node in enumerate(nodes if isinstance(nodes, list) else ()):
        if not isinstance(node, Mapping) or not isinstance(node.get("id"), str):
            continue
        yield NestedNode(node["id"], (*path, number), enclosing)
        for keys, inside, after in node_lists(node):
            yield from _nested_nodes(inside, (*path, number, *keys), (*enclosing, EnclosingNode(node["id"], after)))


def node_lists(node: Mapping[str, Any]) -> Iterator[tuple[DataPath, Any, str | None]]:
    """Yield the node lists inside a node: keys, list, and what follows the node's id in an expression of the output."""
    branches = node.get("branch")
    for key, after in (("then", ""), ("else", ""), ("default", ""), ("do", "[]"), ("on_error", None)):
        yield (key,), node.get(key), after
    for keys, nodes, _ in case_lists(node.get("cases")):
        yield ("cases", *keys), nodes, ""
    for name, branch in branches.items() if isinstance(branches, Mapping) else ():
        keys = ("branch", name, "do") if isinstance(branch, Mapping) else ("branch", name)
        yield keys, branch.get("do") if isinstance(branch, Mapping) else branch, f".{field_text(name)}"


def case_lists(cases: Any) -> Iterator[tuple[DataPath, Any, tuple[Any, ...]]]:
    """Yield the list of nodes of each case of a switch: its keys, the list, and the values that choose it."""
    for name, nodes in cases.items() if isinstance(cases, Mapping) else ():
        yield (name,), nodes, (str(name),)
    for number, each in enumerate(cases if isinstance(cases, list) else ()):
        if isinstance(each, Mapping):
            values = each.get("is")
            yield (number, "do"), each.get("do"), tuple(values) if isinstance(values, list) else (values,)


_NESTED: Final = frozenset({"then", "else", "default", "do", "on_error", "cases", "branch"})


def names_read(node: Mapping[str, Any], kinds: Mapping[str, Kind]) -> Iterator[str]:
    """Yield the names that the expressions of a node use, and of the nodes inside it."""
    for key, value in node.items():
        if key == "compensate" and isinstance(value, Mapping):
            yield from names_read(value, kinds)
        elif key in kinds and isinstance(options := kinds[key].options_of(value), Mapping):
            verbatim = kinds[key].verbatim
            yield from _names_in({name: each for name, each in options.items() if name not in verbatim})
        elif key not in _NESTED:
            yield from _names_in(value)
    branches = node.get("branch")
    for branch in branches.values() if isinstance(branches, Mapping) else ():
        yield from _names_in(branch.get("when") if isinstance(branch, Mapping) else None)
    for _, nodes, _ in node_lists(node):
        for each in nodes if isinstance(nodes, list) else ():
            if isinstance(each, Mapping):
                yield from names_read(each, kinds)


def _names_in(value: Any) -> Iterator[str]:
    match value:
        case str():
            for expression in expressions_of(compile_template(value, lambda _path, _error: None)):
                yield from expression.names
        case Mapping():
            for each in value.values():
                yield from _names_in(each)
        case list():
            for each in value:
                yield from _names_in(each)
