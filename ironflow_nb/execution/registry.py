"""The registry of the process: its default engine, and the definitions by which runs can be continued.

This is the only mutable state of the package that belongs to no object of the user.
"""

from __future__ import annotations

import os
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, Protocol, cast

from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.option_values import a_limit, a_path, one_of
from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.plan import NONE, ResumeOptions
from ironflow_nb.core.replay_decision import OnChange
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.errors import FlowNotDefined
from ironflow_nb.execution.background import PARK_S
from ironflow_nb.execution.definitions.step_spec import StepSpec
from ironflow_nb.execution.engine import CURRENT, Engine
from ironflow_nb.execution.recording.journal_access import JournalAccess
from ironflow_nb.execution.system.system import Clock, ServerClock, SystemClock, SystemThreads, system_entropy
from ironflow_nb.journal.ports import Durability, Journal, QueueItem

DEFAULT_PATH: Final = ".ironflow/journal.db"
PATH_VARIABLE: Final = "IRONFLOW_DB"
RUNS_VARIABLE: Final = "IRONFLOW_MAX_CONCURRENT_WORKFLOWS"
STEPS_VARIABLE: Final = "IRONFLOW_MAX_CONCURRENT_TASKS"
MEMORY: Final = ":memory:"
SERVERS: Final = ("postgresql://", "postgres://", "dynamodb://")
"""How the URL of a journal on a server begins."""
DEFINITIONS: Final = "ironflow_nb.definitions"


class RegisteredDefinition(Protocol):
    """What is known by its kind and name: a definition of runs, a projection, or a function to call after runs."""

    @property
    def kind(self) -> str:
        """The style, or another kind of definition."""

    @property
    def name(self) -> str:
        """The name, which its runs have too."""


class RunDefinition(RegisteredDefinition, Protocol):
    """A definition of runs: a flow, a graph, a decider or a durable cell."""

    @property
    def on_change(self) -> OnChange:
        """What happens to finished steps whose code has changed."""

    def continue_run(self, engine: Engine, run: RunRow, options: ResumeOptions = NONE) -> RunId:
        """Continue the run in the background with its recorded arguments, under `options`; return its id."""


class StartableDefinition(RegisteredDefinition, Protocol):
    """A definition of which something falls due: a run that schedules and emitted events start, or a call."""

    @property
    def wanted_events(self) -> frozenset[str]:
        """The names of the events that start or cancel its runs."""

    def subscribe(self, engine: Engine) -> None:
        """Have the journal keep these events for it, from now on."""

    def start_due(self, engine: Engine, item: QueueItem) -> bool:
        """Do what is due: start a run, unless another process does it or nothing is to be started.

        Return False if this user did not ask for it, so that nothing of it is done here.
        """


Revive = Callable[[Engine, RunRow], RunDefinition]
"""Rebuilds the definition of a run from what the journal stores."""


class Registry:
    """The default engine and the known definitions."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._definitions: dict[tuple[str, str], RegisteredDefinition] = {}
        self._engines: weakref.WeakSet[Engine] = weakref.WeakSet()
        self.registered: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        """Other objects that styles look up, by their purpose and their name."""
        self._steps: weakref.WeakValueDictionary[str, StepSpec] = weakref.WeakValueDictionary()

    def adopt(self, engine: Engine) -> Engine:
        """Note an engine of this process."""
        self._engines.add(engine)
        return engine

    def is_any_active(self) -> bool:
        """Return True if this process is executing any run."""
        return any(engine.is_active() for engine in list(self._engines))

    def engine(self) -> Engine:
        """Return the current engine: that of the innermost ``with iron.open(...)``, else the default one."""
        current = CURRENT.get()
        if current is not None:
            return current
        if self._engine is None:
            self._engine = make_engine(None)
        return self._engine

    def engine_of(self, access: JournalAccess) -> Engine:
        """Return the engine of this process that works on the journal of a run, whatever engine is current."""
        return next(each for each in list(self._engines) if each.access is access)

    def use(self, engine: Engine) -> None:
        """Make the engine the default one; the one before is closed."""
        before, self._engine = self._engine, engine
        if before is not None and before is not engine:
            before.close()

    @contextmanager
    def replaced(self, engine: Engine) -> Iterator[None]:
        """Make the engine the default one inside of the block; the one before stays open."""
        before, self._engine = self._engine, engine
        try:
            yield
        finally:
            self._engine = before

    def define(self, definition: RegisteredDefinition) -> None:
        """Note a definition; a later one of the same name takes its place."""
        self._definitions[definition.kind, definition.name] = definition

    def define_step(self, spec: StepSpec) -> None:
        """Note a step, or a flow that may be one; a later one of the same name takes its place."""
        self._steps[spec.name] = spec
        if spec.compensate is not None:
            self.registered["undo"][spec.compensate.spec.name] = spec.compensate.spec

    def step(self, name: str) -> StepSpec | None:
        """Return the newest step of that name that is still there."""
        return self._steps.get(name)

    def find(self, kind: str, name: str) -> RegisteredDefinition | None:
        """Return the definition of that name, or None."""
        return self._definitions.get((kind, name))

    def find_of(self, run: RunRow) -> RunDefinition | None:
        """Return the definition of the run in this process, or None."""
        return cast("RunDefinition | None", self._definitions.get((run.kind, run.name)))

    def forget(self, kind: str, name: str) -> None:
        """Remove the definition of that name."""
        self._definitions.pop((kind, name), None)

    def definitions(self, kind: str) -> list[RegisteredDefinition]:
        """Return the definitions of that kind, in the order of first definition."""
        return [found for (its_kind, _), found in self._definitions.items() if its_kind == kind]

    def startable(self) -> dict[str, StartableDefinition]:
        """Return the definitions that schedules and events can start, by kind and name, as the queue of work has it."""
        found = {f"{kind} {name}": each for (kind, name), each in list(self._definitions.items())}
        return {key: cast("StartableDefinition", each) for key, each in found.items() if hasattr(each, "start_due")}

    def definition(self, run: RunRow, engine: Engine | None = None) -> RunDefinition:
        """Return the definition of the run: that of this process, else one rebuilt from the journal of `engine`.

        Raises:
            FlowNotDefined: there is neither.
        """
        found = self.find_of(run)
        if found is None and engine is not None and (revive := _reviver(run.kind)) is not None:
            return revive(engine, run)
        if found is None:
            raise FlowNotDefined(
                f"run {run.run_id} is of {run.kind} {plain(run.name)}, which is not defined here; run the cell or "
                "import the module that defines it, then try again",
                run_id=run.run_id,
                name=run.name,
            )
        return found


@cache
def _reviver(kind: str) -> Revive | None:
    """Return the function that rebuilds definitions of that kind, which an entry point names; or None."""
    from importlib.metadata import entry_points

    for entry in entry_points(group=DEFINITIONS, name=kind):
        found: Revive = entry.load()
        return found
    return None


REGISTRY: Final = Registry()


def make_engine(
    path: str | os.PathLike[str] | None, *, durability: str = Durability.POWER, read_only: bool = False,
    values: str | os.PathLike[str] | None = None, park_s: Duration | None = None, clock: Clock | None = None,
    max_runs: int | None = None, max_steps: int | None = None,
) -> Engine:  # fmt: skip
    """Return an engine on the journal at `path`; by default ``IRONFLOW_DB``, else ``.ironflow/journal.db``."""
    where = a_path(path) if path is not None else os.environ.get(PATH_VARIABLE) or DEFAULT_PATH
    chosen = one_of(Durability, durability, "durability")
    if clock is not None and not isinstance(clock, Clock):
        raise TypeError(
            f"clock has the methods now, monotonic and wait, as ironflow_nb.testing.clock.SimClock, not {clock!r}"
        )
    parks = PARK_S if park_s is None else seconds(park_s)
    journal = _journal(where, read_only=read_only)
    from ironflow_nb.value_store.value_place import ValuePlace, keep_values_in

    keep_values_in(journal, values, system_entropy, partial(journal.exchange, durability=Durability.POWER))
    if clock is None and where.startswith(SERVERS):
        clock = ServerClock(lambda: journal.ahead)  # type: ignore[attr-defined]  # leases hold whatever a machine's clock says
    engine = Engine(journal, durability=chosen, clock=clock, park_s=parks)
    engine.codecs.place = ValuePlace(journal)
    engine.address = where if where.startswith(SERVERS) else journal.location
    engine.lanes.max_runs = _most("max_runs", max_runs, RUNS_VARIABLE)
    engine.lanes.max_steps = _most("max_steps", max_steps, STEPS_VARIABLE)
    return REGISTRY.adopt(engine)


def _most(option: str, given: int | None, variable: str) -> int | None:
    """Return how many may be at work at once, by the option or else the environment; None for any number."""
    if given is not None:
        return a_limit(option, given)
    found = os.environ.get(variable)
    return a_limit(variable, found) if found else None


def _journal(where: str, *, read_only: bool) -> Journal:
    # Imported late: importing the package loads no sqlite3.
    if where == MEMORY:
        from ironflow_nb.journal.sqlite_memory import SqliteMemoryJournal

        return SqliteMemoryJournal(SystemThreads().lock())
    if where.startswith(SERVERS):
        return _on_server(where, read_only=read_only)
    if "://" in where:
        scheme = where.partition("://")[0]
        raise ValueError(f"{scheme}:// names no journal; give the path of a file, or postgresql://user@host/database")
    from ironflow_nb.journal.sqlite_journal import SqliteJournal

    return SqliteJournal(Path(where), read_only=read_only)


def _on_server(url: str, *, read_only: bool) -> Journal:
    is_dynamodb, clock = url.startswith(SERVERS[-1]), SystemClock()
    try:
        if is_dynamodb:
            from ironflow_nb.dynamodb.dynamo_journal import DynamoJournal

            return DynamoJournal(url, clock, SystemThreads().wakeup().take, read_only=read_only)
        from ironflow_nb.journal.postgres_journal import PostgresJournal

        return PostgresJournal(url, read_only=read_only, now=clock.now)
    except ModuleNotFoundError as error:
        what = ("DynamoDB", "boto3", "dynamodb") if is_dynamodb else ("PostgreSQL", "psycopg and its pool", "postgres")
        said = "a journal on {} needs {}: pip install 'ironflow-nb[{}]'".format(*what)
        raise ModuleNotFoundError(said, name=error.name) from None
