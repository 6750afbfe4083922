"""Finished steps whose code has changed: what each policy does with them."""

from __future__ import annotations

from typing import Any

import pytest

import ironflow_nb as iron
from tests.cells import World, run_cell
from tests.conftest import Lab

FLOW = """
@iron.flow
def main(n):
    done = [work(number) for number in range(n)]
    if world.is_broken:
        raise RuntimeError
    return done
"""
OLD = """
@iron.step
def work(number):
    pass_time(20)
    return f"old {number}"
"""
NEW = OLD.replace("old", "new").replace("pass_time(20)", "world.did(number)")
COMMENTED = OLD.replace("    return", "    # as before\n    return")


@pytest.fixture
def cells(lab: Lab, world: World) -> dict[str, object]:
    """Return the namespace of a notebook whose run of three steps, of 20 s each, has failed after them."""
    names = {"iron": iron, "world": world, "pass_time": lab.simulate_time().advance}
    run_cell(OLD + FLOW, names)
    with pytest.raises(RuntimeError):
        names["main"](3)  # type: ignore[operator]
    world.is_broken = False
    lab.cell()
    return names


def test_less_than_a_minute_of_work_is_redone_without_asking(lab: Lab, world: World) -> None:
    names = {"iron": iron, "world": world, "pass_time": lab.simulate_time().advance}
    run_cell(OLD + FLOW, names)
    with pytest.raises(RuntimeError):
        names["main"](2)  # type: ignore[operator]
    world.is_broken = False
    lab.cell()
    run_cell(NEW, names)
    assert names["main"](2) == ["new 0", "new 1"]  # type: ignore[operator]
    assert list(iron.attempts()["reason"]) == ["new", "code changed"] * 2


def test_a_minute_of_work_is_not_redone_before_somebody_said_so(
    lab: Lab, world: World, cells: dict[str, object]
) -> None:
    run_cell(NEW, cells)
    main = cells["main"]
    with pytest.raises(iron.CodeChanged) as caught:
        main(3)  # type: ignore[operator]
    assert world.log == []
    assert "mend" not in "".join(caught.value.__notes__), "the message has said what to do"
    assert caught.value.ids["n_steps"] == 3
    assert caught.value.ids["at_stake_s"] == pytest.approx(60)
    assert "1 min" in str(caught.value)
    # The two lines of the message are what one pastes.
    lines = [line.partition("#")[0].strip() for line in str(caught.value).splitlines()[1:]]
    assert [line.partition("on_change=")[2][:6] for line in lines] == ['"keep"', '"refre']
    kept = eval(lines[0].replace(str(main.name), "main"), cells)  # type: ignore[attr-defined]
    assert kept.result() == ["old 0", "old 1", "old 2"]


def test_the_other_line_to_paste_runs_them_again(lab: Lab, world: World, cells: dict[str, object]) -> None:
    run_cell(NEW, cells)
    main: iron.Flow[[int], list[str]] = cells["main"]  # type: ignore[assignment]
    with pytest.raises(iron.CodeChanged):
        main(3)
    assert main.options(on_change="refresh").resume().result() == ["new 0", "new 1", "new 2"]
    assert world.log == [0, 1, 2]


def test_an_edit_that_is_undone_runs_nothing_again(lab: Lab, world: World, cells: dict[str, object]) -> None:
    main: iron.Flow[[int], list[str]] = cells["main"]  # type: ignore[assignment]
    run_cell(NEW, cells)
    with pytest.raises(iron.CodeChanged):
        main(3)
    run_cell(OLD, cells)
    lab.cell()
    assert main(3) == ["old 0", "old 1", "old 2"]
    assert len(iron.attempts()) == 3


MAP = """
@iron.step
def half(number):
    world.did(number)
    pass_time(1)
    if number % 10 == 7:
        raise ValueError(number)
    return number / 2

@iron.flow
def main(n):
    halves = half.map(range(n), concurrency=1, on_error="collect")
    if len(halves.errors):
        raise RuntimeError(f"{len(halves.errors)} failed")
    return sum(halves)
"""


@pytest.mark.parametrize(("policy", "n_bodies"), [("keep", 7), ("refresh", 70)])
def test_after_a_map_was_mended_its_failures_are_done_again_and_the_rest_if_that_is_said(
    lab: Lab, world: World, policy: str, n_bodies: int
) -> None:
    names: dict[str, Any] = {"iron": iron, "world": world, "pass_time": lab.simulate_time().advance}
    run_cell(MAP, names)
    with pytest.raises(RuntimeError, match="7 failed"):
        names["main"](70)
    world.log.clear()
    lab.cell()
    run_cell(MAP.partition("@iron.flow")[0].replace("% 10 == 7", "< 0"), names)
    stop = r"line 5 of `half`.* since 63 finished steps \(1 min 3 s of work\)"
    with pytest.raises(iron.CodeChanged, match=stop) as stopped:
        names["main"](70)
    assert "; 63 finished steps are kept" in stopped.value.__notes__[0]
    assert world.log == []
    resumed = names["main"].options(on_change=policy).resume()
    assert resumed.result(300) == sum(n / 2 for n in range(70))
    assert len(world.log) == n_bodies


def test_a_comment_is_no_change(lab: Lab, cells: dict[str, object]) -> None:
    run_cell(COMMENTED, cells)
    main: iron.Flow[[int], list[str]] = cells["main"]  # type: ignore[assignment]
    assert main.options(on_change="strict")(3) == ["old 0", "old 1", "old 2"]


def test_strict_stops_for_any_work_at_all(lab: Lab, world: World) -> None:
    names = {"iron": iron, "world": world, "pass_time": lambda _seconds: None}
    run_cell(OLD + FLOW, names)
    with pytest.raises(RuntimeError):
        names["main"](1)  # type: ignore[operator]
    lab.cell()
    run_cell(NEW, names)
    with pytest.raises(iron.CodeChanged, match=r"1 finished step \(.*\) of run"):
        names["main"].options(on_change="strict")(1)  # type: ignore[attr-defined]
    assert world.log == []


def test_a_step_that_is_redefined_while_its_run_goes_on_runs_its_new_code_from_there(
    lab: Lab, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ironflow_nb")
    names = {"iron": iron, "world": world, "run_cell": run_cell, "NEW": NEW, "pass_time": lambda _seconds: None}
    edited = FLOW.replace("    if world", "    run_cell(NEW, globals())\n    done.append(work(n))\n    if world")
    run_cell(OLD + edited, names)
    world.is_broken = False
    assert names["main"](1) == ["old 0", "new 1"]  # type: ignore[operator]
    assert sum("was redefined; from here on its new code runs" in line for line in caplog.messages) == 1


def test_a_flow_that_is_redefined_while_it_runs_goes_on_as_it_was(lab: Lab, world: World) -> None:
    source = """
@iron.flow
def main():
    if world.is_broken:
        world.is_broken = False
        run_cell(OTHER, globals())
    return work()

@iron.step
def work():
    return "as it was"
"""
    other = source.replace("return work()", "return 'another flow'")
    names = {"iron": iron, "world": world, "run_cell": run_cell, "OTHER": other}
    run_cell(source, names)
    assert names["main"]() == "as it was"  # type: ignore[operator]
    lab.cell()
    assert names["main"]() == "another flow"  # type: ignore[operator]
    assert list(iron.runs()["status"]) == ["completed", "completed"]


def test_two_functions_of_one_name_are_refused_in_one_run(lab: Lab) -> None:
    names = {"iron": iron}
    run_cell("@iron.step\ndef work():\n    return 1\n", names)
    old = names["work"]
    run_cell("@iron.step\ndef work():\n    return 2\n", names)
    new = names["work"]

    @iron.flow
    def main() -> list[int]:
        return [step() for step in (old, new, old)]  # type: ignore[operator]

    with pytest.raises(iron.errors.DuplicateName, match=r"@step\(name=\.\.\.\)"):
        main()
    assert iron.runs()["status"][0] == "failed"
