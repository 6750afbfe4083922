"""Progress bars of others inside steps: their last states are in the log, and nothing else of them."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout

import pytest

from ironflow_nb import flow, step
from tests.conftest import Lab
from tests.telemetry.test_captured_output import last, lines


def test_bars_of_tqdm_leave_their_last_states(lab: Lab) -> None:
    pytest.importorskip("tqdm")

    @step
    def bars() -> None:
        from tqdm import tqdm

        for _ in tqdm(range(300), desc="alone", mininterval=0):
            pass
        tqdm.write("between")
        for _ in tqdm(range(30), desc="outer", mininterval=0, position=0):
            for _ in tqdm(range(20), desc="inner", mininterval=0, position=1, leave=False):
                pass
        print("after")

    @flow
    def work() -> None:
        bars()

    with redirect_stderr(io.StringIO()):
        work()
    found = lines(last(work))
    assert len(found) < 20  # of 900 states
    assert [line for line in found if "alone: 100%" in line and "300/300" in line]
    assert [line for line in found if "outer: 100%" in line and "30/30" in line]
    assert {"between", "after"} <= {*found}


def test_live_displays_of_rich_leave_their_last_frames(lab: Lab) -> None:
    pytest.importorskip("rich")

    @step
    def bars() -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(force_terminal=True, width=60)
        with Progress(console=console, auto_refresh=False) as progress:
            tasks = [progress.add_task(name, total=10) for name in ("first", "second")]
            for _ in range(10):
                for task in tasks:
                    progress.advance(task)
                progress.refresh()
        console.print("[bold red]colour[/]")

    @flow
    def work() -> None:
        bars()

    with redirect_stdout(io.StringIO()):
        work()
    found = [line.rstrip() for line in lines(last(work))]
    assert len(found) < 8  # of 20 lines in 10 frames
    assert [line.split()[0] for line in found if "100%" in line] == ["first", "second"]
    assert found[-1] == "colour"
