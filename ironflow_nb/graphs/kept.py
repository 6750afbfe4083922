"""What the journal keeps of the graph of a run: its text, the bounds that it ran in, and whether this user wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from ironflow_nb.core.identity import digest_bytes
from ironflow_nb.core.ids import Digest
from ironflow_nb.core.rows import RunRow
from ironflow_nb.errors import FlowNotDefined, JournalCorrupt, UntrustedRun
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.signatures import is_own_definition, own_runs, untrusted
from ironflow_nb.graphs.formats.reading import Source, source_of
from ironflow_nb.graphs.grants import Grants

_BOUNDS: Final = "\n# The bounds of its runs: "
"""Begins the last line of a kept text: to YAML a comment, and signed with the text."""


class Kept(msgspec.Struct, frozen=True):
    """What is kept of a graph. `grants` are what it may touch, where that is less than its text says.

    `foreign` is why it can be looked at and not run, if so.
    """

    source: Source
    grants: Grants | None
    foreign: UntrustedRun | None


def kept_text(text: str, grants: Grants, *, is_bounded: bool) -> str:
    """Return what is to be kept of a graph: its text, and the bounds that its runs have, if there are any.

    A text that ends in such a line itself gets another one: what its author wrote there bounds and grants nothing.
    """
    bounds = _bounds(grants, is_bounded=is_bounded)
    return text + (bounds or (f"{_BOUNDS}{{}}" if _BOUNDS in text else ""))


def kept_id(definition_id: Digest, grants: Grants, *, is_bounded: bool) -> Digest:
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


def kept_graph(engine: Engine, run: RunRow) -> Kept:
    """Return what is kept of the graph of the run.

    Raises:
        FlowNotDefined: nothing is.
        JournalCorrupt: its bounds can't be read.
    """
    signer = engine.ledger.signer
    with engine.reading() as reader:
        stored = reader.definition(run.definition_id)
        is_own = stored is not None and is_own_definition(signer, reader, stored) and own_runs(signer, reader, [run])
    if stored is None or stored.kind != "graph":
        raise FlowNotDefined(
            f"run {run.run_id} of {run.kind} {run.name} left no graph in {engine.ledger.journal.location}",
            run_id=run.run_id,
            name=run.name,
        )
    is_fine = is_own and stored.name == run.name
    foreign = None if is_fine else untrusted(run, engine.ledger.journal.location)
    text, sign, line = stored.source.rpartition(_BOUNDS)
    if not sign:  # of a version that kept no bounds, or one that has none
        return Kept(source_of(stored.source), None, foreign)
    try:
        bounds = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        what = f"the bounds that run {run.run_id} of {run.name} was begun with can't be read: {error}"
        raise JournalCorrupt(f"{what}; put the journal back from a copy", run_id=run.run_id) from error
    base, allow = bounds.get("base"), bounds.get("allow")
    return Kept(source_of(text, base), None if allow is None else Grants.of(allow, base=base), foreign)
