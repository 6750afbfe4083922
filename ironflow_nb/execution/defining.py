"""What a stretch of a run leaves in the journal about the code that runs in it."""

from __future__ import annotations

from collections.abc import Callable

from ironflow_nb.core.ids import Digest
from ironflow_nb.execution.jobs import Job
from ironflow_nb.execution.storage import Storage
from ironflow_nb.execution.stream import Stream
from ironflow_nb.journal.ports import Definition
from ironflow_nb.tracking.parts import encode_parts


class Definitions:
    """The definitions of one run that ride with its commits. Used under the session's lock, but for `take_flow`."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._steps: set[Digest] = set()
        self.of_flow: Callable[[], Definition] | None = None

    def flow(self) -> Definition | None:
        """Return what is known of the flow itself, if that is not written yet."""
        define = self.of_flow
        return None if define is None else define()

    def take_flow(self) -> Definition | None:
        """Return what is known of the flow itself, once; making it takes a while."""
        definition = self.flow()
        self.of_flow = None
        return definition

    def note_step(self, job: Job, storage: Storage) -> None:
        """Let the journal keep what the code of the job consists of, so that any process can tell what was edited."""
        if job.code in self._steps:
            return
        self._steps.add(job.code)
        tracked = job.spec.tracked
        if job.code not in self._stream.ledger.defined and tracked.digest == job.code:
            parts = encode_parts(tracked)
            of_step = Definition(definition_id=job.code, kind="step", name=job.spec.name, source=parts, diagram="")
            self._stream.define(storage.definition(of_step))
