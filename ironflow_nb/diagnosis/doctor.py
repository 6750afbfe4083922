"""`doctor`: how the journal and its surroundings are, and what to do where they could be better."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ironflow_nb._version import __version__
from ironflow_nb.core.durations import spoken
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.plain_text import counted
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.diagnosis import file_checks
from ironflow_nb.diagnosis.file_checks import examined
from ironflow_nb.diagnosis.findings import Finding, Severity
from ironflow_nb.diagnosis.inspection import JournalContents
from ironflow_nb.execution import (
    CURRENT,
    DEFAULT_PATH,
    PATH_VARIABLE,
    REGISTRY,
    Engine,
    frontend,
    host_id,
    is_alive,
    shell,
)
from ironflow_nb.journal.ports import Lease
from ironflow_nb.journal.sqlite_journal import SqliteJournal
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


def doctor(*, engine: Engine | None = None) -> pd.DataFrame:
    """Look at the journal and its surroundings, and tell what was found and what to do about it.

    Nothing is created or changed, and a journal that is missing, damaged or locked is a finding, not an error. The one
    trace is a temporary file in the journal's folder, for as long as its disk is timed.

    Columns: topic (journal, place, sqlite, use, engine, values, clock, versions), what (was looked at), found, state
    (``ok``: as it should be, ``notice``: good to know, ``warning``: can do harm, ``problem``: does harm), advice (what
    to do; empty where there is nothing to do). The rows are in the order of the topics, whatever their state.

    Args:
        engine: the one whose journal is looked at; by default the current one.
    """
    from ironflow_nb.diagnosis.doctor_report import Report

    return Report.of(findings(engine or REGISTRY.engine()))


def findings(engine: Engine) -> list[Finding]:
    """Return what there is to say about the engine, its journal and its process."""
    opened = engine.journal
    if not isinstance(opened, SqliteJournal):
        advice = 'give a path to keep the runs, iron.use("journal.db")'
        kept = Finding("journal", "path", "in memory, and gone with the process", Severity.NOTICE, advice)
        return [kept, *_all_of([_engine, _troubles, _notebook], engine), *_checked("versions", _versions)]
    journal = examined(opened.path, durability=engine.durability, read_only=opened.read_only)
    of_file = (
        ("journal", file_checks.file), ("place", file_checks.file_system_type), ("place", file_checks.space),
        ("place", file_checks.rights), ("place", file_checks.sync), ("sqlite", file_checks.sqlite),
        ("use", file_checks.log), ("use", file_checks.users),
    )  # fmt: skip
    return [
        *_checked("journal", partial(_path, engine, opened.path)),
        *(found for topic, check in of_file for found in _checked(topic, partial(check, journal))),
        *_checked("use", partial(_owners, engine, journal.contents)),
        *_all_of([_engine, _troubles, _notebook], engine),
        *_checked("values", partial(_key, journal.contents)),
        *_checked("clock", partial(_clock, engine, journal.contents)),
        *_checked("versions", _versions),
    ]


def _all_of(checks: Iterable[Callable[[Engine], Iterator[Finding]]], engine: Engine) -> Iterator[Finding]:
    for check in checks:
        yield from _checked("engine", partial(check, engine))


def _checked(topic: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return list(check())
    except Exception as error:  # noqa: BLE001 -- what can't be looked at is a finding too
        found = f"could not be looked at: {type(error).__name__}: {error}"
        return [Finding(topic, topic, found, Severity.NOTICE)]


# -- the path ----------------------------------------------------------------------------------------------------


def _path(engine: Engine, path: Path) -> Iterator[Finding]:
    named = os.environ.get(PATH_VARIABLE)
    if CURRENT.get() is engine:
        why = "of the with statement around this"
    elif named and path == _absolute(named):
        why = f"named by {PATH_VARIABLE}"
    elif not named and path == _absolute(DEFAULT_PATH):
        why = "the default one of the working directory"
    else:
        why = "chosen by iron.use() or iron.open(), or by what the working directory was at first use"
    yield Finding("journal", "path", f"{path}, {why}")
    if named and path != _absolute(named) and CURRENT.get() is not engine:
        found = f"names another journal, {_absolute(named)}, which is not the one in use"
        advice = f"set {PATH_VARIABLE} before the first use, or call iron.use({named!r})"
        yield Finding("journal", PATH_VARIABLE, found, Severity.NOTICE, advice)


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()


# -- owners of runs ----------------------------------------------------------------------------------------------


def _owners(engine: Engine, contents: JournalContents | None) -> Iterator[Finding]:
    if contents is None:
        return
    now = engine.clock.now()
    of_owner: dict[str | None, list[RunRow]] = {}
    for run in contents.unfinished:
        of_owner.setdefault(run.owner, []).append(run)
    leases = sorted(contents.leases.values(), key=lambda lease: -lease.heartbeat_at)
    alive = [lease for lease in leases if is_alive(lease, now=now)]
    for lease in alive:
        yield _living(engine, lease, of_owner.pop(lease.owner, []), now)
    orphans = [run for runs in of_owner.values() for run in runs if not engine.is_running_here(run.run_id)]
    if orphans:
        last = {owner: contents.leases[owner] for owner in of_owner if owner is not None and owner in contents.leases}
        yield _dead(orphans, list(last.values()), now)
    elif len(leases) > len(alive):
        died = counted(len(leases) - len(alive), "owner")
        yield Finding("use", "owners", f"{died} ended without a word, and no run of theirs is open")
    elif not leases:
        yield Finding("use", "owners", "none: nobody works on a run")


def _living(engine: Engine, lease: Lease, runs: list[RunRow], now: int) -> Finding:
    silent_s = max(now - lease.heartbeat_at, 0) / 1e6
    own = [run for run in runs if lease.owner != engine.owner or engine.is_running_here(run.run_id)]
    where = "this process" if lease.owner == engine.owner else _process(lease)
    found = f"{where} is alive, with a sign of life {spoken(silent_s)} ago, and works on {_listed(own) or 'no run'}"
    # One that has nothing to do shows no life, and who looks is awake.
    if own and silent_s > lease.lease_s and lease.owner != engine.owner:
        advice = "it may be stopped, or its machine asleep; its runs go on when it does, or are yours once it has ended"
        return Finding("use", "owners", found, Severity.NOTICE, advice)
    return Finding("use", "owners", found)


def _dead(runs: list[RunRow], leases: list[Lease], now: int) -> Finding:
    seen = max((lease.heartbeat_at for lease in leases), default=None)
    last = f"; last sign of life {spoken(max(now - seen, 0) / 1e6)} ago" if seen is not None else ""
    who = ", ".join(_process(lease) for lease in leases[:SHOWN]) or "their processes"
    are = "is" if len(runs) == 1 else "are"
    found = f"{_listed(runs)} {are} interrupted, because {who} ended{last}"
    advice = f"run the cell again, or iron.resume({str(runs[0].run_id)!r})"
    return Finding("use", "owners", found, Severity.WARNING, advice)


def _process(lease: Lease) -> str:
    return f"pid {lease.pid}" if lease.host == host_id() else f"pid {lease.pid} of another machine, boot or container"


def _listed(runs: list[RunRow]) -> str:
    more = f" and {len(runs) - SHOWN} more" if len(runs) > SHOWN else ""
    return ", ".join(f"{RunId(run.run_id)} ({run.name})" for run in runs[:SHOWN]) + more


# -- this process ------------------------------------------------------------------------------------------------


def _engine(engine: Engine) -> Iterator[Finding]:
    closed_because = engine.access._closed_because  # noqa: SLF001 -- asking it to write would tell too, and write
    if closed_because is not None:
        advice = "open the journal again, with iron.use(...) or iron.open(...)"
        yield Finding("engine", "engine", f"it can't be used: {closed_because}", Severity.PROBLEM, advice)
        return
    here = [session for session in list(engine.sessions.values()) if session.is_open]
    yield Finding(
        "engine", "engine", f"open; {counted(len(here), 'run') if here else 'no run'} going on in this process"
    )


def _troubles(engine: Engine) -> Iterator[Finding]:
    troubles = engine.access.background_errors
    for (activity, kind), count in list(troubles.counts.items()):
        found = f"while {activity}: {kind}, {counted(count, 'time')}, the last one {troubles.latest[activity, kind]!r}"
        advice = "the engine goes on; if the count grows, restart the kernel and run the cell again"
        yield Finding("engine", "threads", found, Severity.WARNING, advice)


def _notebook(_engine: Engine) -> Iterator[Finding]:
    if shell() is None:
        return
    if frontend() is None:
        found = "not loaded: no pictures that follow their runs, and no %ironflow"
        yield Finding("engine", "extension", found, Severity.NOTICE, "%load_ext ironflow_nb")
    else:
        yield Finding("engine", "extension", "loaded")


def _key(contents: JournalContents | None) -> Iterator[Finding]:
    if os.environ.get(KEY_VARIABLE):
        yield Finding("values", "signing key", f"from {KEY_VARIABLE}")
        return
    path = key_path()
    try:
        there = path.stat()
    except FileNotFoundError:
        yield _no_key(path, has_pickles=contents is not None and contents.has_pickles is not False)
        return
    if there.st_size != KEY_BYTES:
        advice = "restore it from a copy, or delete it and sign what you trust anew with iron.trust()"
        yield Finding("values", "signing key", f"{path} is damaged", Severity.PROBLEM, advice)
    elif os.name == "posix" and there.st_mode & 0o077:
        found = f"{path} can be read by others, who can then make pickles that run their code here"
        yield Finding("values", "signing key", found, Severity.WARNING, f"chmod 600 '{path}'")
    else:
        yield Finding("values", "signing key", f"{path}, which only you can read")


def _no_key(path: Path, *, has_pickles: bool) -> Finding:
    if not has_pickles:
        return Finding("values", "signing key", f"none yet; the first pickle makes {path}")
    advice = f"set {KEY_VARIABLE} as it was, or put the key back; if you know where the journal is from, iron.trust()"
    return Finding(
        "values", "signing key", f"{path} is missing, so stored pickles can't be read", Severity.WARNING, advice
    )


def _clock(engine: Engine, contents: JournalContents | None) -> Iterator[Finding]:
    if contents is None or contents.newest_at is None:
        return
    newest = max([contents.newest_at, *(lease.heartbeat_at for lease in contents.leases.values())])
    age_s = (engine.clock.now() - newest) / 1e6
    if age_s < -STEPPED_BACK_S:
        found = f"{spoken(-age_s)} behind what is written in the journal: it went back, or another machine's is ahead"
        advice = "set the clocks; until then ages, waits and the leases of other machines are wrong, results are not"
        yield Finding("clock", "clock", found, Severity.WARNING, advice)
    else:
        yield Finding("clock", "clock", f"in step with the journal, whose newest entry is {spoken(max(age_s, 0))} old")


def _versions() -> Iterator[Finding]:
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
