"""The background thread of an engine: it commits what no caller waits for, and renews the lease of the engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from ironflow_nb.core.identity import RunId
from ironflow_nb.errors import IronflowError
from ironflow_nb.execution.recording.journal_access import JournalAccess
from ironflow_nb.execution.recording.lane_desk import LaneDesk
from ironflow_nb.execution.session.run_phase import StopRequest, is_stop
from ironflow_nb.execution.session.session import Session
from ironflow_nb.execution.session.wait_state import is_root, note_waiting, park, rest, settle_waits, take_interrupt
from ironflow_nb.execution.steps.captured_streams import STREAMS
from ironflow_nb.execution.system.frontend import logger
from ironflow_nb.execution.system.process_identity import HEARTBEAT_S
from ironflow_nb.execution.system.system import Threads
from ironflow_nb.journal.ports import Signal

FLUSH_S: Final = 0.05
RESTS_AFTER: Final = 20
"""The number of ticks without a run after which the thread rests."""


PARK_S: Final = 60.0
"""A run in the background gives back its thread after all of it has waited for this time."""
N_HELD: Final = 100
"""The number of waiting runs that keep their threads until then; of more, those that wait longest give theirs back."""


LOOK_TICKS: Final = 20
"""The number of ticks after which lanes are examined although nothing was committed: a process may have died."""


class LooksForWaits(Protocol):
    """Continues runs that wait without an owner."""

    def look(self, *, is_new: bool) -> bool | None:
        """Continue what can go on; return True if more can at once, None if there is nothing to look for."""

    def finish(self) -> None:
        """Do what has to be done before the engine is closed."""


class BackgroundThread:
    """Ticks every 50 ms while there are sessions, and rests some time after the last of them."""

    waker: LooksForWaits | None = None

    def __init__(
        self,
        access: JournalAccess,
        sessions: dict[RunId, Session],
        threads: Threads,
        lanes: LaneDesk,
        park_s: float = PARK_S,
    ) -> None:
        self._access = access
        self._sessions = sessions
        self._lanes = lanes
        self._looked_at_lanes = 0
        self._threads = threads
        self._wakeup = threads.wakeup()
        self._is_running = False
        self._is_stopped = False
        self._is_resting = False
        self._beat_s = 0.0
        self._token = -1
        self._park_s = park_s
        self._is_watching = False
        self._n_idle = 0
        self._n_ticks = 0  # parking is timed by ticks: a simulated clock may jump
        self._is_new = True
        self._lock = threads.lock()

    def look_after(self, session: Session) -> None:
        """Add the session, and start the thread if it does not run."""
        with self._lock:
            self._sessions[session.run_id] = session
        self._start()

    def watch(self) -> None:
        """Look for runs that wait without an owner, as long as there are any."""
        with self._lock:
            self._is_watching = self._is_new = True
        self._start()

    def _start(self) -> None:
        with self._lock:
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
                self._is_new = True  # it may have been the last one that was looked after

    def stop(self) -> None:
        """Ask the thread to end soon."""
        self._is_stopped = True
        self._wakeup.set()

    def _run(self) -> None:
        while not self._is_stopped:
            self._try("ticking", self._rest_and_tick)

    def _rest_and_tick(self) -> None:
        with self._lock:
            self._n_idle = 0 if self._sessions or self._is_watching or self._access.owed else self._n_idle + 1
            self._is_resting = self._n_idle > RESTS_AFTER
        # A run that begins wakes the resting thread. The first events of that run are committed with its first
        # step.
        if not self._wakeup.take(None if self._is_resting else FLUSH_S):
            self._tick()

    def _read_signals(self) -> None:
        """Deliver the signals of other engines. Whether another engine has committed is known without a query."""
        token = self._access.change_token() if self._sessions or self._is_watching else self._token
        if token == self._token:
            return
        self._is_new = True
        if self._sessions:
            with self._access.current() as reader:
                signals = reader.signals([*self._sessions])
            for signal in signals:
                self._pass_on(signal)
        self._token = token  # only now: what the journal refused is read again

    def _pass_on(self, signal: Signal) -> None:
        session = self._sessions.get(signal.run_id)
        if session is not None and is_stop(signal.name):
            session.stop(StopRequest(signal.name), signal.sent_by, signal.signal_id)
        elif session is not None and session.waits:
            settle_waits(session)

    def _tick(self) -> None:
        self._n_ticks += 1
        now_s, ticked_s = self._access.clock.monotonic(), self._n_ticks * FLUSH_S
        held: list[tuple[float, Session]] = []
        for session in list(self._sessions.values()):
            if session.is_only_queued:
                continue
            self._try("interrupting a run", partial(take_interrupt, session))
            self._try("stopping a run whose time is up", session.stop_if_out_of_time)
            # A loop commits all of a gather at once, and resolves its promises without a call from another thread each.
            if session.loop_commits is not None and session.loop_commits.is_coming():
                self._try("beginning what is due", session.beside.begin_due)  # a loop at work may have one at each tick
            else:
                self._try("writing what nobody waits for", session.flush)
            if session.waits or session.child_runs:
                self._try("looking at what waits", partial(self._look_at, session, ticked_s, held))
            self._try("letting go of a run", partial(self.let_go, session))
        if self._sessions:
            STREAMS.renew()
        self._try("parking runs", partial(self._park, held, ticked_s))
        self._try("writing what is owed", self._access.write_owed)
        self._try("reading signals", self._read_signals)
        self._try("looking at lanes", self._look_at_lanes)
        self._try("continuing what waits", self._wake)
        if self._sessions and now_s - self._beat_s >= HEARTBEAT_S:
            self._beat_s = now_s
            self._try("writing a sign of life", self._access.beat)

    def _look_at(self, session: Session, now_s: float, held: list[tuple[float, Session]]) -> None:
        """End what is due, and note that all of the run waits, and since when."""
        if session.waits.is_any_due:
            settle_waits(session)
        since_s = note_waiting(session, now_s)
        if since_s == now_s and session.admission is not None:
            rest(session)
        if since_s is not None and session.waits.is_parkable and is_root(session):
            held.append((since_s, session))

    def _park(self, held: list[tuple[float, Session]], now_s: float) -> None:
        """Have runs give back their threads: those that have waited long, and the longest of too many."""
        held.sort(key=lambda each: each[0])
        for number, (since_s, session) in enumerate(held):
            if now_s - since_s >= self._park_s or len(held) - number > N_HELD:
                park(session)

    def _look_at_lanes(self) -> None:
        """Take places in lanes that other processes have given back, or have left when they died."""
        is_due = self._is_new or self._lanes.is_any_due or self._n_ticks - self._looked_at_lanes >= LOOK_TICKS
        if self._lanes.has_left or (self._lanes.is_waited_for and is_due):
            self._looked_at_lanes = self._n_ticks
            self._lanes.look()

    def _wake(self) -> None:
        """Continue runs that wait without an owner; rest if this process can wake none."""
        if self.waker is None or not (self._sessions or self._is_watching):
            return
        is_new, self._is_new = self._is_new, False
        try:
            found = self.waker.look(is_new=is_new)
        except BaseException:
            self._is_new = True
            raise
        if found is None:
            with self._lock:
                self._is_watching = self._is_new  # unless somebody has asked meanwhile
        else:
            self._is_watching, self._is_new = True, self._is_new or found

    def _try(self, activity: str, act: Callable[[], None]) -> None:
        """Do one thing; after an error of any kind the thread goes on, because all else depends on it."""
        try:
            act()
        except IronflowError as error:
            # The next commit meets the same error and tells the user.
            logger().debug("%s: %s", activity, error)
        # User code may be met here: digests, sources. What else there is, as the death of a simulated process, ends it.
        except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit) as error:  # noqa: BLE001
            self._access.background_errors.note(activity, error)
