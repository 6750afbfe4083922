"""The results for all runs that one run is computing."""

from __future__ import annotations

from collections.abc import Collection

from ironflow_nb.core.identity import Digest
from ironflow_nb.execution.recording.run_writer import RunWriter
from ironflow_nb.execution.session.attempts import Attempt
from ironflow_nb.journal.ports import CachedResult


class CacheClaims:
    """The claims of one run, each held by the newest attempt of its step. Used under the session's lock."""

    def __init__(self, writer: RunWriter) -> None:
        self._writer = writer
        self._held: dict[tuple[Digest, Digest], CachedResult] = {}

    def add(self, claim: CachedResult) -> None:
        """Note that an attempt holds the claim."""
        self._held[claim.identity, claim.code] = claim

    def settle(self, attempt: Attempt) -> None:
        """Forget a claim that is given back in the commit of the attempt's result."""
        self._forget(attempt.claim)

    def give_back(self, attempt: Attempt) -> None:
        """Give back the claim of the attempt, so that other runs can compute the cached result."""
        claim, attempt.claim = attempt.claim, None
        if claim is not None and self._forget(claim):
            self._writer.give_back(claim)

    def give_back_all_but(self, attempts: Collection[Attempt]) -> None:
        """Give back what is left over when the run ends; these attempts go on."""
        for claim in {*self._held.values()} - {attempt.claim for attempt in attempts}:
            self._forget(claim)
            self._writer.give_back(claim)

    def _forget(self, claim: CachedResult | None) -> bool:
        """Take the claim from those that are held, if it is; a newer one of its place stays."""
        if claim is None or self._held.get((claim.identity, claim.code)) is not claim:
            return False
        del self._held[claim.identity, claim.code]
        return True
