"""An IPython shell in the process of the test, whose cells show what they show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output


@dataclass
class Shown:
    """What came of one cell: its value, its prints, what it displayed, and what was raised."""

    value: Any
    text: str
    warnings: str
    bundles: list[dict[str, Any]]
    error: BaseException | None

    def refused(self) -> str:
        """Return the message of a cell that was refused, as its reader sees it."""
        assert type(self.error).__name__ == "UsageError", self.error
        assert self.value is None
        lines = self.warnings.strip().splitlines()
        assert lines[0].startswith("UsageError: ")
        return self.warnings


class Shell:
    """Runs cells."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.ipython = shell
        self.space: dict[str, Any] = shell.user_ns

    def run(self, source: str, cell_id: str | None = None) -> Shown:
        with capture_output() as captured:
            result = self.ipython.run_cell(source, store_history=True, cell_id=cell_id)
        error = result.error_before_exec or result.error_in_exec
        bundles = [output.data for output in captured.outputs]
        return Shown(result.result, captured.stdout, captured.stderr, bundles, error)

    def fine(self, source: str, cell_id: str | None = None) -> Shown:
        """Run a cell that must succeed."""
        shown = self.run(source, cell_id)
        assert shown.error is None, shown.error
        return shown
