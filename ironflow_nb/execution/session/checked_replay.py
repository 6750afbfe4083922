"""The memory of a run that only checks the code of now against a recorded run: no call of it is performed."""

from __future__ import annotations

from typing import Any

from ironflow_nb.core.identity import Digest
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.core.status import FAILURES
from ironflow_nb.errors import ValueUnreadable
from ironflow_nb.execution.definitions.run_request import ReplayCheck
from ironflow_nb.execution.definitions.step_spec import StepSpec
from ironflow_nb.execution.session.attempts import RecordedAnswer, StepCall, StoredResult
from ironflow_nb.execution.session.base_run import BaseRun
from ironflow_nb.execution.session.replay import Replayer


class CheckedReplayer(Replayer):
    """A memory that answers with what the origin has recorded, whatever its code was then, and refuses other calls."""

    is_check = True

    def __init__(self, check: ReplayCheck, *args: Any, **kwargs: Any) -> None:
        """Note in the `check` what is called; for the rest see `Replayer`."""
        super().__init__(*args, **kwargs)
        self._check = check

    def _ask_origin(self, origin: BaseRun, spec: StepSpec, _code: Digest, call: StepCall) -> RecordedAnswer:
        """Answer a call with what is recorded of it.

        Raises:
            ReplayDiffers: nothing is, or it had not ended.
            ValueUnreadable: it can't be read here.
        """
        found = origin.find(call.place)
        done = None if found is None else found.completed_with_any_code()
        if found is None or (done is None and found.latest.status not in FAILURES):
            raise self._check.refuse(origin.run_id, spec.name, call.arguments)
        self._check.called.add(found.latest.step)
        if done is None:
            return RecordedAnswer(error=self._failure(found.latest), place=call.place)
        self.n_reused += 1
        return self._result(origin, done, call)

    def _result(self, origin: BaseRun, row: StepRow, call: StepCall) -> RecordedAnswer:
        stored = self._stored(row, origin.outputs_of(row))
        if stored is None or stored.content is None:
            why = "it is not in the journal" if stored is None else (stored.read_error or "its content is missing")
            raise ValueUnreadable(
                f"the recorded result of {row.step} in run {origin.run_id} can't be read: {why}; put it back from a "
                "copy of the journal",
                run_id=origin.run_id,
                step=row.step,
            )
        kept = StoredResult(stored.value_id, stored.size, row.row_key)
        return RecordedAnswer(self._decoded(row, stored), kept=kept, place=call.place)
