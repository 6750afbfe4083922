"""Opening journals and choosing the one that calls go to."""

from __future__ import annotations

import os

from ironflow_nb.core.durations import Duration
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY, make_engine
from ironflow_nb.execution.system.system import Clock
from ironflow_nb.journal.ports import Durability


def open(  # noqa: A001 -- read as iron.open
    path: str | os.PathLike[str] | None = None,
    *,
    durability: str = "power",
    read_only: bool = False,
    values: str | os.PathLike[str] | None = None,
    park_s: Duration | None = None,
    clock: Clock | None = None,
    max_runs: int | None = None,
    max_steps: int | None = None,
) -> Engine:
    """Return an engine on a journal, without making it the default one; ``with`` makes it the current one inside.

    The path becomes absolute now, and the file is created by the first write. Without a path it is that of
    ``IRONFLOW_DB``, else ``.ironflow/journal.db`` in the working directory; ``":memory:"`` is a journal that ends with
    the engine. ``"postgresql://user@host/database"`` and ``"dynamodb://prefix"`` are for many machines; see
    docs/postgresql.md and docs/dynamodb.md.

    Args:
        path: of the journal file, or the URL of a database.
        durability: ``"power"``: what is acknowledged survives even a power cut; ``"process"``: every death of the
            process or kernel, at a fraction of the time.
        read_only: refuse every write.
        values: a folder, or the URL of an object store (``"s3://bucket/prefix"``), for values of 64 kB and more, which
            else lie beside the journal. The journal notes it, so who opens it later need not give it: docs/values.md.
        park_s: how long all of a background run waits until it gives back its threads, by default a minute; of more
            than 100 runs that wait, the others give theirs back at once.
        clock: the time, where it is not that of the machine: in tests a `SimClock` of `ironflow_nb.testing.clock`.
        max_runs: as many runs may be at work at once, those of all processes on the journal counted, child runs not;
            others wait in the order of their starts. By default ``IRONFLOW_MAX_CONCURRENT_WORKFLOWS``, else any number.
        max_steps: the same for bodies of steps; by default ``IRONFLOW_MAX_CONCURRENT_TASKS``.

    Raises:
        TypeError: `clock` is not a clock.
        ValueError: there is no such durability, a limit is not a whole number from 1, `park_s` is not a duration, or
            a URL can't be read.
        JournalConflict: the journal has another place for large values, or some beside it.
        JournalError: the place for large values can't be reached.
        ModuleNotFoundError: PostgreSQL needs psycopg, ``pip install 'ironflow-nb[postgres]'``, DynamoDB boto3, and S3
            s3fs.
    """
    return make_engine(
        path, durability=durability, read_only=read_only, values=values, park_s=park_s, clock=clock, max_runs=max_runs,
        max_steps=max_steps,
    )  # fmt: skip


def use(where: str | os.PathLike[str] | Engine | None = None, *, durability: str | None = None) -> Engine:
    """Make a journal the default one, by its path or its engine; the engine before it is closed. Return the engine.

    Raises:
        ValueError: there is no such durability, or the engine that is given has another one.
    """
    engine = where if isinstance(where, Engine) else make_engine(where, durability=durability or Durability.POWER)
    if durability is not None and engine.durability != durability:
        raise ValueError(
            f'the engine was opened with durability="{engine.durability}", and it keeps that; open another one: '
            f'iron.use(path, durability="{durability}")'
        )
    REGISTRY.use(engine)
    return engine


def engine() -> Engine:
    """Return the engine that calls go to now."""
    return REGISTRY.engine()
