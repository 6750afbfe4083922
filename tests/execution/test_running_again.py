"""Each row of the table of what happens when a cell is run again, as `docs/running_again.md` has it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.core.status import RunStatus
from ironflow_nb.execution.runs import start as run_start
from tests.cells import World, run_cell
from tests.conftest import Lab
from tests.waits.conftest import LIMIT_S, until

TABLE = Path(__file__).parent.parent.parent / "docs" / "running_again.md"
PROGRAM = """
@iron.step
def first():
    world.did("first")
    world.gate.wait(60)
    return 1 + {first}

@iron.step(compensate={compensate}, timeout_s={timeout_s})
def second(n):
    world.did("second")
    return n + {second}

@iron.step
def last(n):
    world.did("last")
    world.trouble()
    return n

def undo():
    world.did("undo")
    world.undo_trouble()

@iron.flow({options})
def main():
    n = second(first())
    if {waits}:
        n += iron.wait_for("go")
    return last(n)
"""
ALL = ["first", "second", "last"]
DAY_S = 86_400.0


class Cells:
    """Two cells: one defines the flow, and is edited; the other one calls it."""

    def __init__(self, lab: Lab, said: list[str]) -> None:
        self.lab, self.said = lab, said
        self.world: Any = World(lab.die_in_flow)
        self.world.gate = threading.Event()
        self.world.gate.set()
        self.world.trouble = self.world.undo_trouble = lambda: None
        self.names: dict[str, Any] = {"iron": iron, "world": self.world}
        self.state: dict[str, Any] = {
            "first": 0, "second": 0, "compensate": None, "timeout_s": None, "options": "", "waits": False,
        }  # fmt: skip
        self.edit()

    def edit(self, **changes: Any) -> None:
        """Run the cell of the definition."""
        self.state |= changes
        run_cell(PROGRAM.format(**self.state), self.names)

    def again(self) -> None:
        """Begin another execution of the cell of the call."""
        self.lab.cell()
        self.log.clear()
        self.said.clear()

    def call(self, **options: Any) -> object:
        """Call the flow; an exception is the outcome too."""
        try:
            return self.names["main"].options(**options)()
        except BaseException as error:
            return error

    def ends_with(self, error: BaseException) -> Callable[[], None]:
        def trouble() -> None:
            raise error

        return trouble

    def fails(self, **options: Any) -> str:
        """Call the flow so that it fails in its last step; return the run's id."""
        self.world.trouble = self.ends_with(ConnectionError())
        assert isinstance(self.call(**options), ConnectionError)
        self.world.trouble = lambda: None
        return self.newest()

    @property
    def log(self) -> list[str]:
        log: list[str] = self.world.log
        return log

    @property
    def n_runs(self) -> int:
        return len(iron.runs())

    def newest(self) -> str:
        return str(iron.runs()["run_id"][0])

    def advance(self, seconds: float) -> None:
        assert self.lab.clock is not None
        self.lab.clock.advance(seconds)


Case = Callable[[Cells, pytest.MonkeyPatch], None]
CASES: dict[str, list[Case]] = {}


def row(start: str) -> Callable[[Case], Case]:
    """Say which row of the table the case holds, by the beginning of its first three columns."""

    def decorate(case: Case) -> Case:
        CASES.setdefault(start, []).append(case)
        return case

    return decorate


def rows() -> list[str]:
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    return [" | ".join(cell.strip() for cell in line.strip("|").split("|")[:3]) for line in lines[2:]]


@pytest.fixture
def cells(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Cells:
    lab.simulate_time()
    said: list[str] = []
    monkeypatch.setattr(run_start, "say", said.append)
    return Cells(lab, said)


@row("is running")
def joins_a_run_that_goes_on(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.world.gate.clear()
    run = cells.names["main"].start()
    until(lambda: cells.log)
    cells.lab.cell()
    again = cells.names["main"].start()
    assert again.id == run.id
    assert "is going on already, and this call joins it" in cells.said[0]
    cells.world.gate.set()
    assert again.result(LIMIT_S) == 1
    assert cells.log == ALL
    assert cells.n_runs == 1


UNFINISHED = "was interrupted, failed, paused, ran out of time, or its process died | no |"


@row(UNFINISHED)
def goes_on_after_a_failure(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.fails()
    goes_on(cells, ["last"])


@row(UNFINISHED)
def goes_on_after_an_interrupt(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.world.trouble = cells.ends_with(KeyboardInterrupt())
    assert isinstance(cells.call(), KeyboardInterrupt)
    goes_on(cells, ["last"])


@row(UNFINISHED)
def goes_on_after_a_death(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.world.trouble = cells.world.die
    assert isinstance(cells.call(), SystemExit)
    goes_on(cells, ["last"])


@row(UNFINISHED)
def goes_on_after_a_pause(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.world.gate.clear()
    run = cells.names["main"].start()
    until(lambda: cells.log)
    run.pause()
    cells.world.gate.set()
    assert run.wait(LIMIT_S).status is RunStatus.PAUSED
    goes_on(cells, ["second", "last"])


@row(UNFINISHED)
def goes_on_after_its_time_is_up(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.edit(options="timeout_s=60")
    cells.world.trouble = lambda: cells.advance(90)
    assert isinstance(cells.call(), TimeoutError)
    assert list(iron.steps()["status"]) == ["completed", "completed", "timed_out"]
    goes_on(cells, ["last"])


def goes_on(cells: Cells, log: list[str]) -> None:
    cells.world.trouble = lambda: None
    cells.again()
    assert cells.call() == 1
    assert cells.log == log
    assert cells.n_runs == 1
    assert "continuing run" in cells.said[0]


@row("the same | yes |")
def goes_on_with_the_edited_code(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.fails()
    cells.again()
    cells.edit(second=5)
    assert cells.call() == 6
    assert cells.log == ["second", "last"]
    assert cells.n_runs == 1
    assert "is done again (second: edited: line 4" in cells.said[0]


@row("the same, older than `continue_within`")
def begins_anew_after_a_week(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.fails()
    cells.again()
    cells.advance(8 * DAY_S)
    assert cells.call() == 1
    assert cells.log == ALL
    assert "is older than continue_within" in cells.said[0]


WAITS = "waits for somebody"


@row(WAITS)
def waits_on_at_any_age(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.edit(waits=True)
    run = cells.names["main"].start()
    until(lambda: run.status is RunStatus.WAITING)
    cells.lab.die()
    cells.again()
    cells.advance(30 * DAY_S)
    run = iron.get_run(run.id)
    assert run.status is RunStatus.WAITING
    run.signal("go", 10)
    assert cells.call() == 11
    assert cells.log == ["last"]
    assert cells.n_runs == 1


@row("failed, and what it did was undone")
def begins_anew_after_a_compensation(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.edit(compensate="undo")
    run_id = cells.fails()
    assert cells.log == [*ALL, "undo"]
    assert "compensated" in set(iron.steps()["status"])
    cells.again()
    assert cells.call() == 1
    assert cells.log == ALL
    assert cells.n_runs == 2
    assert f'what it did was undone; to go on with that one: iron.resume("{run_id}")' in cells.said[0]


@row("is being undone, and its process died")
def goes_on_to_undo(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.edit(compensate="undo")
    cells.world.undo_trouble = cells.world.die
    cells.world.trouble = cells.ends_with(ConnectionError("gone"))
    cells.call()
    cells.world.undo_trouble = lambda: None
    cells.again()
    assert "gone" in str(cells.call())
    assert cells.log == ["undo"]
    assert cells.n_runs == 1
    assert "what it did goes on to be undone" in cells.said[0]


@row("was handed over (`detach`)")
def takes_back_what_no_worker_has(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    run = cells.names["main"].start(detach=True)
    assert run.status is RunStatus.PENDING
    cells.again()
    assert cells.call() == 1
    assert cells.log == ALL
    assert cells.n_runs == 1
    assert run.status is RunStatus.COMPLETED


@row("was cancelled")
def begins_anew_after_a_cancellation(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.fails()
    iron.get_run(cells.newest()).cancel()
    assert list(iron.runs()["status"]) == ["cancelled"]
    begins_anew(cells)


def begins_anew(cells: Cells) -> None:
    n_runs = cells.n_runs
    cells.again()
    assert cells.call() == 1 + cells.state["second"]
    assert cells.log == ALL
    assert cells.n_runs == n_runs + 1


@row("completed | yes | notebook")
def is_built_on_after_an_edit(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.lab.is_interactive = True
    assert cells.call() == 1
    cells.again()
    cells.edit(second=5)
    assert cells.call() == 6
    assert cells.log == ["second", "last"]  # the last step gets another argument
    assert list(iron.steps(run=cells.newest())["reused"]) == [True, False, False]
    assert "2 finished steps are reused if called as before, 1 is done again (second" in cells.said[0]
    cells.again()
    cells.edit(second=0)
    assert cells.call() == 1
    assert cells.log == []


@row("completed | no | notebook or terminal, another kernel")
def returns_the_recorded_result_in_another_kernel(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.lab.is_interactive = True
    assert cells.call() == 1
    for _ in range(2):
        cells.lab.die()
        cells.again()
        assert cells.call() == 1
        assert cells.log == []
        assert cells.n_runs == 1
        assert "its result is returned each time until something is edited" in cells.said[0]


@row("completed | no | notebook or terminal, the same kernel")
def is_done_again_in_the_same_kernel(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.lab.is_interactive = True
    assert cells.call() == 1
    begins_anew(cells)
    assert cells.said == []
    cells.world.trouble = lambda: cells.advance(90)
    cells.again()
    cells.call()
    cells.again()
    cells.call()
    assert "a new run does its 1 min 30 s of work again" in cells.said[0]


@row("completed, older than `reuse_within`")
def begins_anew_after_a_day(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.lab.is_interactive = True
    assert cells.call() == 1
    cells.advance(2 * DAY_S)
    cells.lab.die()
    cells.edit(second=5)
    begins_anew(cells)


@row("completed |  | script")
def begins_anew_in_a_script(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cells.call() == 1
    cells.lab.die()
    begins_anew(cells)
    cells.edit(second=5)
    begins_anew(cells)


@row("completed, and not written by you")
def begins_anew_after_somebody_else(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.lab.is_interactive = True
    monkeypatch.setenv("IRONFLOW_KEY", "of somebody else")
    cells.lab.begin()
    assert cells.call() == 1
    monkeypatch.setenv("IRONFLOW_KEY", "a key of the tests")
    cells.lab.die()
    begins_anew(cells)
    assert "iron.trust(" in cells.said[0]


@row("any, with `key=`")
def is_that_run_for_ever(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.fails(key="k")
    for log in (["last"], []):
        cells.again()
        cells.advance(30 * DAY_S)
        assert cells.call(key="k") == 1
        assert cells.log == log
        assert cells.n_runs == 1


@row("any |  | the same cell once more")
def begins_anew_in_the_same_cell(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = cells.fails()
    cells.log.clear()
    assert cells.call() == 1
    assert cells.log == ALL
    assert cells.n_runs == 2
    cells.log.clear()
    assert iron.resume(run_id).result(LIMIT_S) == 1
    assert cells.log == ["last"]


@row("unfinished or running, and of another notebook")
def leaves_the_run_of_another_notebook(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = next(TABLE.parent.parent.glob("notebooks/*.ipynb"))
    monkeypatch.setenv("JPY_SESSION_NAME", str(mine))
    cells.fails()
    monkeypatch.setenv("JPY_SESSION_NAME", str(mine.with_name("other.ipynb")))
    begins_anew(cells)
    assert "belongs to" in cells.said[0]


@row("any |  | under pytest")
def begins_anew_under_pytest(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    cells.lab.engine.joins_by_default = False
    cells.fails()
    begins_anew(cells)


@pytest.mark.parametrize("case", [each for found in CASES.values() for each in found], ids=lambda case: case.__name__)
def test_a_cell_that_is_run_again(cells: Cells, monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    case(cells, monkeypatch)
    assert {"completed", "failed", "cancelled"} >= set(iron.runs()["status"])  # nothing goes on


def test_each_row_of_the_table_has_a_case_and_each_case_a_row() -> None:
    held = {text: [start for start in CASES if text.startswith(start)] for text in rows()}
    assert {text: found for text, found in held.items() if len(found) != 1} == {}
    assert sorted(start for found in held.values() for start in found) == sorted(CASES)
