"""What a report says about a run besides what happened: where it comes from, its source, and the environment."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from typing import Final

from ironflow_nb._version import __version__
from ironflow_nb.code_identity.code_parts import PartKind
from ironflow_nb.core.identity import RunId
from ironflow_nb.execution import Engine, parts_of
from ironflow_nb.journal.ports import Reader, Select

_OWN: Final = "ironflow_nb"
_WRITTEN: Final = frozenset({PartKind.FUNCTION, PartKind.METHOD, PartKind.CLASS})


def origin_run(reader: Reader, run_id: RunId) -> tuple[RunId, str] | None:
    """Return the run that this one goes on from, and that in words; None if there is none, or it is deleted."""
    [run] = reader.runs(Select(run_ids=[run_id]))
    found = [] if run.origin_run_id is None else reader.runs(Select(run_ids=[run.origin_run_id]))
    if not found:
        return None
    [origin] = found
    before = reader.events(Select(run_ids=[origin.run_id]))
    versions = [row.version for row in before if run.origin_position is None or row.position <= run.origin_position]
    moment = f", version {versions[-1]} of {len(before)}" if versions else ""
    return origin.run_id, f"origin: run {origin.run_id}, {origin.status.value}{moment}"


def installed_versions() -> list[tuple[str, str]]:
    """Return the versions of what makes the report: the journal does not keep those of the processes of the run."""
    own = sys.stdlib_module_names | {_OWN, "__main__"}
    names = sorted(name for name in list(sys.modules) if "." not in name and name[:1] != "_" and name not in own)
    # Without `getattr`, which may execute code of the module.
    told = {name: vars(module).get("__version__") for name in names if (module := sys.modules.get(name)) is not None}
    packages = {name: version for name, version in told.items() if isinstance(version, str)}
    return [
        (_OWN, __version__), ("python", platform.python_version()), ("platform", platform.platform()),
        *packages.items(),
    ]  # fmt: skip


def sources(engine: Engine, run_id: RunId) -> Iterator[str]:
    """Yield the recorded source of the run's definition, then of its steps with the functions that they call.

    Constants are left out: their values may be secrets.
    """
    with engine.reading() as reader:
        [run] = reader.runs(Select(run_ids=[run_id]))
        definition = reader.definition(run.definition_id)
        codes = dict.fromkeys(row.code for row in reader.steps(Select(run_ids=[run_id])) if row.code)
        parts = [part for code in codes for part in parts_of(reader.definition, code)]
    if definition is not None and definition.source:
        yield definition.source
    written = (part.source for part in parts if part.kind in _WRITTEN and part.source)
    yield from dict.fromkeys(written)
