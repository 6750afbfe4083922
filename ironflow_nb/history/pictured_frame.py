"""DataFrames that show a line and a picture above their rows."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Self

import pandas as pd

from ironflow_nb.diagram.draw import Picture

_SHOWN_ROWS = 60


class PicturedFrame(pd.DataFrame):
    """A DataFrame with a headline and a picture; what is derived from it has neither."""

    _metadata = ["headline", "picture"]  # noqa: RUF012 -- how pandas lets a subclass have attributes of its own
    headline: str = ""
    picture: Picture | None = None

    @classmethod
    def of_frame(cls, frame: pd.DataFrame, picture: Picture | None, headline: str = "") -> Self:
        """Return the rows of the frame, shown below the headline and the picture."""
        made = cls(frame)
        made.headline, made.picture = headline, picture
        return made

    @property
    def _constructor(self) -> Callable[..., pd.DataFrame]:
        return pd.DataFrame

    def __repr__(self) -> str:
        return f"{self.headline}\n{super().__repr__()}".lstrip("\n")

    def _repr_html_(self) -> str | None:
        with pd.option_context("display.max_rows", _SHOWN_ROWS, "display.max_colwidth", None):
            table: str | None = pd.DataFrame(self)._repr_html_()  # type: ignore[operator]
        picture = self.picture
        drawn = f"<div>{picture.html}</div>" if picture is not None and picture.html is not None else ""
        headline = f"<b>{escape(self.headline)}</b>" if self.headline else ""
        return f"<div>{headline}{drawn}{table}</div>"
