"""The card of a run in a front end with widgets: its picture, drawn once and patched, with controls and forms.

What a person asks for by a click is done on a thread of its own: the thread that hears of it may be one that executes
cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.plain_text import plain
from ironflow_nb.diagram.draw import PictureParts, draw_parts
from ironflow_nb.diagram.svg import element_id
from ironflow_nb.execution import Engine, logger
from ironflow_nb.handles.answer_forms import give_answer, table_of
from ironflow_nb.handles.continuation import continuation_of, defined_now
from ironflow_nb.handles.node_details import details_of
from ironflow_nb.handles.run import Run
from ironflow_nb.handles.run_picture import bundle_of, drawn
from ironflow_nb.history.log_tail import log_tail
from ironflow_nb.notebook.inner_card import InnerCards
from ironflow_nb.notebook.step_edits import fork_at_step, inject_value, planned_edit
from ironflow_nb.views.run_view import RunAction, RunView

WIDGET: Final = "application/vnd.jupyter.widget-view+json"
UNHEARD_S: Final = 5.0
"""After this time without a word of the front end there is none that shows widgets, or the kernel can't hear it."""
LATE_S: Final = 1.0
"""A front end with widgets answers sooner; an output that is replaced loses what was typed into it."""
_FIELDS: Final = (
    "status", "began_at", "ended_at", "progress", "waits", "lanes", "breakers", "actions",
)  # fmt: skip


class CardChannel(Protocol):
    """What a card sends through: a widget, or that of a card around it; see `CardWidget`."""

    model_id: str

    def change(self, part: Mapping[str, Any], elements: Mapping[str, str]) -> None:
        """Send what has changed."""

    def replace(self, frame: Mapping[str, Any]) -> None:
        """Send another frame."""

    def say(self, **content: Any) -> None:
        """Send something that is not part of the frame."""

    def repeat(self) -> None:
        """Send the whole frame."""

    def close(self) -> None:
        """Take the model away."""


MakeChannel = Callable[[Mapping[str, Any], Callable[[Mapping[str, Any]], None]], CardChannel]


class RunCard:
    """A card that follows one run."""

    def __init__(
        self, engine: Engine, view: RunView, acted: Callable[[], None], make: MakeChannel | None = None
    ) -> None:
        from ironflow_nb.notebook.card_widget import CardWidget

        self._engine = engine
        self._view = view
        self._parts = _parts(view)
        self._acted = acted
        self._began_s = self._bundled_s = engine.access.clock.monotonic()
        self._n_views = 0
        self._defined: object = None
        self._continuation: dict[str, Any] | None = None
        self.has_continued = False
        """Whether the run goes on because of a click here."""
        self._widget: CardChannel = (make or CardWidget)(self._frame(), self._hear)
        self._inner = InnerCards(engine, self._widget.say, RunCard)

    def _frame(self) -> dict[str, Any]:
        """Return all that the card shows; `now` tells the front end the clock of the run."""
        view = self._view
        about = {"run_id": view.run_id, "now": self._engine.clock.now(), "svg": drawn(view).svg}
        done = {"elements": self._parts.elements, "continuation": self._continuation}
        return {**about, **_fields(view, _FIELDS), **done}

    @property
    def is_heard(self) -> bool:
        """Whether a front end has made a model of it."""
        return self._n_views > 0

    @property
    def is_unheard(self) -> bool:
        """Whether no front end has shown it by now."""
        return not self.is_heard and self._engine.access.clock.monotonic() - self._began_s > UNHEARD_S

    def is_late(self) -> bool:
        """Return True, at most once a second, while no front end has shown it."""
        now_s = self._engine.access.clock.monotonic()
        if self.is_heard or now_s - self._bundled_s < LATE_S:
            return False
        self._bundled_s = now_s
        return True

    def bundle(self) -> dict[str, Any]:
        """Return what is displayed: the widget, and the picture for front ends without widgets."""
        address = {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}
        return {WIDGET: address, **bundle_of(drawn(self._view), is_moving=True)}

    def show(self, view: RunView) -> None:
        """Show what has changed, or another run."""
        if view.run_id != self._view.run_id:
            self._view, self._parts = view, _parts(view)
            self._widget.replace(self._frame())
            return
        change = view.delta(self._view)
        if not change:
            return
        parts = _parts(view)
        part = _fields(view, [name for name in _FIELDS if name in change.fields or name in change.parts])
        before, elements = self._parts.elements, parts.elements
        if parts.frame == self._parts.frame:
            elements = {name: text for name, text in elements.items() if before[name] != text}
        else:
            part["svg"] = drawn(view).svg
        self._view, self._parts = view, parts
        self._widget.change({**part, "now": self._engine.clock.now()}, elements)

    def look_at_code(self) -> None:
        """Show what a continuation would do, if the run can be continued, and was or has other code now."""
        defined, found = None, None
        if RunAction.RESUME in self._view.actions:
            defined = defined_now(self._engine, self._view.run_id)
        if defined == self._defined:
            return
        self._defined = defined
        if defined is not None:
            found = msgspec.to_builtins(continuation_of(self._engine, self._view.run_id))
        if found != self._continuation:
            self._continuation = found
            self._widget.change({"continuation": found}, {})

    def close(self) -> None:
        """Take the model away; its output was replaced before.

        A page that was loaded anew can't replace outputs that it has not made, so there the card stays, with the last
        state of the run.
        """
        self._inner.close()
        if self._n_views <= 1:
            self._widget.close()

    # -- what a person asks for ------------------------------------------------------------------------------------

    def _hear(self, content: Mapping[str, Any]) -> None:
        self._n_views += content.get("do") == "hello"
        self._engine.threads.spawn("ironflow-card", lambda: self._do(content))

    def _do(self, content: Mapping[str, Any]) -> None:
        try:
            match content:
                case {"do": "hello"}:
                    self._widget.repeat()
                case {"do": "details", "element": str(element)}:
                    self._widget.say(details=self._details(element, content.get("items")))
                case {"do": "open" | "close" | "run"}:
                    self._inner.act(content)
                    return
                case {"do": str(action)}:
                    self.has_continued |= action in {RunAction.RESUME, RunAction.RETRY}
                    self._widget.say(done=action, **_perform(self._engine, self._view.run_id, action, content))
        except Exception as error:  # noqa: BLE001 -- the person who clicked is told
            logger().debug("the card of run %s was asked for %s", self._view.run_id, content, exc_info=True)
            self._widget.say(error=plain(f"{error}"), of=content.get("do"))
        self._acted()

    def _details(self, element: str, items: Any) -> Any:
        prefix = _prefix(self._view)
        shown = next((each for each in self._view.nodes if element_id(each.node.id, prefix) == element), None)
        if shown is None:  # several nodes are shown as one
            return {"node_id": element, "label": "", "steps": []}
        chosen = None if items is None else (int(items[0]), int(items[1]))
        return msgspec.to_builtins(details_of(self._engine, self._view.run_id, shown, chosen))


def _perform(engine: Engine, run_id: RunId, action: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Do what was asked for; return what is answered."""
    run = Run[Any](engine, run_id)
    match action:
        case RunAction.PAUSE:
            run.pause()
        case RunAction.RESUME:
            run.resume(keep=content.get("keep"), rerun=content.get("rerun"))
        case RunAction.CANCEL:
            run.cancel()
        case RunAction.RETRY:
            run.resume(retry="failed")
        case RunAction.ANSWER:
            give_answer(engine, run_id, content)
        case RunAction.SIGNAL:
            run.signal(content["name"], _payload(content.get("line", "")))
        case RunAction.INJECT:
            return {"told": inject_value(run, content)}
        case RunAction.FORK:
            return {"told": fork_at_step(engine, run, content)}
        case "plan":
            return {"planned": planned_edit(engine, run_id, content), "step": content["step"]}
        case "table":
            return {"table": msgspec.to_builtins(table_of(engine, run_id, content["step"])), "step": content["step"]}
        case "log":
            with engine.reading() as reader:
                return {"log": log_tail(reader, run_id)}
        case _:
            raise ValueError(f"a card has no {action!r}")
    return {}


def _payload(line: str) -> Any:
    """Return the payload of a signal that a person has typed: JSON, or a text; None for nothing."""
    try:
        return msgspec.json.decode(line) if line.strip() else None
    except msgspec.DecodeError:
        return line


def _fields(view: RunView, names: Any) -> dict[str, Any]:
    return {name: msgspec.to_builtins(getattr(view, name)) for name in names}


def _parts(view: RunView) -> PictureParts:
    return draw_parts(view.shown, prefix=_prefix(view))


def _prefix(view: RunView) -> str:
    return f"iron-{view.run_id}"
