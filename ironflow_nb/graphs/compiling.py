"""From data to a graph that can run: everything that can be wrong is found here, and told together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from ironflow_nb.core.retrying import NEVER, Retry
from ironflow_nb.graphs import schema
from ironflow_nb.graphs.definition import CONTINUE, Block, Definition, Node
from ironflow_nb.graphs.findings import Findings, Path, dotted
from ironflow_nb.graphs.grants import SCHEMA as GRANTS
from ironflow_nb.graphs.grants import Grants, Need
from ironflow_nb.graphs.keys import COMMON_KEYS, CONTROL_KEYS, LATER_KEYS, PYTHON, PYTHON_KEYS, RESERVED_NAMES
from ironflow_nb.graphs.kinds import Kind
from ironflow_nb.graphs.ordering import cycle_in, ended_before
from ironflow_nb.graphs.reading import Source
from ironflow_nb.graphs.tasks import TaskCompiler
from ironflow_nb.graphs.visible import Visible

CONCURRENCY: Final = 16
"""How many nodes of a graph run at once, unless it says otherwise."""

_DECIDING: Final = frozenset({"retry", "timeout_s", "once", "cache"})
_MEANINGLESS: Final = {
    **dict.fromkeys(("condition", "switch", "branch", "loop", "assert"), _DECIDING),
    "workflow": frozenset({"timeout_s", "cache"}),
}
"""What would say nothing on a node that only decides, or that another run stands for."""


def compile_graph(
    source: Source, kinds: Mapping[str, Kind], *, grants: Grants | None = None
) -> tuple[Definition, Findings]:
    """Return the graph with everything that is wrong with it; it can only run if nothing is.

    `grants` bound what its own ``allow`` says; None leaves that as it is.
    """
    compiler = _GraphCompiler(source, kinds, grants)
    return compiler.definition(), compiler.findings


def sound_grants(allow: Any, base: str | None) -> Grants:
    """Return what an ``allow`` grants: nothing where it is missing, or not what it is to be."""
    if allow is True:
        return Grants.of(None, base=base)
    is_sound = isinstance(allow, Mapping) and not list(schema.problems(GRANTS, allow, is_written=False))
    return Grants.of(allow if is_sound else {}, base=base)


class _GraphCompiler:
    """Compiles one graph."""

    def __init__(self, source: Source, kinds: Mapping[str, Kind], grants: Grants | None) -> None:
        self.findings = Findings(source.data, source.places, source.findings)
        self._data: Mapping[str, Any] = source.data if isinstance(source.data, Mapping) else {}
        self._kinds = kinds
        self._paths: dict[str, Path] = {}
        if not isinstance(source.data, Mapping):
            self.findings.add((), "a graph is a mapping with graph: and nodes:")
        self.grants = grants or sound_grants(self._data.get("allow"), source.base)
        self._secrets = self._data.get("secrets") if isinstance(self._data.get("secrets"), Mapping) else {}
        self._tasks = TaskCompiler(kinds, self.findings, self.grants, self.block)

    def definition(self) -> Definition:
        data = self._data
        self._check(("",), {"type": "object", "properties": dict(schema.TOP), "additionalProperties": False}, data)
        for key in ("graph", "nodes"):
            if self._data and key not in data:
                self.findings.add((), f"{key}: is missing")
        for name, source in (self._secrets or {}).items():
            if isinstance(source, Mapping) and isinstance(source.get("env"), str):
                self._require(("secrets", name), Need("env", source["env"]))
        visible = Visible(frozenset({"input", "env"}), secrets=frozenset(self._secrets or {}))
        block = self.block(data.get("nodes"), ("nodes",), visible)
        output = None
        if "output" in data:
            whole = visible.with_names(node.id for node in block.nodes).without_secrets("the output")
            output = self._tasks.template(data["output"], ("output",), whole)
        name, secrets = data.get("graph"), self._secrets or {}
        concurrency = data.get("concurrency", CONCURRENCY)
        return Definition(
            name=name if isinstance(name, str) else "",
            block=block,
            output=output,
            concurrency=concurrency if type(concurrency) is int else CONCURRENCY,
            secrets=secrets,
            data=data,
        )

    def _check(self, path: Path, part: Mapping[str, Any], data: Any) -> None:
        at = path if path != ("",) else ()
        for inner, message in schema.problems(part, data, is_written=True):
            self.findings.add((*at, *inner), message)

    def _require(self, path: Path, need: Need) -> None:
        refusal = self.grants.refusal(need)
        if refusal is not None:
            self.findings.add(path, refusal)

    # -- blocks --------------------------------------------------------------------------------------------------

    def block(self, data: Any, path: Path, visible: Visible) -> Block:
        """Compile a list of nodes, which see `visible`, and what of their own block comes before them."""
        if not isinstance(data, list):
            return Block(())  # the schema has told
        written = [(number, each) for number, each in enumerate(data) if self._is_node(each, (*path, number))]
        numbers: dict[str, int] = {}
        for place, (_, each) in enumerate(written):
            numbers.setdefault(each["id"], place)
        after = self._order([each for _, each in written], [(*path, number) for number, _ in written], numbers)
        before = ended_before(after)
        nodes: list[Node] = []
        for place, (number, each) in enumerate(written):
            inside = visible.with_nodes(before[place], numbers)
            nodes.append(self._node(each, (*path, number), after[place], inside))
        return Block(tuple(nodes))

    def _is_node(self, data: Any, path: Path) -> bool:
        if not isinstance(data, Mapping):
            self.findings.add(path, "a node is a mapping with id: and its kind")
            return False
        name = data.get("id")
        if not isinstance(name, str):
            self.findings.add(path, "id is missing" if name is None else "an id is a text")
            return False
        where = (*path, "id")
        if not name.isidentifier() or not name.isascii():
            better = "".join(each if each.isalnum() and each.isascii() else "_" for each in name) or "node"
            self.findings.add(
                where, f"an id has letters, digits and underscores only, not {name!r}; for instance {better}"
            )
        if name in RESERVED_NAMES:
            self.findings.add(where, f"{name!r} means something else in expressions; choose another id")
        if name in self._paths:
            first = self.findings.line_of(self._paths[name]) or f" by {dotted(self._paths[name][:-1])}"
            self.findings.add(where, f"the id {name!r} is taken{first}; ids are unique in the whole graph")
        else:
            self._paths[name] = where
        return True

    def _order(
        self, nodes: Sequence[Mapping[str, Any]], paths: Sequence[Path], places: Mapping[str, int]
    ) -> list[tuple[int, ...]]:
        """Return the numbers of the nodes that each node waits for."""
        after: list[tuple[int, ...]] = []
        for number, (node, path) in enumerate(zip(nodes, paths, strict=True)):
            wanted = node.get("depends_on")
            if not isinstance(wanted, list):
                after.append((number - 1,) if number else ())
                continue
            found = [self._place(name, places, (*path, "depends_on", at)) for at, name in enumerate(wanted)]
            after.append(tuple(sorted({place for place in found if place is not None})))
        circle = cycle_in(after)
        if circle:
            way = " -> ".join(nodes[number]["id"] for number in circle)
            self.findings.add((*paths[circle[0]], "depends_on"), f"the nodes wait for each other: {way}")
            return [tuple(each for each in waits if each < number) for number, waits in enumerate(after)]
        return after

    def _place(self, name: Any, places: Mapping[str, int], path: Path) -> int | None:
        if isinstance(name, str) and name in places:
            return places[name]
        near = get_close_matches(str(name), places, n=1)
        hint = f"; did you mean {near[0]}?" if near else f" (there are: {', '.join(list(places)[:10])})"
        self.findings.add(path, f"there is no node {name!r} in this list of nodes{hint}")
        return None

    # -- nodes ---------------------------------------------------------------------------------------------------

    def _node(self, data: Mapping[str, Any], path: Path, after: tuple[int, ...], visible: Visible) -> Node:
        name = self._kind_of(data, path)
        self._check_keys(data, path, name)
        task = self._tasks.task(name, data, path, visible)
        retry_options = data.get("retry") if isinstance(data.get("retry"), Mapping) else {}
        when = data.get("when")
        on_error = data.get("on_error")
        handler: Any = on_error if on_error == CONTINUE else None
        if isinstance(on_error, list):
            handler = self.block(on_error, (*path, "on_error"), visible.with_names({"error"}))
        return Node(
            id=data["id"],
            task=task,
            after=after,
            path=path,
            when=None if when is None else self._tasks.template(when, (*path, "when"), visible.without_secrets("when")),
            retry=self._retry(retry_options or {}, data, path),
            retry_options=retry_options or {},
            timeout_s=data["timeout_s"] if isinstance(data.get("timeout_s"), int | float) else None,
            on_error=handler,
            once=data.get("once") is True,
            cache=data.get("cache"),
            description=str(data.get("description", "")),
        )

    def _kind_of(self, data: Mapping[str, Any], path: Path) -> str | None:
        known = {*CONTROL_KEYS, PYTHON, *self._kinds}
        found = [key for key in data if key in known]
        if len(found) == 1:
            return str(found[0])
        if found:
            self.findings.add(path, f"a node is of one kind, and this one is {' and '.join(map(str, found))}")
            return None
        later = [key for key in data if key in LATER_KEYS]
        others = [str(key) for key in data if key not in COMMON_KEYS and key not in LATER_KEYS]
        if later:
            self.findings.add((*path, later[0]), f"{later[0]} is kept for a later version")
        elif others:
            near = get_close_matches(others[0], sorted(known), n=1)
            hint = f"; did you mean {near[0]}?" if near else f" (there are: {', '.join(sorted(known))})"
            self.findings.add((*path, others[0]), f"there is no kind of node {others[0]!r}{hint}")
        else:
            self.findings.add(path, f"the node says not what it does (there are: {', '.join(sorted(known))})")
        return None

    def _check_keys(self, data: Mapping[str, Any], path: Path, name: str | None) -> None:
        common = {key: value for key, value in data.items() if key in COMMON_KEYS and key != "id"}
        self._check(path, {"type": "object", "properties": dict(schema.COMMON)}, common)
        if name is None:
            return
        own = {name} | CONTROL_KEYS.get(name, frozenset()) | (PYTHON_KEYS if name == PYTHON else frozenset())
        for key in data:
            if key in COMMON_KEYS or key in own:
                continue
            if key in LATER_KEYS:
                self.findings.add((*path, key), f"{key} is kept for a later version")
                continue
            near = get_close_matches(str(key), sorted(COMMON_KEYS | own), n=1)
            hint = f"; did you mean {near[0]}?" if near else f" (there are: {', '.join(sorted(COMMON_KEYS | own))})"
            self.findings.add((*path, key), f"a {name} node has no {key!r}{hint}")
        for key in sorted(_MEANINGLESS.get(name, frozenset()) & data.keys()):
            self.findings.add((*path, key), f"{key} is for nodes that do work; a {name} node has none of its own")
        if name in schema.CONTROL:
            own_data = {key: data[key] for key in own if key in data}
            part = {"type": "object", "properties": schema.CONTROL[name], "required": schema.REQUIRED[name]}
            self._check(path, part, own_data)

    def _retry(self, options: Mapping[str, Any], data: Mapping[str, Any], path: Path) -> Retry:
        known = {
            key: options[key] for key in ("attempts", "delay_s", "factor", "max_delay_s", "jitter") if key in options
        }
        if not options:
            return NEVER
        try:
            retry = Retry(**known)
        except (TypeError, ValueError):
            return NEVER  # the schema has told
        if data.get("once") is True and retry.attempts > 1:
            self.findings.add((*path, "retry"), "a node with once: true is not tried again by itself")
        if data.get("once") is True and data.get("cache"):
            self.findings.add(
                (*path, "cache"), "cache takes the result of another run, and once is for what must happen"
            )
        return retry
