"""Blocks of a graph at work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ironflow_nb.graphs.formats.definition import Block
from ironflow_nb.graphs.running.frames import Frame

Done = Callable[["Activity"], None]
"""Told that a block has ended: with outputs, or with failures."""


class Activity:
    """A block at work. `is_handled` says that some node around it has a handler for its failures."""

    __slots__ = (
        "_failures", "block", "done", "frame", "is_handled", "n_open", "n_waiting", "outputs", "waited_for_by",
    )  # fmt: skip

    def __init__(self, block: Block, frame: Frame, done: Done, *, is_handled: bool) -> None:
        self.block = block
        self.frame = frame
        self.done = done
        self.is_handled = is_handled
        self.outputs: dict[str, Any] = {}
        self._failures: dict[int, Exception] = {}
        self.n_open = 0
        self.n_waiting = [len(node.after) for node in block.nodes]
        self.waited_for_by: list[list[int]] = [[] for _ in block.nodes]
        for number, node in enumerate(block.nodes):
            for before in node.after:
                self.waited_for_by[before].append(number)

    @property
    def failures(self) -> list[Exception]:
        """Those of its nodes that nothing handled, in the order of the nodes and not in that of time."""
        return [self._failures[number] for number in sorted(self._failures)]

    @property
    def failed(self) -> list[int]:
        """The numbers of the nodes that failed."""
        return sorted(self._failures)

    def fail(self, number: int, error: Exception) -> None:
        """Note that a node failed."""
        self._failures[number] = error
