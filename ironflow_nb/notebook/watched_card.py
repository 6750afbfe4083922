"""An output with a card that is there while somebody looks at it; its text and tables are what a saved notebook keeps.

What a person asks for by a click is done on a thread of its own: the thread that hears of it may be one that executes
cells.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from ironflow_nb.core.plain_text import plain
from ironflow_nb.execution import Engine, logger
from ironflow_nb.notebook.live_pictures import can_show_card, new_display_id, show_bundle, update

if TYPE_CHECKING:
    from ironflow_nb.notebook.card_widget import CardWidget

WIDGET: Final = "application/vnd.jupyter.widget-view+json"
UNHEARD_S: Final = 60.0
"""After this time without a word of the front end there is none that shows widgets. Loading them may take a while."""
LATE_S: Final = 1.0
UNSEEN_S: Final = 600.0
"""After this time without a sign of somebody who looks, the text takes the place of the card."""
RESTING_FACTOR: Final = 25
"""The pause between two looks at the journal, in multiples of the time that a look takes."""
PAUSE_S: Final = (0.25, 2.0)
"""The shortest and the longest pause."""


class CardContent(Protocol):
    """What a card shows, and what it does when it is asked. One thread at a time uses it."""

    def advance(self) -> Mapping[str, Any] | None:
        """Look again; return what is sent to those who have the frame before, None if nothing is new."""

    def frame(self) -> Mapping[str, Any]:
        """Return all that is shown, as of the last look."""

    def act(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """Do what a message of the front end asks for; return the answer."""

    def bundle(self) -> dict[str, str]:
        """Return the text and what else a front end without widgets shows, as of the last look."""

    @property
    def is_over(self) -> bool:
        """Whether nothing will be new any more."""


MakeWidget = Callable[[Mapping[str, Any], Callable[[Mapping[str, Any]], None]], "CardWidget"]


class WatchedCard:
    """One output that shows a content, as a card if the front end has widgets."""

    def __init__(self, engine: Engine, content: CardContent, make: MakeWidget) -> None:
        self._engine = engine
        self._content = content
        self._make = make
        self._display_id = new_display_id(engine)
        self._lock = engine.threads.lock()
        self._wakeup = engine.threads.wakeup()
        self._widget: CardWidget | None = None
        self._n_views = self._n_shown = 0
        self._was_shown = False
        self._began_s = self._seen_s = engine.access.clock.monotonic()
        self._has_card = False
        self._shown: Mapping[str, str] = {}
        self._is_closed = False

    def begin(self) -> None:
        """Display it; where a person may see it, follow what it shows until the kernel or the journal is closed."""
        self._content.advance()
        is_seen = can_show_card()
        if is_seen:
            try:
                self._widget = self._make(self._content.frame(), self._hear)
                self._has_card = True
            except Exception:  # noqa: BLE001 -- without a card there is the text
                logger().debug("no card", exc_info=True)
        self._shown = self._content.bundle()
        show_bundle(self._display_id, self._bundle())
        if is_seen:
            atexit.register(self.settle)
            self._engine.threads.spawn("ironflow-watched-card", self._keep_up)

    def settle(self) -> None:
        """Put the text in the place of the card, for good."""
        self._is_closed = True
        self._wakeup.set()
        atexit.unregister(self.settle)
        if self._has_card:
            self._has_card = False
            with suppress(Exception):  # the kernel may have no front end any more
                update(self._display_id, self._bundle())

    def _bundle(self) -> dict[str, Any]:
        if self._widget is None or not self._has_card:
            return dict(self._shown)
        address = {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}
        return {WIDGET: address, **self._shown}

    def _keep_up(self) -> None:
        clock, pause_s = self._engine.access.clock, PAUSE_S[0]
        while True:
            self._wakeup.take(UNSEEN_S if self._is_hidden() else pause_s)
            if self._is_closed or self._engine.access.is_closed:
                self.settle()
                return
            if self._is_hidden():
                continue
            began_s = clock.monotonic()
            try:
                self._look(began_s)
            except Exception:  # noqa: BLE001 -- the journal can't be read now; the card stays as it is
                logger().debug("a card could not be renewed", exc_info=True)
            took_s = clock.monotonic() - began_s
            pause_s = min(max(PAUSE_S[0], RESTING_FACTOR * took_s), PAUSE_S[1])

    def _is_hidden(self) -> bool:
        """Return True if it was shown, and no output of the page shows it any more."""
        return self._has_card and self._was_shown and self._n_shown == 0

    def _look(self, now_s: float) -> None:
        self._take_away(now_s)
        with self._lock:
            new = self._content.advance()
            if new is not None and self._widget is not None:
                self._widget.say(**new)
        is_late = self._has_card and self._n_views == 0 and now_s - self._began_s > LATE_S
        if new is not None or is_late:
            self._shown = self._content.bundle()
            if not self._has_card or is_late:  # it may be an earlier output that is seen
                update(self._display_id, self._bundle())
        if self._content.is_over and not self._has_card:
            self.settle()

    def _take_away(self, now_s: float) -> None:
        """Replace a card that nobody sees. Its model stays: a page that is loaded anew may ask for it."""
        is_unheard = self._n_views == 0 and now_s - self._began_s > UNHEARD_S
        if self._has_card and (is_unheard or now_s - self._seen_s > UNSEEN_S):
            self._has_card = False
            self._shown = self._content.bundle()
            update(self._display_id, self._bundle())

    # -- what a person asks for ------------------------------------------------------------------------------------

    def _hear(self, message: Mapping[str, Any]) -> None:
        self._seen_s = self._engine.access.clock.monotonic()
        match message.get("do"):
            case "alive":
                return
            case "show" | "hide" as change:
                self._n_shown = max(self._n_shown + (1 if change == "show" else -1), 0)
                self._was_shown = True
                self._wakeup.set()
                return
            case "hello":
                self._n_views += 1
        self._engine.threads.spawn("ironflow-card", lambda: self._do(message))

    def _do(self, message: Mapping[str, Any]) -> None:
        widget = self._widget
        if widget is None:
            return
        try:
            with self._lock:
                if message.get("do") == "hello":
                    widget.replace(self._content.frame())
                    return
                answer, new = self._content.act(message), self._content.advance()
                for content in (answer, new):
                    if content:
                        widget.say(**content)
        except Exception as error:  # noqa: BLE001 -- the person who clicked is told
            logger().debug("a card was asked for %s", message, exc_info=True)
            widget.say(error=plain(f"{error}"), of=message.get("do"))
