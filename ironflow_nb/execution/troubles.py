"""Errors that the engine's own threads met and survived."""

from __future__ import annotations

from collections import Counter

from ironflow_nb.execution.surroundings import logger


class Troubles:
    """What the threads of one engine could not do, said once for each kind of error; any thread may note one.

    `counts` has how often each came, by what was being done and the class of the error, and `latest` its last message.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.latest: dict[tuple[str, str], str] = {}

    def note(self, activity: str, error: BaseException) -> None:
        """Note that `activity` met the error, and that its thread goes on."""
        kind = activity, type(error).__name__
        try:
            message = str(error)
        except Exception:  # noqa: BLE001 -- an error of the user's that can't say what it is
            message = "(no message)"
        self.latest[kind] = message
        self.counts[kind] += 1
        if self.counts[kind] == 1:
            logger().warning("the engine met %s: %s while %s; it goes on", kind[1], message, activity, exc_info=error)
