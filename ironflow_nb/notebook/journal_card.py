"""Cards of a journal: runs that somebody has to look after, and the questions of all runs, with what a click does.

A card has an output of its own. Its text is there at once, the card comes when its libraries are imported, and the
text takes its place again when nothing has happened there for long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.plain_text import plain
from ironflow_nb.execution import Engine, logger
from ironflow_nb.handles.answer_forms import give_answer, table_of
from ironflow_nb.handles.continuation import continuation_of
from ironflow_nb.handles.run import Run
from ironflow_nb.handles.run_picture import drawn, view_of
from ironflow_nb.handles.run_progress import progress_of
from ironflow_nb.notebook.live_pictures import IDLE_S, KEPT_S, new_display_id, show_bundle, update
from ironflow_nb.views.inbox_view import InboxView
from ironflow_nb.views.run_view import RunAction
from ironflow_nb.views.unfinished_view import UnfinishedView

if TYPE_CHECKING:
    from ironflow_nb.notebook.card_widget import CardWidget

WIDGET: Final = "application/vnd.jupyter.widget-view+json"
UNHEARD_S: Final = 60.0
"""After this time without a word of the front end the text stays. A kernel may first import much in the next cells."""
LATE_S: Final = 1.0


View = TypeVar("View", UnfinishedView, InboxView)


class JournalOutput(Generic[View]):
    """One output with a card of a journal."""

    def __init__(self, engine: Engine, read: Callable[[], View], words: Callable[[View], Mapping[str, str]]) -> None:
        self._engine = engine
        self._read: Callable[[], View] = read
        self._words: Callable[[View], Mapping[str, str]] = words
        self._display_id = new_display_id(engine)
        self._view: View = read()
        self._text = words(self._view)
        self._wakeup = engine.threads.wakeup()
        self._widget: CardWidget | None = None
        self._n_views = 0
        self._began_s = self._moved_s = engine.access.clock.monotonic()
        self._is_settled = False

    def begin(self) -> None:
        """Display the text, and then the card, which is kept up to date by a thread."""
        show_bundle(self._display_id, dict(self._text))
        self._engine.threads.spawn("ironflow-journal-card", self._keep_up)

    def settle(self) -> None:
        """Replace the card by its text."""
        self._is_settled = True
        self._wakeup.set()

    def _keep_up(self) -> None:
        from ironflow_nb.notebook.card_widget import JournalCardWidget

        try:
            self._widget = JournalCardWidget(self._frame(), self._hear)
            late_s = LATE_S
            while not self._is_over():
                if self._n_views == 0:  # a front end that is late shows the text, or an earlier output
                    update(self._display_id, self._bundle())
                # While a cell is executed no word of the front end is heard, and each update shows the card anew.
                self._wakeup.take(late_s if self._n_views == 0 else IDLE_S)
                late_s *= 2
                if not self._engine.access.is_closed:
                    self._look()
        except Exception:  # noqa: BLE001 -- without a card there is the text
            logger().debug("no card of %s", self._engine.journal.location, exc_info=True)
        self._end()

    def _is_over(self) -> bool:
        now_s = self._engine.access.clock.monotonic()
        is_unheard = self._n_views == 0 and now_s - self._began_s > UNHEARD_S
        is_left = now_s - self._moved_s > KEPT_S
        return self._is_settled or self._engine.access.is_closed or is_unheard or is_left

    def _look(self) -> None:
        view = self._read()
        if view != self._view:
            self._view, self._text = view, self._words(view)
            self._moved_s = self._engine.access.clock.monotonic()
            assert self._widget is not None
            self._widget.replace(self._frame())

    def _end(self) -> None:
        update(self._display_id, dict(self._text))
        if self._widget is not None and self._n_views <= 1:  # a page that was loaded anew can't replace its output
            self._widget.close()

    def _frame(self) -> dict[str, Any]:
        return {"now": self._engine.clock.now(), **msgspec.to_builtins(self._view)}

    def _bundle(self) -> dict[str, Any]:
        assert self._widget is not None
        address = {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}
        return {WIDGET: address, **self._text}

    # -- what a person asks for ------------------------------------------------------------------------------------

    def _hear(self, content: Mapping[str, Any]) -> None:
        self._n_views += content.get("do") == "hello"
        self._moved_s = self._engine.access.clock.monotonic()
        self._engine.threads.spawn("ironflow-card", lambda: self._do(content))

    def _do(self, content: Mapping[str, Any]) -> None:
        widget = self._widget
        if widget is None:
            return
        try:
            if content.get("do") == "hello":
                widget.repeat()
            else:
                about = {"of": content["run_id"], "step": content.get("step")}
                widget.say(done=content["do"], **about, **self._answer_to(content))
        except Exception as error:  # noqa: BLE001 -- the person who clicked is told
            logger().debug("a card was asked for %s", content, exc_info=True)
            widget.say(error=plain(f"{error}"), of=content.get("run_id"))
        self._wakeup.set()

    def _answer_to(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Do what was asked for; return what is answered."""
        engine, run_id = self._engine, RunId(content["run_id"])
        match content["do"]:
            case RunAction.RESUME:
                Run[Any](engine, run_id).resume()
            case RunAction.CANCEL:
                Run[Any](engine, run_id).cancel()
            case RunAction.ANSWER:
                give_answer(engine, run_id, content)
            case "table":
                return {"table": msgspec.to_builtins(table_of(engine, run_id, content["step"]))}
            case "inspect":
                return {"inspected": _inspected(engine, run_id)}
            case other:
                raise ValueError(f"a card of a journal has no {other!r}")
        return {}


def _inspected(engine: Engine, run_id: RunId) -> dict[str, Any]:
    """Return the picture of a run, and what its continuation would do."""
    view = view_of(run_id, progress_of(engine, run_id))
    picture = drawn(view)
    continuation = continuation_of(engine, run_id) if RunAction.RESUME in view.actions else None
    return {"svg": picture.svg, "text": picture.text, "continuation": msgspec.to_builtins(continuation)}


def show_card(
    engine: Engine, read: Callable[[], View], words: Callable[[View], Mapping[str, str]]
) -> JournalOutput[View]:
    """Display a card of what is read; `words` makes the text of it that front ends without widgets show."""
    output = JournalOutput(engine, read, words)
    output.begin()
    return output
