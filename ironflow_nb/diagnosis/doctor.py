"""`doctor`: checks of the journal, its disk, its users, the engine and the versions, with advice."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ironflow_nb._version import __version__
from ironflow_nb.core.durations import spoken
from ironflow_nb.core.identity import RunId, ValueId
from ironflow_nb.core.plain_text import counted
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.diagnosis import file_checks
from ironflow_nb.diagnosis.file_checks import examined
from ironflow_nb.diagnosis.findings import Finding, Severity
from ironflow_nb.diagnosis.inspection import JournalContents, place_and_trouble
from ironflow_nb.diagnosis.server_checks import server
from ironflow_nb.errors import JournalError
from ironflow_nb.execution import (
    CURRENT,
    DEFAULT_PATH,
    PATH_VARIABLE,
    REGISTRY,
    SERVERS,
    Engine,
    frontend,
    host_id,
    is_alive,
    shell,
)
from ironflow_nb.journal.ports import Lease, QueueItem
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.value_store.value_place import values_in
from ironflow_nb.values.signed_pickles import KEY_BYTES, KEY_VARIABLE, key_path

if TYPE_CHECKING:
    import pandas as pd

PACKAGES: Final = (
    "ipython", "ipykernel", "jupyterlab", "nbconvert", "ipywidgets", "anywidget", "pandas", "pyarrow", "cloudpickle",
    "msgspec",
)  # fmt: skip
WITHOUT: Final = {"pyarrow": "DataFrames are stored as pickles, larger and bound to this version of pandas"}
SHOWN: Final = 5
STEPPED_BACK_S: Final = 2.0
LATE_S: Final = 60.0
"""So long after its time what starts runs has been taken, where any process is open that may."""


def doctor(*, engine: Engine | None = None) -> pd.DataFrame:
    """Check the journal, its disk, its users, the engine and the versions; return one row for each finding.

    Nothing is created or changed, except for a temporary file in the journal's folder while the disk is timed. A
    journal that is missing, damaged or locked is a finding, not an error.

    All columns are texts. They are topic (journal, place, sqlite, use, engine, values, clock, versions), what (the
    thing that was checked), found, state and advice (empty if there is nothing to do). The states are ``ok``,
    ``notice`` (good to know), ``warning`` (can do harm) and ``problem`` (does harm). The rows have the order of the
    topics.

    Args:
        engine: the engine to check with its journal; by default the current one.
    """
    from ironflow_nb.diagnosis.doctor_report import Report

    return Report.of(findings(engine or REGISTRY.engine()))


def findings(engine: Engine) -> list[Finding]:
    """Return the findings about the engine, its journal and its process, in the order of the report."""
    opened = engine.journal
    if opened.location.startswith(SERVERS):
        return [
            *_run_check("journal", partial(server, engine)),
            *_run_check("values", partial(_check_place_of_server, engine)),
            *_engine_findings(engine),
            *_run_check("versions", _check_versions),
        ]
    if not isinstance(opened, SqliteJournal):
        advice = 'give a path to keep the runs, iron.use("journal.db")'
        place = Finding("journal", "path", "in memory, and lost when the process ends", Severity.NOTICE, advice)
        return [place, *_engine_findings(engine), *_run_check("versions", _check_versions)]
    journal = examined(opened.path, durability=engine.durability, read_only=opened.read_only)
    of_file = (
        ("journal", file_checks.file), ("place", file_checks.file_system_type), ("place", file_checks.space),
        ("place", file_checks.rights), ("place", file_checks.sync), ("sqlite", file_checks.sqlite),
        ("use", file_checks.log), ("use", file_checks.users),
    )  # fmt: skip
    return [
        *_run_check("journal", partial(_check_path, engine, opened.path)),
        *(found for topic, check in of_file for found in _run_check(topic, partial(check, journal))),
        *_run_check("use", partial(_check_owners, engine, journal.contents)),
        *_run_check("use", partial(_check_starts, engine, journal.contents)),
        *_engine_findings(engine),
        *_run_check("values", partial(_check_place, *_place_of(journal.contents))),
        *_run_check("values", partial(_check_key, journal.contents)),
        *_run_check("clock", partial(_check_clock, engine, journal.contents)),
        *_run_check("versions", _check_versions),
    ]


def _engine_findings(engine: Engine) -> Iterator[Finding]:
    for check in (_check_engine, _check_threads, _check_notebook):
        yield from _run_check("engine", partial(check, engine))


def _run_check(topic: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return list(check())
    except Exception as error:  # noqa: BLE001 -- a failed check is a finding
        found = f"could not be checked: {type(error).__name__}: {error}"
        return [Finding(topic, topic, found, Severity.NOTICE)]


# -- the path ----------------------------------------------------------------------------------------------------


def _check_path(engine: Engine, path: Path) -> Iterator[Finding]:
    named = os.environ.get(PATH_VARIABLE)
    if CURRENT.get() is engine:
        why = "of the with statement around this"
    elif named and path == _absolute(named):
        why = f"named by {PATH_VARIABLE}"
    elif not named and path == _absolute(DEFAULT_PATH):
        why = "the default one of the working directory"
    else:
        why = "chosen by iron.use() or iron.open(), or by the working directory at the first use"
    yield Finding("journal", "path", f"{path}, {why}")
    if named and path != _absolute(named) and CURRENT.get() is not engine:
        found = f"names another journal, {_absolute(named)}, which is not the one in use"
        advice = f"set {PATH_VARIABLE} before the first use, or call iron.use({named!r})"
        yield Finding("journal", PATH_VARIABLE, found, Severity.NOTICE, advice)


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()


# -- owners of runs ----------------------------------------------------------------------------------------------


def _check_owners(engine: Engine, contents: JournalContents | None) -> Iterator[Finding]:
    if contents is None:
        return
    now = engine.clock.now()
    of_owner: dict[str | None, list[RunRow]] = {}
    for run in contents.unfinished:
        of_owner.setdefault(run.owner, []).append(run)
    leases = sorted(contents.leases.values(), key=lambda lease: -lease.heartbeat_at)
    alive = [lease for lease in leases if is_alive(lease, now=now)]
    for lease in alive:
        yield _living_owner(engine, lease, of_owner.pop(lease.owner, []), now)
    orphans = [run for runs in of_owner.values() for run in runs if not engine.is_running_here(run.run_id)]
    if orphans:
        last = {owner: contents.leases[owner] for owner in of_owner if owner is not None and owner in contents.leases}
        yield _dead_owners(orphans, list(last.values()), now)
    elif len(leases) > len(alive):
        died = counted(len(leases) - len(alive), "owner")
        yield Finding("use", "owners", f"{died} ended without closing the journal, and left no open run")
    elif not leases:
        yield Finding("use", "owners", "none: no process works on a run")


def _living_owner(engine: Engine, lease: Lease, runs: list[RunRow], now: int) -> Finding:
    silent_s = max(now - lease.heartbeat_at, 0) / 1e6
    own = [run for run in runs if lease.owner != engine.owner or engine.is_running_here(run.run_id)]
    where = "this process" if lease.owner == engine.owner else _format_owner(lease)
    runs_of_it = _format_runs(own) or "no run"
    found = f"{where} is alive, with a sign of life {spoken(silent_s)} ago, and works on {runs_of_it}"
    # An owner without runs sends no heartbeats, and this process is awake.
    if own and silent_s > lease.lease_s and lease.owner != engine.owner:
        advice = (
            "it may be stopped, or its machine asleep; its runs go on when it wakes, or you resume them after its end"
        )
        return Finding("use", "owners", found, Severity.NOTICE, advice)
    return Finding("use", "owners", found)


def _dead_owners(runs: list[RunRow], leases: list[Lease], now: int) -> Finding:
    seen = max((lease.heartbeat_at for lease in leases), default=None)
    last = f"; last sign of life {spoken(max(now - seen, 0) / 1e6)} ago" if seen is not None else ""
    owners = ", ".join(_format_owner(lease) for lease in leases[:SHOWN]) or "their processes"
    are = "is" if len(runs) == 1 else "are"
    found = f"{_format_runs(runs)} {are} interrupted, because {owners} ended{last}"
    advice = f"run the cell again, or iron.resume({str(runs[0].run_id)!r})"
    return Finding("use", "owners", found, Severity.WARNING, advice)


def _format_owner(lease: Lease) -> str:
    return f"pid {lease.pid}" if lease.host == host_id() else f"pid {lease.pid} of another machine, boot or container"


def _format_runs(runs: list[RunRow]) -> str:
    more = f" and {len(runs) - SHOWN} more" if len(runs) > SHOWN else ""
    return ", ".join(f"{RunId(run.run_id)} ({run.name})" for run in runs[:SHOWN]) + more


# -- what starts runs ----------------------------------------------------------------------------------------------


def _check_starts(engine: Engine, contents: JournalContents | None) -> Iterator[Finding]:
    """Name what nobody does: schedules and events that are due for a while, and dead letters."""
    late_at = engine.clock.now() - round(LATE_S * 1e6)
    dead = [item for item in contents.starts if item.dead_at is not None] if contents else []
    late = [item for item in contents.starts if item.dead_at is None and item.due_at < late_at] if contents else []
    if late:
        spent = spoken((engine.clock.now() - min(item.due_at for item in late)) / 1e6)
        found = f"{_format_starts(late)}: due for {spent}, and no process that is open does it"
        advice = "open the notebook that defines it, or start a worker of it, python -m ironflow_nb work FILE"
        yield Finding("use", "queue of work", found, Severity.WARNING, advice)
    if dead:
        found = f"{_format_starts(dead)}: given up after the last attempt"
        advice = "iron.work() lists it; when its flow is mended, requeue() of the flow tries it again"
        yield Finding("use", "dead letters", found, Severity.WARNING, advice)


def _format_starts(items: list[QueueItem]) -> str:
    counts = Counter((item.kind, item.key) for item in items)
    more = f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
    return ", ".join(f"{counted(n, kind)} for {key}" for (kind, key), n in counts.most_common(SHOWN)) + more


# -- this process ------------------------------------------------------------------------------------------------


def _check_engine(engine: Engine) -> Iterator[Finding]:
    closed_because = engine.access._closed_because  # noqa: SLF001 -- only a write would tell otherwise
    if closed_because is not None:
        advice = "open the journal again, with iron.use(...) or iron.open(...)"
        yield Finding("engine", "engine", f"it can't be used: {closed_because}", Severity.PROBLEM, advice)
        return
    n_open = sum(session.is_open for session in list(engine.sessions.values()))
    running = counted(n_open, "run") if n_open else "no run"
    yield Finding("engine", "engine", f"open; {running} going on in this process")


def _check_threads(engine: Engine) -> Iterator[Finding]:
    errors = engine.access.background_errors
    for (activity, kind), count in list(errors.counts.items()):
        found = f"while {activity}: {kind}, {counted(count, 'time')}, the last one {errors.latest[activity, kind]!r}"
        advice = "the engine goes on; if the count grows, restart the kernel and run the cell again"
        yield Finding("engine", "threads", found, Severity.WARNING, advice)


def _check_notebook(_engine: Engine) -> Iterator[Finding]:
    if shell() is None:
        return
    if frontend() is None:
        found = "not loaded: no live pictures of runs, and no %ironflow"
        yield Finding("engine", "extension", found, Severity.NOTICE, "%load_ext ironflow_nb")
    else:
        yield Finding("engine", "extension", "loaded")


def _place_of(contents: JournalContents | None) -> tuple[str | None, str | None]:
    return (None, None) if contents is None else (contents.value_place, contents.place_trouble)


def _check_place(place: str | None, trouble: str | None = None) -> Iterator[Finding]:
    if place is None:
        return
    try:
        if trouble is None:
            values_in(place).has(ValueId(bytes(20)))  # which is that of no value
    except JournalError as error:
        trouble = str(error)
    if trouble is None:
        yield Finding("values", "place", place)
    else:
        advice = "check the place, the credentials and the network; nothing that was recorded is lost"
        yield Finding("values", "place", trouble, Severity.PROBLEM, advice)


def _check_place_of_server(engine: Engine) -> Iterator[Finding]:
    with engine.journal.reading() as reader:
        yield from _check_place(*reader.extension(place_and_trouble))


def _check_key(contents: JournalContents | None) -> Iterator[Finding]:
    if os.environ.get(KEY_VARIABLE):
        yield Finding("values", "signing key", f"from {KEY_VARIABLE}")
        return
    path = key_path()
    try:
        there = path.stat()
    except FileNotFoundError:
        yield _missing_key(path, has_pickles=contents is not None and contents.has_pickles is not False)
        return
    if there.st_size != KEY_BYTES:
        advice = "restore it from a copy, or delete it and sign the journals that you trust again with iron.trust()"
        yield Finding("values", "signing key", f"{path} is damaged", Severity.PROBLEM, advice)
    elif os.name == "posix" and there.st_mode & 0o077:
        found = f"{path} can be read by others, who can then make pickles that run their code here"
        yield Finding("values", "signing key", found, Severity.WARNING, f"chmod 600 '{path}'")
    else:
        yield Finding("values", "signing key", f"{path}, which only you can read")


def _missing_key(path: Path, *, has_pickles: bool) -> Finding:
    if not has_pickles:
        return Finding("values", "signing key", f"none yet; the first pickle makes {path}")
    advice = f"set {KEY_VARIABLE} as it was, or put the key back; if you know where the journal is from, iron.trust()"
    return Finding(
        "values", "signing key", f"{path} is missing, so stored pickles can't be read", Severity.WARNING, advice
    )


def _check_clock(engine: Engine, contents: JournalContents | None) -> Iterator[Finding]:
    if contents is None or contents.newest_at is None:
        return
    newest = max([contents.newest_at, *(lease.heartbeat_at for lease in contents.leases.values())])
    age_s = (engine.clock.now() - newest) / 1e6
    if age_s < -STEPPED_BACK_S:
        found = (
            f"{spoken(-age_s)} behind what is written in the journal: it was set back, or another machine's is ahead"
        )
        advice = "set the clocks; until then ages, waits and leases of other machines are wrong, but results are right"
        yield Finding("clock", "clock", found, Severity.WARNING, advice)
    else:
        yield Finding("clock", "clock", f"in step with the journal, whose newest entry is {spoken(max(age_s, 0))} old")


def _check_versions() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"ironflow_nb": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            if package in WITHOUT:
                advice = f"pip install {package}"
                yield Finding("versions", package, f"missing: {WITHOUT[package]}", Severity.NOTICE, advice)
    yield Finding("versions", "installed", ", ".join(f"{name} {number}" for name, number in found.items()))
