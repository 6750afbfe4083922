"""The code of a function as it is now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ironflow_nb.code_identity.code_parts import TrackedCode
from ironflow_nb.code_identity.tracker import Tracker


def track(function: Callable[..., Any], depends: Sequence[Any] = ()) -> TrackedCode:
    """Return the code of the function: its own, and the user code that it refers to or that `depends` contains."""
    return Tracker(function, tuple(depends)).current()
