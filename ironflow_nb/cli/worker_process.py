"""The process of a worker: it logs what it does, and ends gracefully."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from ironflow_nb.core.plain_text import are, counted
from ironflow_nb.core.status import RunKind
from ironflow_nb.errors import DefinitionError
from ironflow_nb.execution import MEMORY, REGISTRY, Engine, RunWorker, SystemClock, SystemThreads, logger, watch
from ironflow_nb.queues.message_queue import QUEUE
from ironflow_nb.remote.http_run_server import HttpRunServer
from ironflow_nb.remote.pull_worker import PullWorker
from ironflow_nb.remote.push_dispatcher import PushDispatcher

PAUSE_S: Final = 0.1


class StopSignals:
    """Counts the signals by which the process is asked to end; a handler may do no more, wherever it comes between."""

    def __init__(self) -> None:
        self.n = 0
        self.latest = 0
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, self._note)

    def _note(self, number: int, _frame: object) -> None:
        self.n += 1
        self.latest = number


def run_worker(engine: Engine, target: str) -> int:
    """Work on the journal of the engine until a signal ends it; return the exit code.

    Raises:
        DefinitionError: this process defines nothing that could be worked on, or the journal is in memory.
        JournalError: the journal can't be read.
    """
    work = Work(engine)
    if not work.names:
        raise DefinitionError(f"{target} defines no flow, graph, decider or queue, so there is nothing to work on")
    signals = StopSignals()
    work.begin()
    if not engine.journal.exists():
        logger().warning("there is no journal at %s yet; is it the one that the runs are in?", engine.journal.location)
    wakeup = engine.threads.wakeup()
    while not signals.n:
        engine.clock.wait(wakeup, PAUSE_S)
    return work.end(signals)


def run_pull_worker(url: str, key: str | None, target: str, n_runs: int) -> int:
    """Work on the runs of a server until a signal ends it; return the exit code.

    Raises:
        DefinitionError: it is no address, or this process defines nothing that could be executed.
        IronflowError: the server does not allow it.
    """
    names = [(kind.value, each.name) for kind in (RunKind.FLOW, RunKind.GRAPH) for each in REGISTRY.definitions(kind)]
    if not names:
        raise DefinitionError(f"{target} defines no flow or graph, so there is nothing to work on")
    worker = PullWorker(HttpRunServer(url, key), names, n_runs)
    signals, clock, wakeup = StopSignals(), SystemClock(), SystemThreads().wakeup()
    worker.start()
    while not signals.n and worker.error is None:
        clock.wait(wakeup, PAUSE_S)
        worker.look()
    is_said = False
    while signals.n < 2 and (n_left := worker.give_back()):
        if not is_said:
            logger().info("%s: %s given back at the next step", counted(n_left, "run"), are(n_left))
            is_said = True
        clock.wait(wakeup, PAUSE_S)
    worker.end()
    if worker.error is not None:
        raise worker.error
    logger().info("ended")
    return 0 if signals.n < 2 else 128 + signals.latest


class Dispatch:
    """What a process does of the due work of its journal if it executes nothing: runs begin, and workers have them."""

    def __init__(self, engine: Engine, pushes: Sequence[PushDispatcher] = ()) -> None:
        self._engine, self._pushes = engine, pushes
        self._queues: list[Any] = REGISTRY.definitions(QUEUE)
        engine.is_dispatcher = True

    def begin(self) -> None:
        """Begin runs that are due from now on.

        Raises:
            JournalError: the journal can't be read.
        """
        with self._engine.reading() as reader:
            reader.last_position()  # a journal that can't be read is told now
        logger().info("runs of %s are left to workers", self._engine.journal.location)
        watch(self._engine)
        for queue in self._queues:
            queue.start()
        for each in self._pushes:
            each.start()

    def end(self, signals: StopSignals) -> int:
        """End, after the stretches that were pushed; return the exit code."""
        for queue in self._queues:
            queue.stop()
        for each in self._pushes:
            each.stop()
        wakeup = self._engine.threads.wakeup()
        while signals.n < 2 and any(each.n_active for each in self._pushes):
            self._engine.clock.wait(wakeup, PAUSE_S)
        self._engine.close()
        logger().info("ended")
        return 0 if signals.n < 2 else 128 + signals.latest


class Work:
    """What a process does of the due work of its journal, from `begin` to `end`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._worker = RunWorker(engine)
        queues = REGISTRY.definitions(QUEUE)
        self._beside: list[Any] = [*REGISTRY.definitions(RunKind.DECIDER), *queues]
        """What has threads of its own, from `start` to `stop`."""
        self.names = [*self._worker.definitions(), *(f"{QUEUE} {each.name}" for each in queues)]

    def begin(self) -> None:
        """Execute from now on what is due.

        Raises:
            DefinitionError: the journal is in memory.
            JournalError: the journal can't be read.
        """
        engine = self._engine
        if engine.journal.location in {MEMORY, "memory"}:
            raise DefinitionError("a worker needs a journal on disk: --journal PATH")
        with engine.reading() as reader:
            reader.last_position()  # a journal that can't be read is told now
        for each in self._beside:
            each.start()
        logger().info("worker %d works on %s (durability %s)", os.getpid(), engine.journal.location, engine.durability)
        logger().info("defined here: %s", ", ".join(self.names) or "nothing")
        engine.wake_with(lambda _: self._worker, replaces=True)
        engine.watch()

    def end(self, signals: StopSignals) -> int:
        """Give up what goes on; after a second signal at once. Return the exit code."""
        self._worker.stop_claiming()
        for each in self._beside:
            each.stop()
        self._drain(signals)
        is_drained = signals.n < 2
        self._worker.log_ends()
        self._engine.close()
        logger().info("ended: %s", "nothing was cut off" if is_drained else "what was going on goes on elsewhere")
        if is_drained:
            return 0
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        return 128 + signals.latest

    def _drain(self, signals: StopSignals) -> None:
        wakeup, is_said = self._engine.threads.wakeup(), False
        while signals.n < 2 and (going_on := self._worker.drain()):
            if not is_said:
                n_runs = len(going_on)
                logger().info(
                    "%s: %s %s given up at the next step; once more ends the process at once",
                    signal.Signals(signals.latest).name, counted(n_runs, "run"), are(n_runs),
                )  # fmt: skip
                is_said = True
            self._engine.clock.wait(wakeup, PAUSE_S)
