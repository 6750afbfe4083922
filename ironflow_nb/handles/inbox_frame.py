"""The open questions of a journal as a DataFrame; a notebook shows it as a card with forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ironflow_nb.history.pictured_frame import WholeTextFrame

if TYPE_CHECKING:
    import pandas as pd

    from ironflow_nb.execution import Engine


class Inbox(WholeTextFrame):
    """The questions that are open, one row each. What is derived from it is a table."""

    _of_engine: Engine | None = None

    @property
    def engine(self) -> Engine | None:
        """The engine of the journal that it was read from; None if it was copied or loaded."""
        return self._of_engine

    @classmethod
    def of_rows(cls, frame: pd.DataFrame, engine: Engine) -> Inbox:
        """Return the rows as an inbox of that engine."""
        made = cls(frame)
        object.__setattr__(made, "_of_engine", engine)
        return made
