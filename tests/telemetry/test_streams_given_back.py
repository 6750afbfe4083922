"""The streams are the user's own again when no engine has runs, however the last run of each has ended."""

from __future__ import annotations

import io
import sys
import threading
from contextlib import redirect_stdout, suppress

import pytest

from ironflow_nb import flow, step
from ironflow_nb.execution.engine import Engine
from ironflow_nb.testing.memory_journal import MemoryJournal
from tests.conftest import Lab
from tests.waits.conftest import until


@pytest.mark.parametrize("end", ["in the background", "left", "closed"])
def test_an_engine_that_has_no_runs_any_more_holds_no_stream(lab: Lab, end: str) -> None:
    go = threading.Event()

    @step(timeout_s=0.05)
    def slow() -> None:
        go.wait(10)

    @flow
    def beside() -> None:
        with suppress(TimeoutError):
            slow()

    @flow
    def work() -> None:
        print("a")

    with Engine(MemoryJournal()) as other_engine:
        beside()
        (session,) = other_engine.sessions.values()  # the body that was abandoned goes on
        if end == "left":
            other_engine.access.close("its process died", abandon=True)
        elif end == "closed":
            other_engine.close()
            other_engine.open_session(session)
        else:
            go.set()
            until(lambda: not other_engine.sessions)
        with lab.engine, redirect_stdout(io.StringIO()) as other:
            work()
            assert sys.stdout is other
            assert other.getvalue() == "a\n"
        go.set()
