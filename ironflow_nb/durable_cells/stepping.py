"""Durable cells outside of a notebook: a piece of source with a name."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.durable_cells.cell import Cell, CellOptions
from ironflow_nb.durable_cells.outputs import NoStage
from ironflow_nb.durable_cells.place import place_of
from ironflow_nb.durable_cells.running import run_cell
from ironflow_nb.errors import DefinitionError
from ironflow_nb.execution.home import HOME


def cell_step(
    name: str,
    source: str,
    namespace: dict[str, Any] | None = None,
    *,
    ins: Iterable[str] | None = None,
    outs: Iterable[str] | None = None,
    retries: int | None = 0,
    timeout_s: Duration | None = None,
    cache: bool | Duration | None = None,
) -> dict[str, Any]:
    """Execute the source as a durable cell, or restore what it left behind; return that by name.

    This is what ``%%step NAME`` does with a cell. It prints nothing of its own, and what the source prints is not
    printed again when it is restored.

    Args:
        name: under which its executions are recorded.
        source: Python, which may await; it is executed with the names of `namespace`.
        namespace: the variables it reads, and where it leaves its own; by default a new one.
        ins: the names that it takes in; by default the data that it reads before it assigns it.
        outs: the names that it leaves behind; by default what it assigns or changes in place, but for `_names`.
        retries: how often it is tried again when it fails.
        timeout_s: how long an attempt may take; in the main thread, and elsewhere for what it awaits.
        cache: its results are shared by all cells of that name and code on the journal, see `step`.

    Raises:
        DefinitionError: it can't be a durable cell, or an input is not there.
        NotAllowedInStep: it was called inside a flow or step.
        TimeoutError: it took too long.
    """
    __tracebackhide__ = True
    if isinstance(ins, str) or isinstance(outs, str):
        raise DefinitionError("ins and outs are lists of names, not one text; write [...] around it")
    options = CellOptions(
        ins=None if ins is None else tuple(ins),
        outs=None if outs is None else tuple(outs),
        retries=0 if retries is None else retries,
        timeout_s=None if timeout_s is None else seconds(timeout_s),
        cache=cache,
    )
    file = f"<cell {name} {blake2b(source.encode(), digest_size=6).hexdigest()}>"
    space = {"__name__": "__main__"} if namespace is None else namespace
    place = place_of(HOME.engine(), space, NoStage())
    return run_cell(Cell(name, source, source, options, file), place).outs
