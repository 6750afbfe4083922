"""What a cell has shown, as the format of notebooks has it, and the stage on which it shows it."""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

import msgspec

LIMIT_BYTES: Final = 1024 * 1024
"""What is kept of the output of one execution."""


class Output(msgspec.Struct, rename={"kind": "output_type"}, omit_defaults=True):
    """One output: a stream (stdout, stderr) with its text, or a bundle of one thing in several formats."""

    kind: str
    name: str | None = None
    text: str = ""
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)

    def n_bytes(self) -> int:
        """Return how much it takes to keep it."""
        return len(self.text) + sum(len(item) if isinstance(item, str) else 1000 for item in self.data.values())


Outputs = MutableSequence[Output]


class Stage(Protocol):
    """Where cells show what they show: a notebook, or nowhere."""

    @contextmanager
    def recording(self) -> Iterator[list[Output]]:
        """Collect what is shown meanwhile, which is shown all the same."""

    def show_result(self, value: object) -> None:
        """Show the value of the last expression of a cell."""

    def show(self, outputs: list[Output]) -> None:
        """Show again what was recorded."""


class NoStage:
    """The stage of a script: what is printed goes where it goes, and nothing is collected."""

    @contextmanager
    def recording(self) -> Iterator[list[Output]]:
        """See the protocol."""
        yield []

    def show_result(self, value: object) -> None:
        """See the protocol."""

    def show(self, outputs: list[Output]) -> None:
        """See the protocol."""


def within_limit(outputs: list[Output]) -> list[Output]:
    """Return the outputs up to the limit, and a note if there are more."""
    kept: list[Output] = []
    left = LIMIT_BYTES
    for output in outputs:
        left -= output.n_bytes()
        if left < 0:
            n_bytes = sum(each.n_bytes() for each in outputs[len(kept) :])
            note = f"ironflow: {n_bytes / 1e6:.1f} MB of output were not kept\n"
            return [*kept, Output("stream", "stderr", note)]
        kept.append(output)
    return kept
