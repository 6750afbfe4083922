"""The engine's one thread of its own: commits what nobody waits for, and shows that the engine lives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from ironflow_nb.core.identity import RunId
from ironflow_nb.errors import IronflowError
from ironflow_nb.execution.recording.journal_access import JournalAccess
from ironflow_nb.execution.session.run_phase import StopRequest, is_stop
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.session.wait_state import settle_waits
from ironflow_nb.execution.system.frontend import logger
from ironflow_nb.execution.system.process_identity import HEARTBEAT_S
from ironflow_nb.execution.system.system import Threads

FLUSH_S: Final = 0.05
RESTS_AFTER: Final = 20
"""Ticks without a run after which the worker rests."""


class BackgroundThread:
    """Ticks every 50 ms while there are sessions, and rests some time after the last of them."""

    def __init__(self, access: JournalAccess, sessions: dict[RunId, Session], threads: Threads) -> None:
        self._access = access
        self._sessions = sessions
        self._threads = threads
        self._wakeup = threads.wakeup()
        self._is_running = False
        self._is_stopped = False
        self._is_resting = False
        self._beat_s = 0.0
        self._token = -1
        self._lock = threads.lock()

    def look_after(self, session: Session) -> None:
        """Add the session, and start the thread if it does not run."""
        with self._lock:
            self._sessions[session.run_id] = session
            if self._is_resting:
                self._is_resting = False
                self._wakeup.set()
            if self._is_running:
                return
            self._is_running = True
        self._beat_s = self._access.clock.monotonic()
        try:
            self._threads.spawn("ironflow-worker", self._run)
        except Exception as error:  # noqa: BLE001 -- the run can do without for a while; the next one tries again
            self._is_running = False
            self._access.background_errors.note("starting the background thread", error)

    def let_go(self, session: Session) -> None:
        """Forget the session if it is over: not one in which its run has been continued meanwhile."""
        with self._lock:
            if session.is_over and self._sessions.get(session.run_id) is session:
                del self._sessions[session.run_id]

    def stop(self) -> None:
        """Ask the thread to end soon."""
        self._is_stopped = True
        self._wakeup.set()

    def _run(self) -> None:
        n_idle = 0
        while not self._is_stopped:
            with self._lock:
                n_idle = 0 if self._sessions else n_idle + 1
                self._is_resting = n_idle > RESTS_AFTER
            # What rests is woken by a run that begins, and leaves that run's first events to its first step.
            if not self._wakeup.take(None if self._is_resting else FLUSH_S):
                self._tick()

    def _read_signals(self) -> None:
        """Pass on what other engines ask; that any of them has written something costs no query to know."""
        token = self._access.change_token() if self._sessions else self._token
        if token == self._token:
            return
        with self._access.current() as reader:
            signals = reader.signals([*self._sessions])
        for signal in signals:
            session = self._sessions.get(signal.run_id)
            if session is not None and is_stop(signal.name):
                session.stop(StopRequest(signal.name), signal.sent_by, signal.signal_id)
            elif session is not None and session.waits:
                settle_waits(session)
        self._token = token  # only now: what the journal refused is read again

    def _tick(self) -> None:
        for session in list(self._sessions.values()):
            self._try("interrupting a run", session.take_interrupt)
            self._try("stopping a run whose time is up", session.stop_if_out_of_time)
            self._try("writing what nobody waits for", session.flush)
            if session.waits.is_any_due:
                self._try("ending what is due", partial(settle_waits, session))
            self._try("letting go of a run", partial(self.let_go, session))
        self._try("reading signals", self._read_signals)
        now_s = self._access.clock.monotonic()
        if self._sessions and now_s - self._beat_s >= HEARTBEAT_S:
            self._beat_s = now_s
            self._try("writing a sign of life", self._access.beat)

    def _try(self, activity: str, act: Callable[[], None]) -> None:
        """Do one thing; an error of any kind leaves the thread alive, for everything else rests on it."""
        try:
            act()
        except IronflowError as error:
            # The next commit meets the same error and tells the user.
            logger().debug("%s: %s", activity, error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- user code may be met here: digests, sources
            self._access.background_errors.note(activity, error)
