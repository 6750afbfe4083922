"""The moments of the runs that somebody moves through: a move does not read a long history again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from ironflow_nb.core.identity import RunId
from ironflow_nb.execution import Engine
from ironflow_nb.handles.slider import Moments

_MOST_RUNS: Final = 16


class KnownMoments:
    """The moments of the runs that were looked at last. Any thread may ask; those of one run are used by one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = engine.threads.lock()
        self._known: dict[RunId, tuple[AbstractContextManager[object], Moments]] = {}

    @contextmanager
    def of(self, run_id: RunId, make: Callable[[], Moments]) -> Iterator[Moments]:
        """Have the moments of the run to oneself; `make` returns those of a run that is not known."""
        with self._lock:
            known = self._known.pop(run_id, None) or (self._engine.threads.lock(), make())
            self._known[run_id] = known
            while len(self._known) > _MOST_RUNS:
                del self._known[next(iter(self._known))]
        lock, moments = known
        with lock:
            yield moments
