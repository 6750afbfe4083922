"""The end of the log of a run, or of some steps of it, as lines."""

from __future__ import annotations

from collections.abc import Collection
from operator import attrgetter
from typing import Final

from ironflow_nb.core.identity import RunId, StepRef
from ironflow_nb.core.plain_text import plain
from ironflow_nb.journal.ports import Reader
from ironflow_nb.telemetry.telemetry_rows import TelemetryReader

_MOST_LINES: Final = 100


def log_tail(reader: Reader, run_id: RunId, steps: Collection[StepRef] | None = None) -> tuple[str, ...]:
    """Return the last lines that the run, or these steps of it, have written, by time.

    Where several have written, each line begins with its step.
    """
    found = reader.extension(TelemetryReader).logs(run_id)
    pieces = sorted([each for each in found if steps is None or each.step in steps], key=attrgetter("at"))
    pieces = pieces[-_MOST_LINES:]  # each has a line, or more
    has_several = len({each.step for each in pieces}) > 1
    lines = []
    for piece in pieces:
        place = f"{piece.step or 'flow'}: " if has_several else ""
        level = f"{piece.level} " if piece.level else ""
        lines += [plain(f"{place}{level}{line}") for line in piece.text.splitlines()]
    return tuple(lines[-_MOST_LINES:])
