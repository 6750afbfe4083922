"""Projections that follow the journal in the background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ironflow_nb.deciders.projector import OutdatedProjection, Projector
from ironflow_nb.errors import IronflowError
from ironflow_nb.execution import logger

POLL_S: Final = 0.05
"""How often the position of the newest event is looked at, whoever wrote it."""
REST: Final = 4.0
"""A projection rests so many times as long as its last batch took, but at most a second: a large state is not written
for each event."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after so many failures without a good batch: 0.2 s, doubling to 5 s."""

    n_failures: int = 0

    @property
    def wait_s(self) -> float:
        """Seconds to wait before the next attempt."""
        return float(min(0.2 * 2 ** (min(self.n_failures, 10) - 1), 5.0)) if self.n_failures else 0.0

    def failed(self) -> Backoff:
        """Return what to wait after one more failure."""
        return Backoff(self.n_failures + 1)


class Follower:
    """A thread that folds what is committed, here or elsewhere, until it is stopped or its engine closed."""

    def __init__(self, projector: Projector, name: str) -> None:
        self._projector = projector
        self._access = projector.engine.access
        self._clock = self._access.clock
        self._wakeup = projector.engine.threads.wakeup()
        self._name = name
        self._reached = -1
        self._said: str | None = None
        self._backoff = Backoff()
        self.is_stopped = False
        projector.engine.threads.spawn(f"ironflow-projection-{name}", self._run)

    @property
    def is_live(self) -> bool:
        """Tell whether it goes on following."""
        return not (self.is_stopped or self._access.is_closed)

    def stop(self) -> None:
        """Let it end after its batch."""
        self.is_stopped = True
        self._wakeup.set()

    def _run(self) -> None:
        try:
            while self.is_live:
                self._look()
        except BaseException as error:  # noqa: BLE001 -- nobody else would tell that nothing is folded any more
            logger().error("projection %s is not followed in the background any more: %r", self._name, error)
        finally:
            self.is_stopped = True

    def _look(self) -> None:
        try:
            rest_s = self._follow()
        except OutdatedProjection:
            logger().warning(
                "projection %s: another process folds it with other code, so it is not followed here any more; run "
                "the cell that defines it again, and start() it",
                self._name,
            )
            self.is_stopped = True
        except IronflowError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 -- no memory, too many open files: it is tried again
            self._access.background_errors.note(f"folding events of {self._name}", error)
            self._wait_longer()
        else:
            self._backoff = Backoff()
            self._clock.wait(self._wakeup, rest_s)

    def _follow(self) -> float:
        """Fold what is there; return how many seconds to rest then."""
        with self._access.current() as reader:
            newest = reader.last_position()
        if newest == self._reached:
            return POLL_S
        began_s = self._clock.monotonic()
        while self.is_live and self._projector.step(gives_way=True):
            self._backoff = Backoff()
        self._reached, self._said = newest, None
        return min(max(POLL_S, REST * (self._clock.monotonic() - began_s)), 1.0)

    def _fail(self, error: IronflowError) -> None:
        if not self.is_live:
            return
        if str(error) != self._said:  # and not at every further attempt
            self._said = str(error)
            logger().warning("%s", error)
        self._wait_longer()

    def _wait_longer(self) -> None:
        self._backoff = self._backoff.failed()
        self._clock.wait(self._wakeup, self._backoff.wait_s, is_idle=True)
