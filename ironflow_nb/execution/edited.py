"""How the code of a step differs from the code of then, in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ironflow_nb.core.ids import Digest
from ironflow_nb.execution.spec import StepSpec
from ironflow_nb.journal.ports import Definition
from ironflow_nb.tracking.changes import Change, compare
from ironflow_nb.tracking.parts import Part, decode_parts

Definitions = Callable[[Digest], Definition | None]
"""Returns what the journal keeps under a digest."""

_NAMED: Final = 3


def why_changed(definition: Definitions, code: Digest, spec: StepSpec) -> str:
    """Return in a few words how the code of the step differs from that of the digest."""
    changes = changes_since(definition, code, spec.tracked.parts)
    if not changes:
        return "its code has changed"
    more = f" and {len(changes) - _NAMED} more" if len(changes) > _NAMED else ""
    from ironflow_nb.tracking.computed import explained

    return "; ".join(explained(change) for change in changes[:_NAMED]) + more


def changes_since(definition: Definitions, code: Digest, now: tuple[Part, ...]) -> tuple[Change, ...]:
    """Return what differs between the code of that digest, if the journal has kept it, and the parts of now."""
    then = parts_of(definition, code)
    return compare(then, now) if then else ()


def parts_of(definition: Definitions, code: Digest) -> tuple[Part, ...]:
    """Return the parts of the code of that digest; none if the journal did not keep it."""
    found = definition(code)
    try:
        return () if found is None else decode_parts(found.source)
    except ValueError:
        return ()
