"""Circuit breakers: after failures, a service that many steps call is not called for a while."""

from __future__ import annotations

from collections.abc import Sequence

from ironflow_nb.core.breaker_rules import BreakerRule, BreakerStatus
from ironflow_nb.core.identity import RunId
from ironflow_nb.execution import REGISTRY
from ironflow_nb.journal.breaker_rows import ChangedBreaker, breakers_of
from ironflow_nb.journal.ports import Durability, Reader, RunCommit


class Breaker(BreakerRule, frozen=True):
    """A circuit breaker of steps and nodes, shared by all processes: ``@step(breaker=iron.Breaker("api"))``.

    After `failures` attempts in a row that failed it is open for `open_s` seconds: attempts do not begin, they wait,
    and nothing fails because of it. Then one attempt begins, over all processes on the journal, and decides: if it
    succeeds all others begin, if it fails the breaker is open again. An error after which another try makes no sense,
    such as `NotRetryable`, does not count as a failure of the service. `breakers` lists them.
    """

    @property
    def status(self) -> BreakerStatus:
        """Whether it lets attempts begin now."""
        engine = REGISTRY.engine()
        with engine.reading() as reader:
            state = breakers_of(reader).breaker(self.name)
        return BreakerStatus.CLOSED if state is None else state.status(engine.clock.now())

    def reset(self) -> None:
        """Close it. Waiting attempts begin, those in other processes within a second."""
        engine = REGISTRY.engine()

        def act(reader: Reader) -> Sequence[RunCommit]:
            state = breakers_of(reader).breaker(self.name)
            if state is None:
                return []
            closed = ChangedBreaker(state.closed(engine.clock.now()))
            return [RunCommit(run_id=RunId(""), events=(), additions=(closed,))]

        engine.access.exchange(act, Durability.PROCESS)
