"""The slider in a front end with widgets: one moment at a time is sent, as what differs from the one before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ironflow_nb.handles.slider import N_RECENT, Moments, ShownMoment, Slider, slider_bundle
from ironflow_nb.notebook.watched_card import WatchedCard
from ironflow_nb.views.moment_view import SliderView, sequence_text


class SliderContent:
    """What a slider shows and does. The handle ``a`` has the picture; ``b`` is the later moment of a comparison."""

    def __init__(self, moments: Moments) -> None:
        self._moments = moments
        self._view: SliderView | None = None
        self._at = 0
        self._other: int | None = None
        self._is_live = True
        self._shown: ShownMoment | None = None

    @property
    def is_over(self) -> bool:
        """See `CardContent`."""
        return self._view is not None and self._view.is_over

    def advance(self) -> Mapping[str, Any] | None:
        """See `CardContent`."""
        before, self._view = self._view, self._moments.look()
        if before == self._view:
            return None
        change: dict[str, Any] = {"view": msgspec.to_builtins(self._view)}
        if self._is_live:
            change |= self._moved(self._view.newest)
        return {"change": change}

    def frame(self) -> Mapping[str, Any]:
        """See `CardContent`."""
        shown = self._shown
        assert shown is not None
        about = {"view": msgspec.to_builtins(self._view), **self._about(shown)}
        return {**about, "svg": shown.draw().svg, "elements": shown.parts.elements}

    def frame_at(self, at: int | None, other: int | None, picture: str) -> Mapping[str, Any]:
        """Return all that is shown at a moment, by default the newest one; compared with another one if that is given.

        Of a picture that has this frame only the elements are returned.
        """
        self._view = self._moments.look()
        self.act({"do": "move", "at": at or 0, "other": other, "is_live": at is None})
        shown = self._shown
        assert shown is not None
        found = {"view": msgspec.to_builtins(self._view), **self._about(shown), "picture": shown.parts.frame}
        if not picture or picture != shown.parts.frame:
            found["svg"] = shown.draw().svg
        return {**found, "elements": shown.parts.elements}

    def _about(self, shown: ShownMoment) -> dict[str, Any]:
        recent = self._moments.changes(max(self._at - N_RECENT, 0), self._at)
        found = [] if self._other is None else self._moments.differences(*sorted((self._at, self._other)))
        return {
            "at": self._at,
            "other": self._other,
            "is_live": self._is_live,
            "change_at": msgspec.to_builtins(shown.change),
            "status": shown.status,
            "ghosts": shown.ghosts,
            "recent": msgspec.to_builtins(recent),
            "differences": msgspec.to_builtins(found),
        }

    def _moved(self, version: int) -> dict[str, Any]:
        """Go to a moment; return what differs from the one before."""
        before, self._at = self._shown, version
        shown = self._shown = self._moments.moment(version)
        about = self._about(shown)
        elements = shown.parts.elements
        if before is None or before.parts.frame != shown.parts.frame:
            return {**about, "svg": shown.draw().svg, "elements": elements}
        old = before.parts.elements
        return {**about, "elements": {name: text for name, text in elements.items() if old[name] != text}}

    def bundle(self) -> dict[str, str]:
        """See `CardContent`."""
        assert self._shown is not None
        assert self._view is not None
        return slider_bundle(sequence_text(self._view.title, self._moments.changes()), self._shown.draw())

    def act(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `CardContent`."""
        view = self._view
        assert view is not None
        match message:
            case {"do": "move", "at": int(at), "other": int() | None as other}:
                self._other = None if other is None else min(max(other, view.first), view.newest)
                self._is_live = bool(message.get("is_live"))
                wanted = view.newest if self._is_live else min(max(at, view.first), view.newest)
                return {"change": self._moved(wanted), "moved": True}
            case _:
                raise ValueError(f"a slider has no {message.get('do')!r}")


def show_slider(slider: Slider) -> WatchedCard:
    """Display a slider; it follows the history while that goes on."""
    from ironflow_nb.notebook.card_widget import SliderWidget

    content = SliderContent(slider.moments)

    def make(frame: Mapping[str, Any], heard: Callable[[Mapping[str, Any]], None]) -> SliderWidget:
        return SliderWidget(frame, heard)

    card = WatchedCard(slider.moments.engine, content, make)
    card.begin()
    return card
