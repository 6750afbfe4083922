"""The log of a run as a DataFrame that displays itself as text."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Final

import pandas as pd

from ironflow_nb.core.plain_text import plain

_MOST_LINES: Final = 1_000
"""Of longer logs only the last lines are displayed."""


class RunLog(pd.DataFrame):
    """A DataFrame with one line a row; it is displayed, and is as a `str`, the lines alone.

    What is derived from it is a plain DataFrame.
    """

    @property
    def _constructor(self) -> Callable[..., pd.DataFrame]:
        return pd.DataFrame

    def __str__(self) -> str:
        return "\n".join(self._shown(list(range(len(self)))))

    def __repr__(self) -> str:
        n_before = len(self) - _MOST_LINES
        rows = list(range(max(n_before, 0), len(self)))
        first = [f"... {n_before:,} lines before ..."] if n_before > 0 else []
        return "\n".join([*first, *self._shown(rows)])

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"

    def _shown(self, rows: list[int]) -> list[str]:
        """Return the lines of these rows, with a heading wherever another attempt goes on."""
        chosen = pd.DataFrame(self).iloc[rows]
        has_several = len(pd.DataFrame(self)[["step", "attempt"]].drop_duplicates()) > 1
        lines: list[str] = []
        before = None
        for step, attempt, level, text in chosen[["step", "attempt", "level", "text"]].itertuples(index=False):
            place = "flow" if pd.isna(step) else step, attempt
            if has_several and place != before:
                of = "" if attempt == 1 else f", {'continuation' if place[0] == 'flow' else 'attempt'} {attempt}"
                lines.append(f"-- {place[0]}{of}")
                before = place
            lines.append(plain(text if pd.isna(level) else f"{level} {text}"))
        return lines
