"""Stored graphs: what the journal stores of the graph of a run, and what an edit since then changes in its plan.

The journal stores the text of a graph and the bounds of its runs: the folder of relative paths, and grants that are
narrower than those of the text. Both are signed together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ironflow_nb.core.identity import Digest, digest_bytes
from ironflow_nb.core.plan import Action, Planned
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import RunKind
from ironflow_nb.errors import FlowNotDefined, JournalCorrupt, UntrustedRun
from ironflow_nb.execution import Engine, is_own_definition, own_runs, untrusted
from ironflow_nb.graphs.compiler.compiler_findings import DataPath, format_path
from ironflow_nb.graphs.compiler.graph_source import GraphSource, parse_source
from ironflow_nb.graphs.compiler.name_scope import node_lists
from ironflow_nb.graphs.grants import Grants
from ironflow_nb.graphs.kinds import COMMON_KEYS, CONTROL_KEYS

_BOUNDS: Final = "\n# The bounds of its runs: "
"""Starts the last line of a stored text; a comment in YAML."""


class StoredGraph(msgspec.Struct, frozen=True):
    """A graph from the journal. `grants` are the bounds of its runs, None if only its text bounds them.

    `foreign` is the error of running it, for a graph that another user wrote; it can be shown.
    """

    source: GraphSource
    grants: Grants | None
    foreign: UntrustedRun | None


def text_to_store(text: str, grants: Grants, *, is_bounded: bool) -> str:
    """Return the text to store for a graph: its own text, and a last line with the bounds of its runs if it has any.

    A text that has such a line itself gets an empty one after it, so that a line of its author is never read as bounds.
    """
    bounds = _bounds(grants, is_bounded=is_bounded)
    return text + (bounds or (f"{_BOUNDS}{{}}" if _BOUNDS in text else ""))


def stored_id(definition_id: Digest, grants: Grants, *, is_bounded: bool) -> Digest:
    """Return the identity of definition and bounds together."""
    bounds = _bounds(grants, is_bounded=is_bounded)
    return digest_bytes(definition_id + bounds.encode()) if bounds else definition_id


def _bounds(grants: Grants, *, is_bounded: bool) -> str:
    """Return the line of bounds: the base folder if files are granted, and the grants if they bound the text."""
    uses_files = any(grants.allowed.get(kind) for kind in ("files", "shell"))
    bounds: dict[str, Any] = {"base": str(Path(grants.base).resolve())} if uses_files else {}
    if is_bounded:
        bounds["allow"] = grants.with_absolute_paths()
    return _BOUNDS + msgspec.json.encode(bounds, order="sorted").decode() if bounds else ""


def load_graph(engine: Engine, run: RunRow) -> StoredGraph:
    """Return the stored graph of a run.

    Raises:
        FlowNotDefined: the run has none.
        JournalCorrupt: its bounds can't be read.
    """
    signer = engine.signer
    with engine.reading() as reader:
        stored = reader.definition(run.definition_id)
        is_own = stored is not None and is_own_definition(signer, reader, stored) and own_runs(signer, reader, [run])
    if stored is None or stored.kind != RunKind.GRAPH:
        raise FlowNotDefined(
            f"run {run.run_id} of {run.kind} {run.name} has no graph in {engine.journal.location}",
            run_id=run.run_id,
            name=run.name,
        )
    is_trusted = is_own and stored.name == run.name
    foreign = None if is_trusted else untrusted(run, engine.journal.location)
    text, marker, line = stored.source.rpartition(_BOUNDS)
    if not marker:  # a graph without bounds, or stored by a version without them
        return StoredGraph(parse_source(stored.source), None, foreign)
    try:
        bounds = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        message = f"the bounds of run {run.run_id} of {run.name} can't be read ({error}); restore a copy of the journal"
        raise JournalCorrupt(message, run_id=run.run_id) from error
    base, allow = bounds.get("base"), bounds.get("allow")
    return StoredGraph(parse_source(text, base), None if allow is None else Grants.of(allow, base=base), foreign)


_MOST_SHOWN: Final = 3

NodeData = Mapping[str, Any]

_BLOCK_KINDS: Final = frozenset(CONTROL_KEYS) - {"workflow", "assert"}


def _nodes_by_id(data: Any) -> dict[str, NodeData]:
    """Return all nodes of a definition by id, nested ones too."""
    return dict(_all_nodes(data.get("nodes") if isinstance(data, Mapping) else None))


def _all_nodes(nodes: Any) -> Iterator[tuple[str, NodeData]]:
    for node in nodes if isinstance(nodes, list) else ():
        if isinstance(node, Mapping) and isinstance(node.get("id"), str):
            yield node["id"], node
            for _, inner, _ in node_lists(node):
                yield from _all_nodes(inner)


def plan_after_edit(graph: str, before: Any, now: Any, planned: Iterable[Planned]) -> list[Planned]:
    """Return the plan adapted to the edit of a definition from `before` to `now`.

    A node with edited options may run again: only the values of its options decide. A removed node is not used. Whether
    the nodes after an edited one get the same values is not known before the graph runs.
    """
    old, new = _nodes_by_id(before), _nodes_by_id(now)
    return [_planned_after_edit(each, each.row.name.removeprefix(f"{graph}."), old, new) for each in planned]


def _planned_after_edit(
    planned: Planned, name: str, old: Mapping[str, NodeData], new: Mapping[str, NodeData]
) -> Planned:
    node = new.get(name)
    if node is None:
        return replace(planned, action=Action.MISSING, reason=f"the graph has no node {name} any more")
    if planned.action is not Action.REUSE or name not in old:
        return planned
    changed = list(_changed_paths(_work_keys(old[name]), _work_keys(node), ()))
    if not changed:
        return planned
    shown = [format_path(path) for path in changed[:_MOST_SHOWN]] + ["..."] * (len(changed) > _MOST_SHOWN)
    reason = f"edited: {', '.join(shown)}; runs again if its values change"
    return replace(planned, action=Action.REDO, reason=reason)


def _work_keys(node: NodeData) -> dict[str, Any]:
    """Return the keys of a node that decide what it does; without nested nodes, order, retries and descriptions."""
    has_blocks = bool(_BLOCK_KINDS & node.keys())
    nested = {"then", "else", "cases", "default", "do", "on_error"} if has_blocks else {"on_error"}
    ignored = (COMMON_KEYS - {"when"}) | nested | {"concurrency", "as"}
    keys = {key: value for key, value in node.items() if key not in ignored}
    if isinstance(keys.get("branch"), Mapping):
        keys["branch"] = {name: _without_do(branch) for name, branch in keys["branch"].items()}
    return keys


def _without_do(branch: Any) -> Any:
    return {key: value for key, value in branch.items() if key != "do"} if isinstance(branch, Mapping) else None


def _changed_paths(before: Any, now: Any, path: DataPath) -> Iterator[DataPath]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            if key not in before or key not in now:
                yield (*path, key)
            else:
                yield from _changed_paths(before[key], now[key], (*path, key))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from _changed_paths(one, other, (*path, number))
    elif type(before) is not type(now) or before != now:
        yield path
