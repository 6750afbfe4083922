"""What a front end shows of a run in its card, as plain values: a whole frame, and what makes it the next one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from ironflow_nb.diagram.draw import PictureParts, draw_parts
from ironflow_nb.diagram.svg import element_id
from ironflow_nb.handles.run_picture import drawn
from ironflow_nb.views.run_view import NodeView, RunView

_FIELDS: Final = (
    "status", "began_at", "ended_at", "progress", "waits", "lanes", "breakers", "actions",
)  # fmt: skip


class CardFrame(NamedTuple):
    """A view of a run, and the parts of its picture that can be replaced."""

    view: RunView
    parts: PictureParts

    def whole(self, now: int) -> dict[str, Any]:
        """Return all that the card shows; `now`, microseconds UTC, tells a front end the clock of the run.

        Of two frames of a run with the same `picture`, replacing elements makes one picture into the other.
        """
        about = {"run_id": self.view.run_id, "now": now, "picture": self.parts.frame, "svg": drawn(self.view).svg}
        return {**about, **_fields(self.view, _FIELDS), "elements": self.parts.elements}

    def change(self, since: CardFrame, now: int) -> dict[str, Any]:
        """Return what makes an earlier frame of the run into this one."""
        differing = self.view.delta(since.view)
        part = _fields(self.view, [name for name in _FIELDS if name in differing.fields or name in differing.parts])
        elements, before = self.parts.elements, since.parts.elements
        if self.parts.frame == since.parts.frame:
            elements = {name: text for name, text in elements.items() if before[name] != text}
        else:
            part |= {"picture": self.parts.frame, "svg": drawn(self.view).svg}
        return {"change": {**part, "now": now}, "elements": elements}


def card_frame(view: RunView) -> CardFrame:
    """Return the frame of a view; its picture is drawn for it."""
    return CardFrame(view, draw_parts(view.shown, prefix=card_prefix(view)))


def card_prefix(view: RunView) -> str:
    """Return the prefix of the ids in the picture of a card."""
    return f"iron-{view.run_id}"


def node_of_element(view: RunView, element: str) -> NodeView | None:
    """Return the node that is drawn as that element, or has that id; None for one that stands for several nodes."""
    prefix = card_prefix(view)
    return next((each for each in view.nodes if element in {each.node.id, element_id(each.node.id, prefix)}), None)


def _fields(view: RunView, names: Iterable[str]) -> dict[str, Any]:
    return {name: msgspec.to_builtins(getattr(view, name)) for name in names}
