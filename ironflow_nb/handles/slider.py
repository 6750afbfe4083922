"""The slider over a history: any moment of it as a picture, what differs between two, and the sequence of changes."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Final, NamedTuple, Protocol

from ironflow_nb.core.plain_text import plain
from ironflow_nb.diagram.draw import Picture, PictureParts
from ironflow_nb.execution import Engine
from ironflow_nb.views.moment_view import ChangeView, DifferenceView, SliderView, sequence_text

N_RECENT: Final = 12
_STYLE: Final = "max-height:30em;overflow:auto;font-size:12px"


class ShownMoment(NamedTuple):
    """One moment: its change, the status then, and its picture. `ghosts` are elements of what came later only.

    Of two moments with the same `parts.frame`, replacing elements makes one picture into the other.
    """

    change: ChangeView
    status: str
    parts: PictureParts
    draw: Callable[[], Picture]
    ghosts: tuple[str, ...] = ()


class Moments(Protocol):
    """The moments of one history: of a run, or of an instance of a decider. One thread at a time uses them."""

    engine: Engine

    def look(self) -> SliderView:
        """Look at what the history has by now.

        Raises:
            RunNotFound, InstanceNotFound, VersionNotFound: there is nothing of it.
        """

    def moment(self, version: int) -> ShownMoment:
        """Return the moment after the change of that version."""

    def changes(self, after: int = 0, until: int | None = None) -> list[ChangeView]:
        """Return the changes after a version, up to another one, in their order."""

    def differences(self, before: int, after: int) -> list[DifferenceView]:
        """Return what differs between the moments of two versions."""


class Slider:
    """The moments of a run, or of an instance of a decider, to be moved through.

    It displays itself: in a notebook with the extension as a slider, elsewhere as the last picture and the sequence of
    changes.
    """

    def __init__(self, moments: Moments) -> None:
        self.moments = moments

    @property
    def text(self) -> str:
        """The sequence of changes as text; of a long one the beginning and the end."""
        return sequence_text(self.moments.look().title, self.moments.changes())

    def __repr__(self) -> str:
        try:
            return self.text
        except Exception as error:  # noqa: BLE001 -- a repr never raises, also if the journal can't be read
            return plain(f"{type(error).__name__}: {error}")

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        try:
            view = self.moments.look()
            return slider_bundle(self.text, self.moments.moment(view.newest).draw())
        except Exception:  # noqa: BLE001 -- as above
            return {"text/plain": repr(self)}


def slider_bundle(text: str, picture: Picture) -> dict[str, str]:
    """Return a picture with the sequence of changes below it, for a notebook and what is saved of it."""
    below = f'<pre style="{_STYLE}">{escape(text)}</pre>'
    return {"text/plain": f"{picture.text}\n{text}", "text/html": f"<div>{picture.html or ''}{below}</div>"}
