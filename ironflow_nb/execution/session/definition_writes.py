"""What a stretch of a run leaves in the journal about the code that runs in it."""

from __future__ import annotations

from collections.abc import Callable

from ironflow_nb.code_identity.code_parts import encode_parts
from ironflow_nb.core.identity import Digest
from ironflow_nb.execution.recording.journal_access import RunStorage
from ironflow_nb.execution.recording.run_writer import RunWriter
from ironflow_nb.execution.session.attempts import Attempt
from ironflow_nb.journal.ports import StoredDefinition


class DefinitionWrites:
    """The definitions of one run that ride with its commits. Used under the session's lock, but for `take_flow`."""

    def __init__(self, stream: RunWriter) -> None:
        self._stream = stream
        self._steps: set[Digest] = set()
        self.of_flow: Callable[[], StoredDefinition] | None = None

    def flow(self) -> StoredDefinition | None:
        """Return what is known of the flow itself, if that is not written yet."""
        define = self.of_flow
        return None if define is None else define()

    def take_flow(self) -> StoredDefinition | None:
        """Return what is known of the flow itself, once; making it takes a while."""
        definition = self.flow()
        self.of_flow = None
        return definition

    def note_step(self, job: Attempt, storage: RunStorage) -> None:
        """Let the journal keep what the code of the job consists of, so that any process can tell what was edited."""
        if job.code in self._steps:
            return
        self._steps.add(job.code)
        tracked = job.spec.tracked
        if job.code not in self._stream.ledger.defined and tracked.digest == job.code:
            parts = encode_parts(tracked)
            of_step = StoredDefinition(
                definition_id=job.code, kind="step", name=job.spec.name, source=parts, diagram=""
            )
            self._stream.define(storage.definition(of_step))
