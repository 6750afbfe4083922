"""The diagram of a flow, with what its names stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ironflow_nb.diagram.model import Diagram, NodeKind
from ironflow_nb.execution.spec import StepSpec
from ironflow_nb.flows.extract import extract
from ironflow_nb.flows.resolve import Described

if TYPE_CHECKING:
    from ironflow_nb.diagram.draw import Picture


def shape_of(spec: StepSpec) -> Diagram:
    """Return the diagram of the flow as its names resolve now."""
    found = extract(spec.function, describe)
    return Diagram(spec.name, found.nodes, found.edges)


def picture_of_flow(spec: StepSpec) -> Picture:
    """Return the picture of the flow before any run."""
    from ironflow_nb.diagram.draw import draw

    return draw(shape_of(spec), {}, prefix=f"iron-{spec.code.hex()[2:14]}")


def describe(value: object) -> Described | None:
    """Return what the value is in a diagram, if it is anything: a step, or a flow that is called in a flow."""
    kind = _KINDS.get(getattr(type(value), "__ironflow_definition__", ""))
    name = getattr(value, "name", None)
    return None if kind is None or not isinstance(name, str) else Described(kind=kind, name=name, title=repr(value))


_KINDS = {"step": NodeKind.STEP, "flow": NodeKind.CHILD}
