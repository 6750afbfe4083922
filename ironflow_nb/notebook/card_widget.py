"""The widgets of cards. Imported when one is shown in a front end, for their libraries take long to import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anywidget
import traitlets

from ironflow_nb.notebook.static_modules import module_text, style_text


class CardWidget(anywidget.AnyWidget):
    """The model of one card. A view that comes later is given the latest frame; those that are there get changes."""

    _esm = module_text("run_card.js")
    _css = style_text("run_card.css")
    frame = traitlets.Dict().tag(sync=True)

    def __init__(self, frame: Mapping[str, Any], heard: Callable[[Mapping[str, Any]], None]) -> None:
        self._latest = dict(frame)
        super().__init__(frame=self._latest)
        _keep_own_shell(self.comm)
        self.on_msg(lambda _, content, __: heard(content))

    def change(self, part: Mapping[str, Any], elements: Mapping[str, str]) -> None:
        """Send what has changed: fields of the frame, and parts of its picture."""
        self._latest = {**self._latest, **part, "elements": {**self._latest["elements"], **elements}}
        self.send({"change": part, "elements": dict(elements)})

    def replace(self, frame: Mapping[str, Any]) -> None:
        """Send another frame."""
        self._latest = dict(frame)
        self.repeat()

    def say(self, **content: Any) -> None:
        """Send something that is not part of the frame."""
        self.send(content)

    def repeat(self) -> None:
        """Send the whole frame, to a view that may have missed changes."""
        self.send({"frame": self._latest})

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> Any:  # noqa: FBT001, FBT002 -- as inherited
        """Return the state of the model, with the latest frame."""
        state = super().get_state(key, drop_defaults)
        return {**state, "frame": self._latest} if "frame" in state else state

    def __repr__(self) -> str:
        return "<card of a run>"


class JournalCardWidget(CardWidget):
    """The model of a card of a journal."""

    _esm = module_text("journal_card.js")

    def __repr__(self) -> str:
        return "<card of a journal>"


class DashboardWidget(CardWidget):
    """The model of a dashboard."""

    _esm = module_text("dashboard.js")
    _css = style_text("run_card.css", "dashboard.css")

    def __repr__(self) -> str:
        return "<dashboard>"


class SliderWidget(CardWidget):
    """The model of a slider over the moments of a run."""

    _esm = module_text("slider.js")
    _css = style_text("run_card.css", "slider.css")

    def __repr__(self) -> str:
        return "<slider over the moments of a run>"


class DeciderWidget(CardWidget):
    """The model of the card of a decider."""

    _esm = module_text("decider_card.js")
    _css = style_text("run_card.css", "slider.css", "decider_card.css")

    def __repr__(self) -> str:
        return "<card of a decider>"


def _keep_own_shell(comm: Any) -> None:
    """Have messages of the front end handled while a cell is executed, in the subshell that they are sent to.

    ipykernel 7.4 hands them to the shell that has published last on the comm, which is the one that is busy.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _, default: default  # noqa: SLF001 -- there is no public way
