"""Executors for the tests: one that holds its calls, and an engine on a journal of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.journal.sqlite_journal import SqliteJournal


class HoldingExecutor(Executor):
    """Keeps what is submitted until the test performs it."""

    def __init__(self) -> None:
        self.held: list[tuple[Future[Any], Callable[[], Any]]] = []
        self.most_held = 0
        self.is_shut_down = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[Any] = Future()
        self.held.append((future, fn))
        self.most_held = max(self.most_held, len(self.pending))
        return future

    @property
    def pending(self) -> list[Future[Any]]:
        return [future for future, _ in self.held if not future.done()]

    def begin(self) -> None:
        """Let all that is held count as running."""
        for future in self.pending:
            future.set_running_or_notify_cancel()

    def perform(self) -> None:
        """Perform all that is held."""
        for future, call in list(self.held):
            if not future.done():
                future.set_result(call())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.is_shut_down = True


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Return the default engine, on a journal of its own."""
    before = REGISTRY._engine
    made = REGISTRY.adopt(Engine(SqliteJournal(tmp_path / "journal.db")))
    REGISTRY.use(made)
    yield made
    made.close()
    REGISTRY._engine = None if before is made else before


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2, thread_name_prefix="theirs") as pool:
        yield pool


@pytest.fixture
def holding() -> HoldingExecutor:
    return HoldingExecutor()
