"""Cards within a card: runs that were opened there. The card of each speaks through the one around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.status import ENDED
from ironflow_nb.execution import Engine, logger
from ironflow_nb.handles.run_picture import view_of
from ironflow_nb.handles.run_progress import Moment, progress_since
from ironflow_nb.history.lookup import resolve_run
from ironflow_nb.views.run_view import RunView

_EVERY_S: Final = 0.5
_AT_REST_S: Final = 2.0

Say = Callable[..., None]


class ShowsRun(Protocol):
    """The card of a run; see `RunCard`."""

    def show(self, view: RunView) -> None:
        """Show what has changed."""

    def close(self) -> None:
        """End what it follows."""


MakeRunCard = Callable[[Engine, Any, Callable[[], None], Any], ShowsRun]


class InnerCards:
    """The runs that are opened in one card. Its messages are those with ``open``, ``close`` and ``run``."""

    def __init__(self, engine: Engine, say: Say, make: MakeRunCard) -> None:
        self._engine = engine
        self._say = say
        self._make = make
        self._opened: dict[str, InnerCard] = {}

    def act(self, message: Mapping[str, Any]) -> bool:
        """Do what a message of the front end asks for; return False if it has another meaning."""
        match message:
            case {"do": "open", "run": str(run_id)}:
                self._open(run_id)
            case {"do": "close", "run": str(run_id)}:
                self._close(run_id)
            case {"do": "run", "run": str(run_id), "content": dict(content)}:
                if run_id in self._opened:
                    self._opened[run_id].hear({str(name): value for name, value in content.items()})
            case _:
                return False
        return True

    def close(self) -> None:
        """Stop following what is opened."""
        for run_id in list(self._opened):
            self._close(run_id)

    def _open(self, text: str) -> None:
        with self._engine.reading() as reader:
            run_id = resolve_run(reader, text).run_id
        self._close(run_id)
        card = self._opened[run_id] = InnerCard(self._engine, run_id, self._say, self._make)
        self._say(opened=run_id, run_frame=card.frame)
        self._engine.threads.spawn("ironflow-inner-card", card.keep_up)

    def _close(self, run_id: str) -> None:
        card = self._opened.pop(run_id, None)
        if card is not None:
            card.end()


class InnerCard:
    """The card of one run that was opened in another card."""

    model_id = ""

    def __init__(self, engine: Engine, run_id: RunId, say: Say, make: MakeRunCard) -> None:
        self._engine = engine
        self._run_id = run_id
        self._say = say
        self._wakeup = engine.threads.wakeup()
        self._is_closed = False
        self._moment: Moment | None = None
        self._moment, progress = progress_since(engine, run_id, None)
        assert progress is not None
        self.frame: Mapping[str, Any] = {}
        self._heard: Callable[[Mapping[str, Any]], None] = lambda _: None
        self._card = make(engine, view_of(run_id, progress), self._wakeup.set, self._begin)

    def _begin(self, frame: Mapping[str, Any], heard: Callable[[Mapping[str, Any]], None]) -> InnerCard:
        """Take the place of the widget of the card."""
        self.frame, self._heard = frame, heard
        return self

    def hear(self, content: Mapping[str, Any]) -> None:
        """Hear what the card asks for."""
        self._heard(content)

    def keep_up(self) -> None:
        """Show what changes in the run, until the card is closed."""
        while not self._is_closed and not self._engine.access.is_closed:
            is_at_rest = self._moment is not None and self._moment.status in ENDED
            self._wakeup.take(_AT_REST_S if is_at_rest else _EVERY_S)
            try:
                self._moment, progress = progress_since(self._engine, self._run_id, self._moment)
                if progress is not None:
                    self._card.show(view_of(self._run_id, progress))
            except Exception:  # noqa: BLE001 -- the journal can't be read now, or the run was deleted
                logger().debug("the card of run %s could not be renewed", self._run_id, exc_info=True)

    def end(self) -> None:
        """Stop following the run, and the runs that are opened in its card."""
        self.close()
        self._card.close()

    # -- as a widget: see `CardChannel` ----------------------------------------------------------------------------

    def change(self, part: Mapping[str, Any], elements: Mapping[str, str]) -> None:
        """Send what has changed."""
        self.frame = {**self.frame, **part, "elements": {**self.frame["elements"], **elements}}
        self.say(change=part, elements=dict(elements))

    def replace(self, frame: Mapping[str, Any]) -> None:
        """Send another frame."""
        self.frame = frame
        self.repeat()

    def repeat(self) -> None:
        """Send the whole frame."""
        self.say(frame=self.frame)

    def say(self, **content: Any) -> None:
        """Send something that is not part of the frame."""
        self._say(of_run=self._run_id, content=content)

    def close(self) -> None:
        """Stop following the run."""
        self._is_closed = True
        self._wakeup.set()
