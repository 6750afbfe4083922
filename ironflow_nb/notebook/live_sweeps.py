"""The live display of a sweep: its strip is updated while rows are at work, and stays in a saved notebook."""

from __future__ import annotations

from typing import Final

from ironflow_nb.execution import REGISTRY
from ironflow_nb.handles.sweep import Sweep
from ironflow_nb.notebook.live_pictures import EVERY_S, RESTING_FACTOR, can_update, new_display_id, show_bundle, update

LONGEST_S: Final = 1.0
"""The longest pause between two drawings."""


def show_sweep(sweep: Sweep) -> None:
    """Display a sweep, live until no row is at work; in a terminal, which can't replace output, only once."""
    engine = REGISTRY.engine()
    display_id, bundle = new_display_id(engine), sweep._repr_mimebundle_()
    show_bundle(display_id, bundle)
    if can_update() and not sweep.is_over:
        engine.threads.spawn("ironflow-sweep-picture", lambda: _keep_up(sweep, display_id, bundle))


def _keep_up(sweep: Sweep, display_id: str, shown: dict[str, str]) -> None:
    engine = REGISTRY.engine()
    clock, wakeup = engine.access.clock, engine.threads.wakeup()
    drawing_s, is_over = 0.0, False
    while not is_over:
        wakeup.take(min(max(EVERY_S, RESTING_FACTOR * drawing_s), LONGEST_S))
        began_s, is_over = clock.monotonic(), sweep.is_over  # before reading: what is read later is the end
        bundle = sweep._repr_mimebundle_()
        if bundle != shown:
            shown = bundle
            update(display_id, bundle)
        drawing_s = clock.monotonic() - began_s
