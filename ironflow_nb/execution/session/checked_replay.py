"""The memory of a run that only checks the code of now against a recorded run: no call of it is performed."""

from __future__ import annotations

from typing import Any, NoReturn

from ironflow_nb.core.identity import Digest
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.core.status import FAILURES
from ironflow_nb.execution.definitions.run_request import ReplayCheck
from ironflow_nb.execution.definitions.step_spec import StepSpec
from ironflow_nb.execution.session.attempts import RecordedAnswer, StepCall, lost_result
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
        answer, _ = self._reused(spec, done, call, origin.outputs_of(done))
        assert answer is not None  # a loss raises
        return answer

    def _settle_loss(self, _spec: StepSpec, row: StepRow, why: str) -> NoReturn:
        raise lost_result(row, why)
