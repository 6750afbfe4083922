"""The definition of a flow: its diagram, what the journal stores of it, and the text that ``fetch?`` shows.

The journal has the source and the diagram, so that any kernel can show the runs of the flow.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from ironflow_nb.code_identity.code_parts import describe_code
from ironflow_nb.code_identity.syntax import source_of
from ironflow_nb.core.identity import OWN_PREFIX, Digest
from ironflow_nb.core.status import RunKind
from ironflow_nb.core.wait_rules import EMIT
from ironflow_nb.diagram.model import Diagram, NodeKind, encode_diagram
from ironflow_nb.execution import StepSpec
from ironflow_nb.flows.diagram_names import Described
from ironflow_nb.flows.diagram_statements import extract
from ironflow_nb.journal.ports import StoredDefinition
from ironflow_nb.values.stored_value import legible

if TYPE_CHECKING:
    from ironflow_nb.diagram.draw import Picture


def shape_of(spec: StepSpec) -> Diagram:
    """Return the diagram of the flow as its names resolve now."""
    found = extract(spec.function, describe_name)
    return Diagram(spec.name, found.nodes, found.edges)


def picture_of_flow(spec: StepSpec) -> Picture:
    """Return the picture of the flow before any run."""
    from ironflow_nb.diagram.draw import draw

    return draw(shape_of(spec), {}, prefix=f"iron-{spec.code.hex()[2:14]}")


def describe_name(value: object) -> Described | None:
    """Return what the value is in a diagram, if it is anything: a step, or a flow that is called in a flow."""
    if getattr(value, "__ironflow_wait__", False) is True:
        name = value.__name__  # type: ignore[attr-defined]
        return Described(kind=NodeKind.WAIT, name=f"{OWN_PREFIX}{name}", label=name, title=f"iron.{name}")
    if getattr(value, "__ironflow_emit__", False) is True:
        return Described(kind=NodeKind.STEP, name=EMIT, label="emit", title="iron.emit")
    kind = _KINDS.get(getattr(type(value), "__ironflow_definition__", ""))
    name = getattr(value, "name", None)
    if kind is None or not isinstance(name, str):
        return None
    limits = str(getattr(getattr(value, "spec", None), "limits", ""))
    return Described(kind=kind, name=name, title="\n".join(filter(None, [repr(value), limits])))


_KINDS = {"step": NodeKind.STEP, "flow": NodeKind.CHILD}


@lru_cache(maxsize=256)
def define(spec: StepSpec, definition_id: Digest) -> StoredDefinition:
    """Return what the journal keeps of a flow whose definition has that id."""
    return StoredDefinition(
        definition_id=definition_id,
        kind=RunKind.FLOW,
        name=spec.name,
        source=source_of(spec.function),
        diagram=encode_diagram(shape_of(spec)),
    )


_SHOWN = 60


def documentation(kind: str, spec: StepSpec, options: msgspec.Struct) -> str:
    """Return the docstring of the function, its signature and the options that were given, and what is tracked.

    It never raises: a part that can't be shown is replaced by the reason.
    """
    parts = [
        inspect.getdoc(spec.function),
        f"{kind} {spec.name}{spec.parameters}",
        _or_reason("options", lambda: _options(options)),
        _or_reason("code", lambda: describe_code(spec.tracked)),
    ]
    return "\n\n".join(part for part in parts if part)


def _or_reason(what: str, tell: Callable[[], str]) -> str:
    try:
        return tell()
    except Exception as error:  # noqa: BLE001 -- help shows the parts that it can
        return f"(Its {what} can't be shown: {type(error).__name__}: {error})"


def _options(options: msgspec.Struct) -> str:
    default = type(options)()
    found = ((name, getattr(options, name), getattr(default, name)) for name in options.__struct_fields__)
    given = [f"{name}={_option_text(value)}" for name, value, usual in found if value is not usual and value != usual]
    return f"Options: {', '.join(given) or 'none given'}"


def _option_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_option_text, value))}]"
    if isinstance(value, Enum):
        return repr(value.value)
    return getattr(value, "__qualname__", None) or legible(repr(value), _SHOWN)
