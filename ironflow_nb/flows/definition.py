"""What a flow leaves in the journal about itself: its source, and its diagram, so that any kernel can show its runs."""

from __future__ import annotations

from functools import lru_cache

from ironflow_nb.core.identity import digest_bytes
from ironflow_nb.core.ids import Digest
from ironflow_nb.execution.spec import StepSpec
from ironflow_nb.journal.ports import Definition
from ironflow_nb.tracking.definition import source_of


def definition_id(spec: StepSpec) -> Digest:
    """Return the id of the definition: of its name, its code, and that of the steps and helpers that it refers to."""
    return digest_bytes(f"flow {spec.name}\0".encode() + spec.code)


def define(spec: StepSpec) -> Definition:
    """Return what the journal keeps of a flow."""
    return _define(spec, definition_id(spec))


@lru_cache(maxsize=256)
def _define(spec: StepSpec, own_id: Digest) -> Definition:
    from ironflow_nb.diagram.model import encode_diagram
    from ironflow_nb.flows.shape import shape_of

    return Definition(
        definition_id=own_id,
        kind="flow",
        name=spec.name,
        source=source_of(spec.function),
        diagram=encode_diagram(shape_of(spec)),
    )
