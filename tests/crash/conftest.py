"""What the proofs have done, told at the end of the session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

COUNTS: Counter[str] = Counter()


@pytest.fixture
def counted() -> Callable[[str, int], None]:
    """Return what adds to the counts that are told."""

    def add(what: str, n: int) -> None:
        COUNTS[what] += n

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if COUNTS:
        terminalreporter.write_sep("=", "proof")
        for what, n in COUNTS.items():
            terminalreporter.write_line(f"{n:8,d} {what}")
