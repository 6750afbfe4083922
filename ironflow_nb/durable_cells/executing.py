"""The one step of a cell's run: its body, what it leaves behind, and what is recorded of that."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from ironflow_nb.core.events import StepCompleted
from ironflow_nb.durable_cells.body import execute
from ironflow_nb.durable_cells.cell import Cell
from ironflow_nb.durable_cells.kept import Kept, Left, is_over, keep
from ironflow_nb.durable_cells.looking import Asked, Missing, code_text, digest_of
from ironflow_nb.durable_cells.outputs import within_limit
from ironflow_nb.durable_cells.place import Place
from ironflow_nb.execution import runner
from ironflow_nb.execution.caching import shared
from ironflow_nb.execution.interrupts import INTERRUPTS
from ironflow_nb.execution.jobs import Job, Settled
from ironflow_nb.execution.scope import SCOPE
from ironflow_nb.execution.session import Session
from ironflow_nb.execution.settling import raised
from ironflow_nb.execution.stream import Piece
from ironflow_nb.execution.surroundings import say
from ironflow_nb.journal.ports import Cached
from ironflow_nb.values.records import Record


class Execution:
    """The one step of a cell's run. `record` is what it came to, and `kept` is there if it was executed here."""

    def __init__(self, place: Place, wanted: Asked, missing: Missing) -> None:
        self.record: Record | None = None
        self.kept: Kept | None = None
        self.outs: dict[str, Any] = {}
        self._place = place
        self._wanted = wanted
        self._is_said = missing.is_unreadable
        self._before = {name: place.namespace[name] for name in wanted.ins}
        self._bound = dict(place.namespace)

    def __call__(self) -> None:
        """Perform the step; called as the flow of the run."""
        __tracebackhide__ = True
        scope = SCOPE.get()
        assert scope is not None
        self.record = runner.call(self._wanted.spec, scope, (), self._wanted.ins, self._attempt)

    def _attempt(self, session: Session, job: Job) -> Settled:
        __tracebackhide__ = True
        if job.failed is not None:
            session.wait_until_due(job)
            self._place.namespace.update(self._before)
        if job.spec.cache_s is not None and (settled := shared(session, job)) is not None:
            return settled
        INTERRUPTS.check()  # one that came while the run was begun
        session.start(job, is_beside=False)
        # Flows that the cell calls are runs of their own: a cell that is executed again continues them.
        token = SCOPE.set(None)
        try:
            left = self._perform()
        except Exception as error:  # noqa: BLE001 -- whatever a body raises is its outcome
            _note(error, self._wanted.cell)
            self._refuse_retry(job, error)
            return raised(session, job, error)
        except BaseException as error:
            _note(error, self._wanted.cell)
            session.give_back(job)
            raise
        finally:
            SCOPE.reset(token)
        return self._settled(session, job, left)

    def _refuse_retry(self, job: Job, error: BaseException) -> None:
        """Let the attempt be the last one if the next could not begin with what it takes in as it was."""
        retries = self._wanted.cell.options.retries
        changed = self._changed() if job.n_failed < retries else ()
        if changed:
            job.n_failed = retries
            names = ", ".join(changed)
            error.add_note(
                f"ironflow: it is not tried again, for it has changed {names} in place; run the cell that makes "
                f"{names} first, or let this one work on a copy"
            )

    def _perform(self) -> Left:
        __tracebackhide__ = True
        place, cell = self._place, self._wanted.cell
        with place.stage.recording() as shown:
            value = execute(place.engine, cell, place.namespace)
            place.stage.show_result(value)
        self.outs = self._left()
        namespace = place.namespace
        return Left(
            outs=self.outs,
            gone=tuple(name for name in cell.uses.deletes if name not in namespace),
            brief=frozenset(cell.uses.contexts if cell.options.outs is None else ()),
            unsettled={name: namespace[name] for name, _ in cell.uses.unsettled if name in namespace},
            ins=self._wanted.ins,
            shown=within_limit(shown),
            code=code_text(self._wanted),
        )

    def _settled(self, session: Session, job: Job, left: Left) -> Settled:
        duration_s = session.ledger.clock.monotonic() - job.started_s
        self.kept = keep(session.ledger, left)
        self._warn()
        record = self.kept.values[-1]
        completed = StepCompleted(output=record.value_id.hex(), duration_s=duration_s)
        cached = None
        if job.claim is not None:
            cached = _cached(job.claim, record.value_id, session.ledger.clock.now(), duration_s, self.kept)
        piece = Piece(completed, job.step, job.attempt, job.row, self.kept.values, cached)
        return Settled(job, piece, value=self.kept.record)

    def _left(self) -> dict[str, Any]:
        """Return the names that the cell assigned and, if it was not told which, those it changed in place."""
        cell, namespace = self._wanted.cell, self._place.namespace
        if cell.options.outs is not None:
            missing = [name for name in cell.options.outs if name not in namespace]
            if missing:
                raise NameError(f"the cell {cell.name} has not assigned {', '.join(missing)}, which --out names")
            self._warn_of_changes()
            return {name: namespace[name] for name in cell.options.outs}
        names = dict.fromkeys([*cell.uses.assigns, *self._kept_changed(), *(self._new() if cell.uses.is_dark else ())])
        found = {name: namespace[name] for name in names if name in namespace}
        return {name: value for name, value in found.items() if not (name in cell.uses.contexts and is_over(value))}

    def _changed(self) -> list[str]:
        """Return the inputs that are not what they were, whatever is bound to their names by now."""
        engine, ins = self._place.engine, self._wanted.ins
        known = [name for name in ins if name not in self._wanted.opaque]
        return [name for name in known if digest_of(engine, self._before[name])[0] != ins[name]]

    def _kept_changed(self) -> list[str]:
        """Return those of them that are still bound to the same object."""
        return [name for name in self._changed() if self._place.namespace.get(name) is self._before[name]]

    def _new(self) -> list[str]:
        """Return the names that stand for something else than before; a magic does not show which it assigns."""
        uses, namespace = self._wanted.cell.uses, self._place.namespace
        known = {*uses.imports, *uses.defines, "In", "Out", "exit", "quit", "get_ipython"}
        found = [name for name in namespace if not name.startswith("_") and name not in known]
        return [name for name in found if namespace[name] is not self._bound.get(name)]

    def _warn_of_changes(self) -> None:
        left_out = [name for name in self._kept_changed() if name not in (self._wanted.cell.options.outs or ())]
        if left_out:
            names = ", ".join(left_out)
            say(
                f"{self._wanted.cell.name}: it changed {names} in place, which --out leaves out, so it is not changed "
                "where the cell is restored"
            )

    def _warn(self) -> None:
        assert self.kept is not None
        if self.kept.left_out and not self._is_said:
            names = ", ".join(f"{name} ({kind})" for name, kind in self.kept.left_out.items())
            say(f"{self._wanted.cell.name}: {names} of a with can't be stored, and is not there where it is restored")
        lost = self.kept.about.lost
        if lost and not self._is_said:
            names = ", ".join(f"{name} ({kind})" for name, (kind, _) in lost.items())
            others = ",".join(name for name in self.outs if name not in lost) or '""'
            say(
                f"{self._wanted.cell.name}: {names} can't be stored, so the cell runs again in each new kernel; "
                f"leave it out with --out {others}, or keep what it is made of, such as a path"
            )


def _cached(claim: Cached, output_id: Any, now: int, duration_s: float, kept: Kept) -> Cached:
    """Return what other notebooks may take; where something of it could not be stored, the claim, given back."""
    if kept.about.lost:
        return claim
    return replace(claim, owner=None, output_id=output_id, finished_at=now, duration_s=duration_s)


def _note(error: BaseException, cell: Cell) -> None:
    """Say what to do, after the user's own traceback."""
    how = "was interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    error.add_note(f"ironflow: the cell {cell.name} {how}; run it again, and the cells before it are restored")
