"""The picture of a graph, before any run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ironflow_nb.core.ids import Digest
from ironflow_nb.errors import GraphInvalid
from ironflow_nb.graphs.formats.definition import Definition
from ironflow_nb.handles.pictures import bundle_of

if TYPE_CHECKING:
    from ironflow_nb.diagram.draw import Picture
    from ironflow_nb.diagram.model import Diagram


class Drawn:
    """What has a definition, and can be drawn."""

    @property
    def definition(self) -> Definition:
        """The compiled graph."""
        raise NotImplementedError

    @property
    def definition_id(self) -> Digest:
        """The identity of the definition."""
        raise NotImplementedError

    def to_mermaid(self) -> str:
        """Return the diagram of the graph in the language of Mermaid."""
        from ironflow_nb.diagram.mermaid import to_mermaid

        return to_mermaid(self.shape(), {})

    def shape(self) -> Diagram:
        """Return the diagram of the graph, before any run."""
        from ironflow_nb.graphs.shape import shape_of

        return shape_of(self.definition)

    def diagram(self) -> Picture:
        """Return the picture of the graph, before any run."""
        from ironflow_nb.diagram.draw import draw

        return draw(self.shape(), {}, prefix=f"iron-{self.definition_id.hex()[2:14]}")

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        try:
            return bundle_of(self.diagram())
        except GraphInvalid as error:
            return {"text/plain": str(error)}
