"""Runs that go from one journal to another, as one file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.option_values import a_path
from ironflow_nb.execution import REGISTRY, Engine, make_engine, watch
from ironflow_nb.handles.json_folder import write_run_folder
from ironflow_nb.handles.run import Run
from ironflow_nb.handles.trust import trust
from ironflow_nb.history.lookup import resolve_run
from ironflow_nb.journal.ports import Select
from ironflow_nb.retention.exported_run import Rows, export_run, rows_of_run, rows_of_runs
from ironflow_nb.retention.imported_run import ExportedRun, add_exported, import_run
from ironflow_nb.retention.run_outlines import DELETABLE

if TYPE_CHECKING:
    import pandas as pd

Place: TypeAlias = str | os.PathLike[str] | Engine


def export(run: Run[Any] | str, path: str | os.PathLike[str], *, engine: Engine | None = None) -> Path:
    """Write a run, as it is at this moment, into one file; return where it is.

    The file has all that the run consists of: its children, its history, its values and value files, what it waits for,
    the code and the diagram of its flow. `import_` adds it to another journal, where it can be looked at, and goes on
    from where it was. The run itself stays as it is; let only one of both go on.

    Args:
        run: a run of a flow or graph, or its id.
        path: of the file; nothing may be there yet.
        engine: the journal of the run, if it is given by its id; by default the current one.

    Raises:
        JournalError: something is there already, or the file can't be written.
        RunNotFound, AmbiguousRun: no run or several have that id.
        ValueError: it is a child, which goes with its parent, or no run of a flow or graph.
    """
    source, run_id = _found(run, engine)
    target = Path(a_path(path)).expanduser().absolute()
    export_run(source, run_id, target)
    return target


def export_folder(
    run: Run[Any] | str | pd.DataFrame | Iterable[Run[Any] | str],
    folder: str | os.PathLike[str],
    *,
    engine: Engine | None = None,
) -> Path:
    """Write runs as JSON into a folder, a file ``RUN_ID.json`` for each, for other programs; return where it is.

    A file has id, flow_name, status (``success``, ``failed``, ``cancelled``, ``stalled``: interrupted, ``pending``,
    ``running``), started and finished, ctx (the arguments by name, and ``result``), and tasks: of each step its name,
    status, attempt, input, output, error and times, as they were in its last attempt. What is no JSON becomes the
    nearest to it: frames are lists of rows. Code, earlier attempts, and what identifies a step are not there, so no
    journal takes them in: `export` is for that. A file of the same run is replaced.

    Args:
        run: a run of a flow or graph, or its id; or several, or a frame of `runs`, of which runs of other kinds stay.
        folder: made if it is not there.
        engine: the journal of the run, if it is given by its id; by default the current one.

    Raises:
        RunNotFound, AmbiguousRun: no run or several have that id.
        JournalError: a file can't be written.
    """
    target = Path(a_path(folder)).expanduser().absolute()
    chosen: Any = [run] if isinstance(run, Run | str) else run
    if hasattr(chosen, "columns"):
        chosen = chosen.loc[chosen["kind"].isin(DELETABLE), "run_id"].to_list()
    for each in chosen:
        write_run_folder(*_found(each, engine), target)
    return target


@overload
def copy(  # type: ignore[overload-overlap] # a text is a run, though it is several texts as well
    run: Run[Any] | str, to: Place, *, engine: Engine | None = None
) -> Run[Any]: ...
@overload
def copy(
    run: pd.DataFrame | Iterable[Run[Any] | str], to: Place, *, engine: Engine | None = None
) -> list[Run[Any]]: ...
def copy(run: Any, to: Place, *, engine: Engine | None = None) -> Run[Any] | list[Run[Any]]:
    """Copy a run or many, as they are at this moment, into another journal, and return them there.

    It is what `export` and `import_` do, without a file. The runs themselves stay as they are; let only one of both go
    on. ``iron.copy(iron.runs(), to)`` copies all runs of flows and graphs: of many, those that are there already are
    left out, so an interrupted copy is completed by the same call. Each run is copied in a transaction of its own.

    Args:
        run: a run of a flow or graph, or its id; or several, or a frame of `runs`. Of a frame, children go with their
            parents, and runs of deciders and of durable cells stay.
        to: the other journal: an engine, the path of its file, or the URL of its server.
        engine: the journal of the run, if it is given by its id; by default the current one.

    Raises:
        RunNotFound, AmbiguousRun: no run or several have that id.
        JournalConflict: the run is in the other journal already, was deleted there, or another one has its key.
        ValueError: it is a child, which goes with its parent, or no run of a flow or graph.
    """
    target = to if isinstance(to, Engine) else make_engine(to)
    if isinstance(run, Run | str):
        source, run_id = _found(run, engine)
        return _added(target, source, run_id, rows_of_run(source, run_id))
    found = _several(run, engine)
    with target.reading() as reader:
        there = {each.run_id for each in reader.runs(Select(run_ids=[run_id for _, run_id in found]))}
    source = found[0][0] if found else target
    rows = rows_of_runs(source, [run_id for _, run_id in found], there)
    return [_added(target, source, run_id, tables) for run_id, tables in rows]


def _several(runs: Any, engine: Engine | None) -> list[tuple[Engine, RunId]]:
    """Return the journal and the id of each, of a frame the oldest first: the order of the copies is their order."""
    if hasattr(runs, "columns"):
        is_root = runs["kind"].isin(DELETABLE) & runs["parent_run_id"].isna()
        runs = reversed(runs.loc[is_root, "run_id"].to_list())
    found = [_found(each, engine) for each in runs]
    if len({id(source) for source, _ in found}) > 1:
        raise ValueError("the runs are of several journals; copy those of one journal at a time")
    return found


def _found(run: Run[Any] | str, engine: Engine | None) -> tuple[Engine, RunId]:
    """Return the journal of the run, and its full id."""
    engine = run._engine if isinstance(run, Run) else engine or REGISTRY.engine()  # noqa: SLF001 -- the same room
    engine.flush()
    with engine.reading() as reader:
        return engine, resolve_run(reader, run.id if isinstance(run, Run) else run).run_id


def _added(target: Engine, source: Engine, run_id: RunId, tables: Mapping[str, Rows]) -> Run[Any]:
    add_exported(target, ExportedRun(run_id, tables), source.journal.location)
    watch(target)
    return Run(target, run_id)


def import_(path: str | os.PathLike[str], *, engine: Engine | None = None) -> Run[Any]:
    """Add a run that was exported to the journal, and return it; ``run.resume()`` continues it.

    One that waited goes on by itself when its time or its signal comes. A run that another user began is shown, and
    nothing of it is executed until you trust the journal: see `trust`.

    Args:
        path: of the file that `export` has written.
        engine: the journal to add it to; by default the current one.

    Raises:
        NotAJournal: the file is no exported run.
        JournalTooNew: it was written by a newer version of the package.
        JournalCorrupt: it is damaged or was cut.
        JournalConflict: the run is there already, was deleted there, or another one has its key.
    """
    engine = engine or REGISTRY.engine()
    run_id = import_run(engine, Path(a_path(path)).expanduser().absolute())
    watch(engine)
    return Run(engine, run_id)


def import_trusted(engine: Engine, path: str | os.PathLike[str]) -> Run[Any]:
    """Add an exported run to the current journal, and trust all of that. Nothing of the run goes on by itself.

    Raises:
        NotAJournal, JournalTooNew, JournalCorrupt, JournalConflict: see `import_`.
    """
    run_id = import_run(engine, Path(path).expanduser().absolute(), is_idle=True)
    trust()
    return Run(engine, run_id)
