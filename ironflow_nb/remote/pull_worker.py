"""A worker over HTTP: it takes runs of a server, as many as it may at once, and executes them here."""

from __future__ import annotations

import os
from typing import Final

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.plain_text import counted
from ironflow_nb.errors import IronflowError, JournalError
from ironflow_nb.execution import SystemClock, SystemThreads, logger
from ironflow_nb.remote.http_run_server import HttpRunServer
from ironflow_nb.remote.remote_run import RemoteRun
from ironflow_nb.remote.wire_format import ClaimMessage, OfferedRun

_LOOK_S: Final = 0.1
_MAIL_LOOKS: Final = 3
"""The looks at runs between two requests for their signals."""
_WAIT_S: Final = 20.0
_LONGEST_PAUSE_S: Final = 10.0
_MOST_REFUSED: Final = 1000


class PullWorker:
    """Takes runs from `start` on, on a thread of its own, and executes each on an engine of its own."""

    def __init__(self, server: HttpRunServer, names: list[tuple[str, str]], n_runs: int) -> None:
        self._server, self._names, self._n_runs = server, names, n_runs
        self._runs: dict[RunId, RemoteRun] = {}
        self._refused: list[RunId] = []
        self._threads, self._clock = SystemThreads(), SystemClock()
        self._lock, self._wakeup = self._threads.lock(), self._threads.wakeup()
        self._is_stopped = False
        self.error: IronflowError | None = None
        """What ended the worker, if something did: the server does not allow it to work."""

    def start(self) -> None:
        """Take runs from now on."""
        logger().info(
            "worker %d works for %s, on %s at once", os.getpid(), self._server.url, counted(self._n_runs, "run")
        )
        logger().info("defined here: %s", ", ".join(f"{kind} {name}" for kind, name in self._names))
        self._threads.spawn("ironflow-claims", self._claim)

    def _claim(self) -> None:
        pause_s = _LOOK_S
        while not self._is_stopped:
            n_free = self._n_runs - len(self._runs)
            if n_free <= 0:
                self._clock.wait(self._wakeup, _LOOK_S)
                continue
            asked = ClaimMessage(f"{os.getpid()}", self._names, n_free, _WAIT_S, self._refused[-_MOST_REFUSED:])
            try:
                offered = self._server.claim(asked)
                pause_s = _LOOK_S
            except JournalError as error:
                if pause_s == _LOOK_S and not self._is_stopped:
                    logger().warning("%s; it is asked again", error)
                self._clock.wait(self._wakeup, pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
                continue
            except IronflowError as error:
                self.error = error
                return
            for each in offered:
                if each.run_id not in self._runs:  # else it is on its way, but slower than the server waits for it
                    self._begin(each)

    def _begin(self, offered: OfferedRun) -> None:
        try:
            run = RemoteRun(self._server, offered, self._server.url)
        except IronflowError as error:
            logger().warning("run %s can't be executed here: %s", offered.run_id, error)
            self._refused.append(offered.run_id)
            return
        with self._lock:
            self._runs[offered.run_id] = run

    def look(self) -> None:
        """Take the signals of the runs, and let go of those that are over."""
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            try:
                run.look()
                is_over = run.is_over
            except JournalError as error:
                logger().debug("run %s: %s", run.run_id, error)
                continue
            if is_over:
                self._let_go(run)

    def _let_go(self, run: RemoteRun) -> None:
        if run.is_refused:
            self._refused.append(run.run_id)
        run.end()
        with self._lock:
            self._runs.pop(run.run_id, None)

    def give_back(self) -> int:
        """Take no more runs, and give those back that are here at their next step or wait; return how many are left."""
        self._is_stopped = True
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            run.give_back()
        self.look()
        return len(self._runs)

    def end(self) -> None:
        """End at once; what is open goes on elsewhere."""
        self._is_stopped = True
        self._server.give_up()
        for run in list(self._runs.values()):
            self._let_go(run)
        self._server.close()
