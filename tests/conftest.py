"""What the tests share: engines on fresh journals, and ways to play several cells and several processes."""

from __future__ import annotations

import ast
import gc
import itertools
import os
import re
import signal
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest
from hypothesis import settings

from ironflow_nb.errors import EngineClosed
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.steps.captured_streams import STREAMS
from ironflow_nb.journal.ports import Durability, Journal
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.testing.clock import SimClock
from ironflow_nb.testing.memory_journal import MemoryJournal
from tests.cells import World
from tests.sample import sampled, without_repetitions

IN_CI = bool(os.environ.get("CI"))
FULL_PROOF = os.environ.get("IRONFLOW_PROOF") == "full"
KEY = "a key of the tests"
SEED = int(os.environ.get("IRONFLOW_SEED", "0"))

# Who runs the tests in the background of a shell has them ignore interrupts, which some of them are about.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_IN_MEMORY = Path("/dev/shm")
_N_BYTES = 4 << 30


def _has_space(folder: Path) -> bool:
    """Return True if files of the tests may lie there and programs among them may be started."""
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        return False
    file_system = os.statvfs(folder)
    return file_system.f_bavail * file_system.f_frsize >= _N_BYTES and not file_system.f_flag & os.ST_NOEXEC


# A journal on a disk takes 30 ms to make and to sync, longer than most tests; no test cuts the power. A TMPDIR of the
# person who runs the tests is used, also by the processes that tests begin.
if "TMPDIR" not in os.environ and _has_space(_IN_MEMORY):
    os.environ["TMPDIR"] = tempfile.tempdir = str(_IN_MEMORY)

_FOLDERS = itertools.count()
_PARSING = threading.RLock()
PARSE: Final = ast.parse


def _parse_alone(*given: Any, **options: Any) -> Any:
    with _PARSING:
        return PARSE(*given, **options)


# Python 3.11 raises a SystemError from the making of a tree if the collection of garbage calls Python meanwhile, as
# Hypothesis has it do, and another thread makes a tree in that call. `code_identity.syntax.parse` tries again; pytest,
# which makes trees of what a test imports, does not.
ast.parse = _parse_alone  # type: ignore[assignment]

# How long one example takes says more about what else the machine does than about the code.
settings.register_profile("ironflow", deadline=None, max_examples=200 if FULL_PROOF else 30)
settings.load_profile("ironflow")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--sample N``, for the fast loop."""
    told = "run at most N cases of each function; IRONFLOW_SEED chooses which"
    parser.addoption("--sample", type=int, metavar="N", help=told)


@pytest.hookimpl(trylast=True)  # after the marks have chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep some cases of each function: the same ones in all processes of the tests."""
    kept = {item.nodeid for item in items}
    if not FULL_PROOF:
        marks = ((item, item.get_closest_marker("sampled")) for item in items)
        limits = {item.nodeid.partition("[")[0]: int(mark.args[0]) for item, mark in marks if mark is not None}
        on_memory = {item.nodeid for item in items if given(item).get("lab") == "memory"}
        kept = without_repetitions(sampled(kept, limits, SEED), on_memory, SEED)
    most = config.getoption("sample")
    if most is not None:
        kept = sampled(kept, most, SEED)
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in kept])
    items[:] = [item for item in items if item.nodeid in kept]


def given(item: pytest.Item) -> dict[str, Any]:
    """Return the parameters of the case."""
    callspec = getattr(item, "callspec", None)
    return {} if callspec is None else callspec.params


def pytest_collection_finish() -> None:
    """Let the collections of garbage pass over thousands of modules and tests."""
    gc.freeze()


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Make a folder for the test. That of pytest looks through those of all tests before it, to find a number."""
    name = re.sub(r"\W", "_", request.node.name)[:30]
    return tmp_path_factory.mktemp(f"{next(_FOLDERS)}-{name}", numbered=False)


@pytest.fixture(autouse=True)
def own_key_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test sign with, or write into, what belongs to the person who runs it."""
    monkeypatch.setenv("IRONFLOW_KEY", KEY)
    monkeypatch.delenv("IRONFLOW_DB", raising=False)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def own_definitions() -> Iterator[None]:
    """Let what a test defines be unknown to the tests after it."""
    known, steps = REGISTRY._definitions, REGISTRY._steps  # a test may put others in their place
    before, references = dict(known), dict(steps.data)
    registered = {purpose: dict(known) for purpose, known in REGISTRY.registered.items()}
    yield
    known.clear()
    known.update(before)
    # The references themselves: to go through a weak dictionary takes milliseconds, which every test would pay.
    steps.data = {name: reference for name, reference in references.items() if reference() is not None}
    for purpose, others in REGISTRY.registered.items():
        others.clear()
        others.update(registered.get(purpose, {}))


@pytest.fixture(autouse=True)
def ended_bodies() -> Iterator[None]:
    """Let bodies that a test has abandoned end with it, log that in no later test, and give the streams back."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("ironflow-body-"):
            thread.join(30)
    STREAMS.release(is_main=True)  # as the next run that ends on this thread would


class Connection(sqlite3.Connection):
    """A connection that knows whether it is open."""

    is_open = True

    def close(self) -> None:
        super().close()
        self.is_open = False


@pytest.fixture(autouse=True)
def closed_connections(own_key_and_folder: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail the test that leaves a file of SQLite open; Python 3.13 warns of it, but in some later test."""
    opened: list[Connection] = []
    connect = sqlite3.connect

    def open_tracked(place: Any, *arguments: Any, **options: Any) -> sqlite3.Connection:
        if place == ":memory:":  # it ends with the last who holds it
            return connect(place, *arguments, **options)
        connection = connect(place, *arguments, **{"factory": Connection, **options})
        if isinstance(connection, Connection):
            opened.append(connection)
        return connection

    monkeypatch.setattr(sqlite3, "connect", open_tracked)
    yield
    # Another thread may be reading at this moment. To close its connection here would crash the process.
    for _ in range(500):
        if not any(connection.is_open for connection in opened):
            break
        time.sleep(0.01)
    assert not [connection for connection in opened if connection.is_open]


@dataclass
class Lab:
    """A journal with a process that works on it; `cell` begins the next cell, `die` the next process."""

    new_journal: Callable[[], Journal]
    n_cells: int = 0
    engines: list[Engine] = field(default_factory=list)
    left: list[Session] = field(default_factory=list)
    """What dead processes were executing; their threads stand in waits until the test is over."""
    clock: SimClock | None = None
    is_interactive: bool = False

    @property
    def engine(self) -> Engine:
        return self.engines[-1]

    def begin(self) -> Engine:
        engine = Engine(
            self.new_journal(),
            durability=Durability.PROCESS,
            execution=lambda: f"{self.engine.owner}:{self.n_cells}",
            clock=self.clock,
            is_interactive=lambda: self.is_interactive,
        )
        self.engines.append(REGISTRY.adopt(engine))
        REGISTRY.use(engine)
        return engine

    def simulate_time(self) -> SimClock:
        """Give the next engine a clock that the test moves."""
        self.clock = SimClock()
        self.begin()
        return self.clock

    def cell(self) -> None:
        """From here on calls are of another cell execution."""
        self.n_cells += 1

    def die(self) -> Engine:
        """End the process as SIGKILL does: nothing more is written, nothing is given back; return the next engine."""
        dead = self.engine
        journal = dead.access.journal
        dead.access.close("it was killed", abandon=True)
        self.left += dead.sessions.values()
        dead.sessions.clear()
        dead._background.stop()
        if isinstance(journal, SqliteJournal):
            with dead.access.lock:  # its worker may be looking at the file: SQLite bears no close meanwhile
                journal.close()
        with_next = self.begin()
        # Its process is this one, which lives; without a lease it counts as dead.
        with with_next.access.current():
            with_next.access.journal.release(dead.access.owner)
        self.cell()
        return with_next

    def die_in_flow(self) -> NoReturn:
        """Die in the middle of a flow, whose function goes no further."""
        self.die()
        raise SystemExit

    def close(self) -> None:
        for engine in self.engines:
            engine.close()
        for session in self.left:
            session.writer.fatal_error = EngineClosed("its process is dead")
            session.wakeups.wake()


@pytest.fixture(params=["sqlite", "memory"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """Return a lab on either kind of journal."""
    if request.param == "memory":
        journal = MemoryJournal()
        made = Lab(lambda: journal)
    else:
        made = Lab(lambda: SqliteJournal(tmp_path / "journal.db"))
    made.begin()
    made.cell()
    before = REGISTRY._engine
    yield made
    made.close()
    REGISTRY._engine = None if before in made.engines else before


@pytest.fixture
def world(lab: Lab) -> World:
    """Return a world that steps and flows may close over."""
    return World(lab.die_in_flow)
