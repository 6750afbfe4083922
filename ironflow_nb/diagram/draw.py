"""Pictures: SVG and text made from a diagram and the states of a run."""

from __future__ import annotations

import logging
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple

from ironflow_nb.core.plain_text import plain
from ironflow_nb.core.status import RunStatus
from ironflow_nb.diagram import svg
from ironflow_nb.diagram.collapse import MAX_NODES, reduced
from ironflow_nb.diagram.geometry import Layout
from ironflow_nb.diagram.layout import lay_out
from ironflow_nb.diagram.model import Diagram, without_dangling_edges
from ironflow_nb.diagram.sizes import label_sizes_of, sizes_of, xml_attribute, xml_text
from ironflow_nb.diagram.states import Caption, NodeState, RunFigures, with_blocks, with_left_out, with_recorded
from ironflow_nb.diagram.states import caption as caption_of
from ironflow_nb.diagram.svg import Tooltip
from ironflow_nb.diagram.text_forms import to_machine_text, to_text

NOTHING: Final = RunFigures()
_SIZE: Final = re.compile(r'<svg xmlns="[^"]*" (width="([0-9.]+)" height="([0-9.]+)")')
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A diagram drawn. `svg` is None if it could not be. The lines `below` it are part of its text, and of its HTML."""

    svg: str | None
    text: str
    tooltips: tuple[Tooltip, ...] = ()
    below: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", plain(self.text))

    @property
    def html(self) -> str | None:
        """The SVG as a document of its own within HTML: its titles are tooltips there, and its texts can be selected.

        JupyterLab shows SVG outputs as images, which have neither. Of SVG elements in HTML a front end that cleans what
        it does not trust leaves their words, in a heap; of this it leaves the image inside, as it was saved.
        """
        if self.svg is None or (size := _SIZE.match(self.svg)) is None:
            return None
        address = _address(self.svg)
        image = f'<img src="{address}" alt={xml_attribute(self.text)}>'
        # Without a colour scheme of its own a browser puts white behind it where the page is dark.
        about = f'type="image/svg+xml" {size[1]} style="color-scheme: normal"'
        return self._with_lines(f'<object data="{address}" {about}>{image}</object>')

    def _with_lines(self, drawn: str) -> str:
        lines = "".join(f"<div>{xml_text(plain(line))}</div>" for line in self.below)
        return f"<div>{drawn}{lines}</div>" if lines else drawn

    @property
    def moving_html(self) -> str | None:
        """The SVG as an image within HTML, its titles over it: replaced all the time, a document would flicker."""
        if self.svg is None or (size := _SIZE.match(self.svg)) is None:
            return None
        width, height = float(size[2]), float(size[3])
        style = "display: block; max-width: 100%; height: auto"
        image = f'<img src="{_address(self.svg)}" alt={xml_attribute(self.text)} style="{style}">'
        places = "".join(_place(tooltip, width, height) for tooltip in self.tooltips)
        whole = f'<div style="position: relative; display: inline-block; max-width: 100%">{image}{places}</div>'
        return self._with_lines(whole)


def _address(document: str) -> str:
    return f"data:image/svg+xml;base64,{b64encode(document.encode()).decode()}"


def _place(tooltip: Tooltip, width: float, height: float) -> str:
    """Return an empty box over the image, which may be drawn smaller than it is."""
    box = tooltip.box
    where = f"left: {box.left / width:.2%}; top: {box.top / height:.2%}"
    size = f"width: {box.width / width:.2%}; height: {box.height / height:.2%}"
    title = xml_text(tooltip.text).replace('"', "&quot;").replace("\n", "&#10;")
    return f'<span title="{title}" style="position: absolute; {where}; {size}"></span>'


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureParts:
    """The parts of a picture that change during a run: SVG groups by their ids, and the group of its edges.

    While `frame` stays the same, replacing the groups that differ makes one picture of the run into the next;
    with another frame the whole picture is another one.
    """

    frame: str
    elements: Mapping[str, str]


class ShownDiagram(NamedTuple):
    """A diagram with all that is shown in it: its states, also those that follow from others, and its caption."""

    diagram: Diagram
    states: Mapping[str, NodeState]
    caption: Caption


def draw(
    diagram: Diagram,
    states: Mapping[str, NodeState],
    *,
    run_status: RunStatus | None = None,
    run_id: str | None = None,
    figures: RunFigures = NOTHING,
    summary: str = "",
    prefix: str = "iron",
    max_nodes: int = MAX_NODES,
) -> Picture:
    """Draw the diagram with these states laid over it; it never raises.

    Args:
        diagram: what can happen; recorded steps that it lacks are added.
        states: what happened, by recorded step name.
        run_status: the status of the run, None for a flow that has not run.
        run_id: the id of the run; the picture shows its beginning, the text does not.
        figures: the figures above the picture of a run, besides its counts.
        summary: the text in place of the counts, for nodes that are not steps of a run.
        prefix: the prefix of the ids in the SVG; two pictures in one document need different ones.
        max_nodes: a larger diagram is shown reduced.
    """
    above = Caption(name=diagram.name, run_status=run_status, run_id=run_id, figures=figures, summary=summary)
    return draw_shown(shown_diagram(diagram, states, above), prefix=prefix, max_nodes=max_nodes)


def draw_shown(shown: ShownDiagram, *, prefix: str, max_nodes: int = MAX_NODES) -> Picture:
    """Draw what is shown; a large diagram is reduced. It never raises."""
    try:
        view = _reduced(shown, max_nodes)
        return _picture(view, prefix, to_text(view.diagram, view.states, caption=view.caption))
    except Exception:
        log.debug("the diagram of %r could not be reduced", shown.caption.name, exc_info=True)
        name, status = shown.caption.name, shown.caption.run_status
        return Picture(svg=None, text=name if status is None else f"{name}: {status}")


def draw_machine(diagram: Diagram, states: Mapping[str, NodeState], *, caption: Caption, prefix: str) -> Picture:
    """Draw a state machine; it never raises. The arguments are those of `draw`, the caption is written above."""
    try:
        shown = reduced(without_dangling_edges(diagram), states)
        view = ShownDiagram(shown.diagram, shown.states, caption)
        return _picture(view, prefix, to_machine_text(without_dangling_edges(diagram), states, caption=caption))
    except Exception:
        log.debug("the diagram of %r could not be prepared", caption.name, exc_info=True)
        return Picture(svg=None, text=caption.name)


def draw_parts(shown: ShownDiagram, *, prefix: str, max_nodes: int = MAX_NODES) -> PictureParts:
    """Return the parts of the picture that `draw_shown` gives for the same arguments; a failure gives none of them."""
    try:
        view = _reduced(shown, max_nodes)
        layout = _layout(view.diagram)
        elements = svg.elements(view.diagram, layout, view.states, caption=view.caption, prefix=prefix)
        frame = repr((layout, svg.picture_size(layout, view.caption), list(elements)))
        elements[svg.EDGES] = svg.edges_element(view.diagram, layout)
        digest = blake2b(frame.encode("utf-8", "replace"), digest_size=12).hexdigest()
        return PictureParts(frame=digest, elements=elements)
    except Exception:
        log.debug("the parts of %r could not be drawn", shown.caption.name, exc_info=True)
        return PictureParts(frame="", elements={})


def shown_diagram(diagram: Diagram, states: Mapping[str, NodeState], caption: Caption) -> ShownDiagram:
    """Return what is shown of a diagram: with the recorded steps that it lacks, and states that follow from others.

    Of a diagram that can't be shown the caption is left. It never raises.
    """
    try:
        whole = with_recorded(without_dangling_edges(diagram), states)
        above = caption_of(whole, states, caption)
        shown = with_left_out(whole, states, run_status=above.run_status)
        return ShownDiagram(*with_blocks(whole, shown, run_status=above.run_status), above)
    except Exception:
        log.debug("the diagram of %r could not be prepared", diagram.name, exc_info=True)
        return ShownDiagram(Diagram(diagram.name), {}, caption)


def _reduced(shown: ShownDiagram, max_nodes: int) -> ShownDiagram:
    return ShownDiagram(*reduced(shown.diagram, shown.states, max_nodes=max_nodes), shown.caption)


def _picture(view: ShownDiagram, prefix: str, text: str) -> Picture:
    try:
        layout = _layout(view.diagram)
        drawn = svg.render(view.diagram, layout, view.states, caption=view.caption, prefix=prefix)
        tooltips = svg.tooltips(view.diagram, layout, view.states, caption=view.caption)
    except Exception:
        log.debug("the diagram of %r could not be drawn", view.caption.name, exc_info=True)
        return Picture(svg=None, text=text)
    return Picture(svg=drawn, text=text, tooltips=tooltips)


def _layout(diagram: Diagram) -> Layout:
    return lay_out(diagram, sizes_of(diagram), label_sizes=label_sizes_of(diagram))
