"""The live display of a sweep: its strip is updated while rows are at work, and stays in a saved notebook."""

from __future__ import annotations

from typing import Final

from ironflow_nb.execution import REGISTRY
from ironflow_nb.handles.sweep import Sweep
from ironflow_nb.notebook.live_pictures import EVERY_S, RESTING_FACTOR, can_update, new_display_id, show_bundle, update

LONGEST_S: Final = 1.0
"""The longest pause between two drawings."""


class SweepOutput:
    """The output of one sweep. Lock: its own, for a thread draws it, and a cell that ends."""

    def __init__(self, sweep: Sweep) -> None:
        engine = REGISTRY.engine()
        self._sweep = sweep
        self._clock, self._threads, self._lock = engine.access.clock, engine.threads, engine.threads.lock()
        self._display_id, self._shown = new_display_id(engine), sweep._repr_mimebundle_()
        self.is_final = not can_update() or sweep.is_over

    def show(self) -> None:
        """Display the sweep, live until no row is at work; in a terminal, which can't replace output, only once."""
        show_bundle(self._display_id, self._shown)
        if not self.is_final:
            self._threads.spawn("ironflow-sweep-picture", self._keep_up)

    def paint(self) -> None:
        """Draw what has changed. What is drawn after the end of the sweep is final."""
        with self._lock:
            is_over = self._sweep.is_over  # before reading: what is read later is the end
            bundle = self._sweep._repr_mimebundle_()
            if bundle != self._shown:
                self._shown = bundle
                update(self._display_id, bundle)
            self.is_final = is_over

    def repeat(self) -> None:
        """Draw once more within a cell: a client that executes a notebook misses what comes between two cells."""
        with self._lock:
            self._shown = {}
        self.paint()

    def _keep_up(self) -> None:
        wakeup, drawing_s = self._threads.wakeup(), 0.0
        while not self.is_final:
            wakeup.take(min(max(EVERY_S, RESTING_FACTOR * drawing_s), LONGEST_S))
            began_s = self._clock.monotonic()
            self.paint()
            drawing_s = self._clock.monotonic() - began_s
