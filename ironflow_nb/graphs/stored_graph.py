"""What an edit of a graph means for what is recorded of a run: told by comparing both definitions, node by node.

What the journal keeps of the graph of a run: its text, the bounds that it ran in, and whether this user wrote it.
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
from ironflow_nb.graphs.grants import Grants
from ironflow_nb.graphs.kinds import COMMON_KEYS, CONTROL_KEYS

_BOUNDS: Final = "\n# The bounds of its runs: "
"""Begins the last line of a kept text: to YAML a comment, and signed with the text."""


class StoredGraph(msgspec.Struct, frozen=True):
    """What is kept of a graph. `grants` are what it may touch, where that is less than its text says.

    `foreign` is why it can be looked at and not run, if so.
    """

    source: GraphSource
    grants: Grants | None
    foreign: UntrustedRun | None


def text_to_store(text: str, grants: Grants, *, is_bounded: bool) -> str:
    """Return what is to be kept of a graph: its text, and the bounds that its runs have, if there are any.

    A text that ends in such a line itself gets another one: what its author wrote there bounds and grants nothing.
    """
    bounds = _bounds(grants, is_bounded=is_bounded)
    return text + (bounds or (f"{_BOUNDS}{{}}" if _BOUNDS in text else ""))


def stored_id(definition_id: Digest, grants: Grants, *, is_bounded: bool) -> Digest:
    """Return the identity of what is kept: of the definition and the bounds."""
    bounds = _bounds(grants, is_bounded=is_bounded)
    return digest_bytes(definition_id + bounds.encode()) if bounds else definition_id


def _bounds(grants: Grants, *, is_bounded: bool) -> str:
    """Return the folder that relative paths start from, if any may be touched, and grants that bound the text."""
    touches_files = any(grants.allowed.get(kind) for kind in ("files", "shell"))
    bounds: dict[str, Any] = {"base": str(Path(grants.base).resolve())} if touches_files else {}
    if is_bounded:
        bounds["allow"] = grants.with_whole_paths()
    return _BOUNDS + msgspec.json.encode(bounds, order="sorted").decode() if bounds else ""


def load_graph(engine: Engine, run: RunRow) -> StoredGraph:
    """Return what is kept of the graph of the run.

    Raises:
        FlowNotDefined: nothing is.
        JournalCorrupt: its bounds can't be read.
    """
    signer = engine.signer
    with engine.reading() as reader:
        stored = reader.definition(run.definition_id)
        is_own = stored is not None and is_own_definition(signer, reader, stored) and own_runs(signer, reader, [run])
    if stored is None or stored.kind != RunKind.GRAPH:
        raise FlowNotDefined(
            f"run {run.run_id} of {run.kind} {run.name} left no graph in {engine.journal.location}",
            run_id=run.run_id,
            name=run.name,
        )
    is_fine = is_own and stored.name == run.name
    foreign = None if is_fine else untrusted(run, engine.journal.location)
    text, sign, line = stored.source.rpartition(_BOUNDS)
    if not sign:  # of a version that kept no bounds, or one that has none
        return StoredGraph(parse_source(stored.source), None, foreign)
    try:
        bounds = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        what = f"the bounds that run {run.run_id} of {run.name} was begun with can't be read: {error}"
        raise JournalCorrupt(f"{what}; put the journal back from a copy", run_id=run.run_id) from error
    base, allow = bounds.get("base"), bounds.get("allow")
    return StoredGraph(parse_source(text, base), None if allow is None else Grants.of(allow, base=base), foreign)


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


def plan_after_edit(graph: str, before: Any, now: Any, planned: Iterable[Planned]) -> list[Planned]:
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
    shown = ", ".join(format_path(path) for path in changed[:_SHOWN]) + (", ..." if len(changed) > _SHOWN else "")
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


def _changes(before: Any, now: Any, path: DataPath) -> Iterator[DataPath]:
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
