"""Background threads that fold new events into projections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ironflow_nb.deciders.projector import OutdatedProjection, Projector
from ironflow_nb.errors import IronflowError
from ironflow_nb.execution import logger

POLL_S: Final = 0.05
"""Seconds between two looks at the position of the newest event."""
REST: Final = 4.0
"""The rest after a batch as a multiple of its duration, but at most a second.

So a large state is not stored for each event."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """The wait after `n_failures` in a row: 0.2 s, doubling up to 5 s."""

    n_failures: int = 0

    @property
    def wait_s(self) -> float:
        """Seconds to wait before the next attempt."""
        return float(min(0.2 * 2 ** (min(self.n_failures, 10) - 1), 5.0)) if self.n_failures else 0.0

    def failed(self) -> Backoff:
        """Return the wait after one more failure."""
        return Backoff(self.n_failures + 1)


class Follower:
    """A thread that folds committed events until it is stopped or its engine is closed."""

    def __init__(self, projector: Projector, name: str) -> None:
        self._projector = projector
        self._access = projector.engine.access
        self._clock = self._access.clock
        self._wakeup = projector.engine.threads.wakeup()
        self._name = name
        self._reached = -1
        self._last_message: str | None = None
        self._backoff = Backoff()
        self.is_stopped = False
        projector.engine.threads.spawn(f"ironflow-projection-{name}", self._run)

    @property
    def is_live(self) -> bool:
        """Whether the thread runs."""
        return not (self.is_stopped or self._access.is_closed)

    def stop(self) -> None:
        """Stop after the current batch."""
        self.is_stopped = True
        self._wakeup.set()

    def _run(self) -> None:
        try:
            while self.is_live:
                self._fold_and_wait()
        except BaseException as error:  # noqa: BLE001 -- an error of a thread is not shown anywhere else
            logger().error("projection %s is not followed in the background any more: %r", self._name, error)
        finally:
            self.is_stopped = True

    def _fold_and_wait(self) -> None:
        try:
            rest_s = self._fold_new_events()
        except OutdatedProjection:
            logger().warning(
                "projection %s: another process folds it with other code, so it is not followed here any more; run "
                "the cell that defines it again, and start() it",
                self._name,
            )
            self.is_stopped = True
        except IronflowError as error:
            self._report_failure(error)
        except BaseException as error:  # noqa: BLE001 -- no memory, an exit of the user's: the next look tries again
            self._access.background_errors.note(f"folding events of {self._name}", error)
            self._wait_longer()
        else:
            self._backoff = Backoff()
            self._clock.wait(self._wakeup, rest_s)

    def _fold_new_events(self) -> float:
        """Fold all committed events; return the seconds to rest."""
        with self._access.current() as reader:
            newest = reader.last_position()
        if newest == self._reached:
            return POLL_S
        began_s = self._clock.monotonic()
        while self.is_live and self._projector.step(stops_if_outdated=True):
            self._backoff = Backoff()
        self._reached, self._last_message = newest, None
        return min(max(POLL_S, REST * (self._clock.monotonic() - began_s)), 1.0)

    def _report_failure(self, error: IronflowError) -> None:
        if not self.is_live:
            return
        if str(error) != self._last_message:  # once, not at every attempt
            self._last_message = str(error)
            logger().warning("%s", error)
        self._wait_longer()

    def _wait_longer(self) -> None:
        self._backoff = self._backoff.failed()
        self._clock.wait(self._wakeup, self._backoff.wait_s, is_idle=True)
