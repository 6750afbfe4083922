"""The recorded outputs of the steps of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.cells import run_cell
from tests.conftest import Lab


def test_the_value_that_a_step_has_is_that_of_its_latest_success(lab: Lab) -> None:
    space: dict[str, Any] = {"__name__": "__main__", "iron": iron}
    run_cell("@iron.step\ndef work():\n    return 'old'\n@iron.flow\ndef main():\n    work()\n    raise OSError", space)
    with pytest.raises(OSError):  # noqa: PT011 -- it says nothing
        space["main"]()
    lab.cell()
    run_cell("@iron.step\ndef work():\n    return 'new'", space)
    with pytest.raises(OSError):  # noqa: PT011
        space["main"]()
    run = space["main"].last
    assert run.attempts()["output"].tolist() == ["'old'", "'new'"]
    assert run.value("work") == "new"
    assert run.values("work") == ["new"]


def test_outputs_are_asked_for_by_function_name_or_reference(lab: Lab) -> None:
    @step
    def work(n: int) -> int:
        return n * n

    @flow
    def main() -> list[int]:
        return list(work.map(range(12)))

    main()
    run = main.last
    assert run is not None
    assert run.values(work) == run.values("work") == run.values(work.name) == [n * n for n in range(12)]
    assert run.value("work[11]") == 121
    assert run.values("work[3]") == [9]
    with pytest.raises(iron.errors.AmbiguousStep, match=r"12 steps .*work\[0\].*, \.\.\.; name one"):
        run.value(work)
    for ask in (run.value, run.values):
        with pytest.raises(iron.errors.StepNotFound, match=r"no step 'wrok'; its steps are: .*work"):
            ask("wrok")
        with pytest.raises(iron.errors.StepNotFound, match=r"no step 'work\[12\]'"):
            ask("work[12]")
        with pytest.raises(TypeError, match="not by 3"):
            ask(3)


def test_values_of_several_functions_are_not_mixed(lab: Lab) -> None:
    @step(name="north.count")
    def north() -> str:
        return "north"

    @step(name="south.count")
    def south() -> str:
        return "south"

    @step(name="count")
    def plain() -> str:
        return "plain"

    @flow
    def two() -> str:
        return north() + south()

    @flow
    def three() -> str:
        return north() + south() + plain()

    two()
    assert two.last is not None
    assert two.last.values("north.count") == ["north"]
    with pytest.raises(iron.errors.AmbiguousStep, match=r"north\.count, south\.count"):
        two.last.values("count")
    three()
    assert three.last is not None
    assert three.last.values("count") == three.last.values(plain) == ["plain"]


def test_a_value_that_is_gone_is_an_error_that_names_its_step(lab: Lab, tmp_path: Path) -> None:
    @step
    def large() -> bytes:
        return b"x" * 100_000

    @flow
    def main() -> int:
        return len(large())

    main()
    files = [path for path in (tmp_path / "values").rglob("*") if path.is_file()]
    for path in files:
        path.unlink()
    run = main.last
    assert run is not None
    if not files:  # in memory
        assert run.value(large) == b"x" * 100_000
        return
    with pytest.raises(iron.errors.ValueUnreadable, match="missing"):
        run.value(large)
    assert run.result() == 100_000


def test_the_arguments_of_a_step_are_those_of_its_latest_attempt(lab: Lab) -> None:
    @step
    def work(n: int, factor: int = 2) -> int:
        return n * factor

    @flow
    def main() -> list[int]:
        return list(work.map(range(3)))

    main()
    run = main.last
    assert run is not None
    assert run.inputs("work[2]") == {"n": 2, "factor": 2}
    with pytest.raises(iron.errors.AmbiguousStep):
        run.inputs(work)
    with pytest.raises(iron.errors.StepNotFound):
        run.inputs("other")


def test_a_step_that_an_edit_has_replaced_is_not_taken_for_the_one_that_is_named(lab: Lab) -> None:
    space: dict[str, Any] = {"__name__": "__main__", "iron": iron}
    program = """
@iron.step
def load():
    return {version}

@iron.step
def double(n):
    return 2 * n

@iron.flow
def main():
    found = double(load())
    if {version} == 1:
        raise OSError("off")
    return found
"""
    run_cell(program.format(version=1), space)
    with pytest.raises(OSError, match="off"):
        space["main"]()
    lab.cell()
    run_cell(program.format(version=2), space)
    assert space["main"]() == 4
    run = space["main"].last
    assert run.steps()["step"].tolist() == ["load[0]", "double[0]", "double[1]"]
    assert run.value("double") == 4
    assert run.inputs("double") == {"n": 2}
    assert str(run.explain("double")).startswith("double[1]")
    assert run.value("double[0]") == 2


def test_a_flow_and_a_run_give_their_pictures(lab: Lab) -> None:
    @step
    def work() -> None:
        return None

    @flow
    def main() -> None:
        work()

    assert "work" in (main.diagram().svg or "")
    main()
    run = main.last
    assert run is not None
    picture = run.diagram()
    assert run.id in (picture.svg or "")
    assert "completed" in picture.text
