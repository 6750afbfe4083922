"""Steps with ``cache=``: results that runs share, each computed by one of them at a time.

Before its body runs, an attempt claims its identity and code in the journal. A run that finds them claimed
by a living process waits. A run that finds a result that is young enough takes it and records `StepReused`. A claim is
given back in the commit that records the result; a claim whose process died does not count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ironflow_nb.core.events import StepReused
from ironflow_nb.errors import ValueUnreadable
from ironflow_nb.execution.session.attempts import Attempt, AttemptResult, StoredResult
from ironflow_nb.execution.session.session import Session
from ironflow_nb.journal.ports import CachedResult

POLL_S: Final = 0.05
"""The seconds between two looks of an attempt that waits for the result of another run."""


def look(session: Session, attempt: Attempt) -> AttemptResult | CachedResult | None:
    """Return the result if there is one, or the claim of another owner; None once this attempt has claimed it."""
    max_age_s = attempt.spec.cache_s
    if max_age_s is None or attempt.claim is not None:
        return None
    access = session.access
    oldest = access.clock.now() - max_age_s * 1e6

    def is_fresh(found: CachedResult) -> bool:
        return not attempt.is_owed and found.output_id is not None and (found.finished_at or 0) >= oldest

    wanted = CachedResult(
        identity=attempt.call.place[0], code=attempt.code, run_id=session.run_id, step=attempt.step, owner=access.owner
    )
    found = _claim(session, attempt, wanted, is_fresh)
    if found is None or found.owner is not None:
        return found
    reused = _reused(session, attempt, found)
    return _claim(session, attempt, wanted, lambda _: False) if reused is None else reused


def _claim(
    session: Session, attempt: Attempt, wanted: CachedResult, is_fresh: Callable[[CachedResult], bool]
) -> CachedResult | None:
    """Claim for an attempt whose run goes on, and at its end gives back what is left; see `JournalAccess.claim`."""
    with session.lock:
        session.raise_if_late(attempt)
        found = session.access.claim(wanted, is_fresh)
        if found is None:
            attempt.claim = wanted
            session.writer.claims.add(wanted)
        return found


def _reused(session: Session, attempt: Attempt, found: CachedResult) -> AttemptResult | None:
    assert found.output_id is not None
    stored = session.access.value(found.output_id)
    if stored is None or stored.content is None:
        return None
    try:
        value = session.access.values.decode(stored)
    except ValueUnreadable:
        return None
    session.replayer.notices.shared(attempt.spec, found.run_id)
    identity, branch, nth = attempt.call.place
    event = StepReused(
        name=attempt.spec.name,
        index=attempt.index,
        identity=identity,
        code=attempt.code,
        output=found.output_id,
        origin_run_id=found.run_id,
        origin_step=found.step,
        branch=branch,
        nth=nth,
    )
    return AttemptResult(
        event, attempt.step, attempt.number,
        performed=attempt, value=value, stored=StoredResult(stored.value_id, stored.size),
    )  # fmt: skip
