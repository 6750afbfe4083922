"""Runs that go from one journal to another, as one file."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ironflow_nb.core.option_values import a_path
from ironflow_nb.execution import REGISTRY, Engine, make_engine, watch
from ironflow_nb.handles.run import Run
from ironflow_nb.handles.trust import trust
from ironflow_nb.history.lookup import resolve_run
from ironflow_nb.retention.exported_run import export_run
from ironflow_nb.retention.imported_run import import_run


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
    engine = run._engine if isinstance(run, Run) else engine or REGISTRY.engine()  # noqa: SLF001 -- the same room
    engine.flush()
    with engine.reading() as reader:
        found = resolve_run(reader, run.id if isinstance(run, Run) else run)
    target = Path(a_path(path)).expanduser().absolute()
    export_run(engine, found.run_id, target)
    return target


def copy(run: Run[Any] | str, to: str | os.PathLike[str] | Engine, *, engine: Engine | None = None) -> Run[Any]:
    """Copy a run, as it is at this moment, into another journal, and return it there.

    It is what `export` and `import_` do, without a file to keep. The run itself stays as it is; let only one of both go
    on.

    Args:
        run: a run of a flow or graph, or its id.
        to: the other journal: an engine, or the path of its file.
        engine: the journal of the run, if it is given by its id; by default the current one.

    Raises:
        RunNotFound, AmbiguousRun: no run or several have that id.
        JournalConflict: the run is in the other journal already, was deleted there, or another one has its key.
        ValueError: it is a child, which goes with its parent, or no run of a flow or graph.
    """
    target = to if isinstance(to, Engine) else make_engine(to)
    with TemporaryDirectory(prefix="ironflow-copy-") as folder:
        return import_(export(run, Path(folder) / "run.ironflow", engine=engine), engine=target)


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
