"""The results for all runs that one run is computing."""

from __future__ import annotations

from collections.abc import Collection

from ironflow_nb.execution.jobs import Job
from ironflow_nb.execution.stream import Stream


class Claims:
    """The jobs of one run that hold a claim. Used under the session's lock."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._jobs: set[Job] = set()

    def add(self, job: Job) -> None:
        """Note that the job holds a claim."""
        self._jobs.add(job)

    def settle(self, job: Job) -> None:
        """Forget a claim that is given back in the commit of what the job came to."""
        self._jobs.discard(job)

    def give_back(self, job: Job) -> None:
        """Let other runs compute what this job was to compute for all of them."""
        claim, job.claim = job.claim, None
        if claim is not None:
            self._jobs.discard(job)
            self._stream.give_back(claim)

    def give_back_all_but(self, jobs: Collection[Job]) -> None:
        """Give back what is left over when the run ends; these jobs go on."""
        for job in self._jobs.difference(jobs):
            self.give_back(job)
