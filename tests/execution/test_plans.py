"""Before: what a call would do with what is recorded. After: why each step ran."""

from __future__ import annotations

from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.core.recorded_steps import RecordedSteps
from ironflow_nb.execution.registry import REGISTRY
from tests.cells import World, run_cell
from tests.conftest import Lab
from tests.diagram.drawn import SVG, Drawn, title

STEPS = """
FACTOR = 2

def scale(n):
    factor = FACTOR
    return n * factor

def prepare(n):
    return scale(n)

@iron.step
def clean(n):
    pass_time(5)
    world.did("clean", n)
    return prepare(n)

@iron.step
def report(n, unit="kg"):
    world.did("report", n)
    if world.is_broken:
        raise ConnectionError("printer on fire")
    return f"{n} {unit}"
"""
FLOW = """
@iron.flow
def main(n):
    return report(sum(clean(number) for number in range(n)))
"""
EDITED = STEPS.replace("return n * factor", "return n * factor + 0 * n")


@pytest.fixture
def cells(lab: Lab, world: World) -> dict[str, Any]:
    """Return the namespace of a notebook whose run has failed in its last step, and whose next cell has begun."""
    names: dict[str, Any] = {"iron": iron, "world": world, "pass_time": lab.simulate_time().advance}
    run_cell(STEPS + FLOW, names)
    with pytest.raises(ConnectionError):
        names["main"](3)
    world.is_broken = False
    world.log.clear()
    lab.cell()
    return names


def actions(plan: Any) -> list[tuple[str, str]]:
    return list(zip(plan["step"], plan["action"], strict=True))


def test_a_plan_says_what_is_reused_and_what_is_tried_again(cells: dict[str, Any], world: World) -> None:
    plan = cells["main"].plan(3)
    assert actions(plan) == [
        ("clean[0]", "reuse"), ("clean[1]", "reuse"), ("clean[2]", "reuse"), ("report[0]", "retry"),
    ]  # fmt: skip
    assert list(plan["reason"]) == ["finished"] * 3 + ["failed before"]
    assert "3 reused (15.0 s of work), 1 tried again" in plan.headline
    assert list(plan["duration_s"])[:3] == [5.0, 5.0, 5.0]
    assert world.log == []
    assert plan.columns.tolist() == [
        "step", "name", "index", "action", "reason", "duration_s", "attempt", "finished_at",
    ]  # fmt: skip


def test_a_plan_changes_nothing(cells: dict[str, Any]) -> None:
    n_events = len(iron.events())
    for _ in range(3):
        cells["main"].plan(3)
    assert len(iron.events()) == n_events
    assert cells["main"](3) == "6 kg"
    assert len(iron.runs()) == 1


def test_an_edit_of_a_helper_that_is_called_by_a_helper_is_named_with_its_line(
    cells: dict[str, Any], world: World
) -> None:
    run_cell(EDITED, cells)
    plan = cells["main"].plan(3)
    assert actions(plan)[:3] == [(f"clean[{n}]", "redo") for n in range(3)]
    assert set(plan["reason"][:3]) == {"edited: line 3 of `scale`"}
    assert cells["main"](3) == "6 kg"
    assert world.log == [("clean", 0), ("clean", 1), ("clean", 2), ("report", 6)]


@pytest.mark.parametrize(("policy", "action"), [("keep", "reuse"), ("strict", "stop"), ("refresh", "redo")])
def test_a_plan_follows_the_policy_of_the_flow(cells: dict[str, Any], policy: str, action: str) -> None:
    run_cell(EDITED, cells)
    plan = cells["main"].options(on_change=policy).plan(3)
    assert actions(plan)[0] == ("clean[0]", action)
    assert plan["reason"][0].startswith("edited: line 3 of `scale`")


def test_the_policy_of_a_step_goes_before_that_of_its_flow(cells: dict[str, Any], world: World) -> None:
    run_cell(EDITED.replace("@iron.step\ndef clean", '@iron.step(on_change="keep")\ndef clean'), cells)
    assert cells["main"].options(on_change="strict").plan(3)["action"][0] == "reuse"
    assert cells["main"].options(on_change="refresh")(3) == "6 kg"
    assert world.log == [("report", 6)]


def test_what_comes_after_something_that_is_done_again_may_have_other_arguments(
    lab: Lab, cells: dict[str, Any], world: World
) -> None:
    world.is_broken = True
    run_cell(STEPS.replace("    if world", "    return 'fine'\n    if world"), cells)
    run_cell(FLOW.replace("return report", "r = report") + "    raise RuntimeError(r)\n", cells)
    with pytest.raises(RuntimeError):
        cells["main"](3)
    lab.cell()
    run_cell(EDITED.replace("    if world", "    return 'fine'\n    if world"), cells)
    plan = cells["main"].plan(3)
    assert dict(actions(plan))["report[0]"] == "reuse"
    assert list(plan["reason"])[-1] == "finished; reused if its arguments are the same"


def test_a_constant_that_changes_is_named_with_its_values(cells: dict[str, Any]) -> None:
    run_cell("FACTOR = 3", cells)
    assert set(cells["main"].plan(3)["reason"][:3]) == {"constant FACTOR: 2 -> 3"}


def test_an_undone_edit_is_no_reason(cells: dict[str, Any]) -> None:
    run_cell(EDITED, cells)
    run_cell(STEPS, cells)
    assert set(cells["main"].plan(3)["action"][:3]) == {"reuse"}


def test_steps_of_cells_that_were_not_run_are_missing(cells: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "_steps", {})
    plan = iron.get_run(iron.runs()["run_id"][0]).plan()
    assert set(plan["action"]) == {"missing"}
    assert "no step report is defined here" in list(plan["reason"])


def test_a_call_without_a_run_to_continue_begins_a_new_one(cells: dict[str, Any]) -> None:
    plan = cells["main"].plan(4)
    assert len(plan) == 0
    assert "a new run would begin" in plan.headline
    assert cells["main"](3) == "6 kg"


def test_a_keyed_run_that_is_completed_is_taken_as_it_is(cells: dict[str, Any]) -> None:
    keyed = cells["main"].options(key="k")
    assert keyed(2) == "2 kg"
    assert "its result returned" in keyed.plan(2).headline


def test_a_plan_shows_its_headline_and_its_reasons_in_full(cells: dict[str, Any]) -> None:
    run_cell(EDITED, cells)
    shown = cells["main"].plan(3)._repr_html_()
    assert "would be continued" in shown
    assert "edited: line 3 of `scale`" in shown
    assert "would be continued" in repr(cells["main"].plan(3))


def test_a_plan_is_drawn_with_what_would_be_done_again_as_pending(cells: dict[str, Any]) -> None:
    run_cell(EDITED, cells)
    plan = cells["main"].plan(3)
    groups = [group for group in Drawn.of(plan.diagram().svg).root.iter(f"{SVG}g") if group.get("data-status")]
    drawn = {title(group).split()[0].rstrip(":"): group.get("data-status") for group in groups}
    assert (drawn["clean"], drawn["report"]) == ("pending", "pending")
    assert plan.diagram().html in plan._repr_html_()
    assert cells["main"].plan(4).diagram() is None


def test_an_explanation_tells_of_failures_and_of_what_was_reused(cells: dict[str, Any]) -> None:
    cells["main"](3)
    run = cells["main"].last
    assert run.explain("report").reasons == (
        "attempt 1 (failed): new, it was called for the first time",
        "attempt 2 (completed): tried again, because attempt 1 failed: ConnectionError: printer on fire",
    )
    assert run.explain("clean[1]").reasons[-1] == "reused by the latest continuation"


def test_an_explanation_ends_with_the_failure_of_the_latest_attempt(lab: Lab) -> None:
    @iron.step
    def print_out(n: int) -> int:
        raise ConnectionError("printer on fire")

    @iron.flow
    def main() -> int:
        return print_out(1)

    with pytest.raises(ConnectionError):
        main()
    assert main.last is not None
    reasons = main.last.explain("print_out").reasons
    assert reasons[-2:] == (
        "attempt 1 (failed): new, it was called for the first time",
        "it failed: ConnectionError: printer on fire",
    )


def test_an_explanation_shows_what_was_edited(cells: dict[str, Any]) -> None:
    run_cell(EDITED, cells)
    cells["main"](3)
    found = cells["main"].last.explain("clean[0]")
    assert found.reasons[1] == "attempt 2 (completed): edited: line 3 of `scale`"
    assert "-    return n * factor\n+    return n * factor + 0 * n" in found.diff
    assert "+    return n * factor + 0 * n" in str(found)


def test_an_explanation_names_the_argument_that_changed(lab: Lab, cells: dict[str, Any]) -> None:
    run_cell(FLOW.replace("range(n)))", "range(n)), unit='t')"), cells)
    assert cells["main"](3) == "6 t"
    run = cells["main"].last
    assert run.explain("report[1]").reasons == ("attempt 1 (completed): argument `unit` changed: 'kg' -> 't'",)
    assert run.explain("report[0]").reasons[-1] == "no longer called"


def test_an_explanation_survives_the_process(lab: Lab, cells: dict[str, Any]) -> None:
    run_cell(EDITED, cells)
    cells["main"](3)
    run_id = cells["main"].last.id
    lab.die()
    assert "edited: line 3 of `scale`" in str(iron.get_run(run_id).explain("clean[0]"))


def test_what_is_no_step_can_not_be_explained(cells: dict[str, Any]) -> None:
    with pytest.raises(iron.errors.StepNotFound, match="its steps are"):
        cells["main"].last.explain("nobody")


def test_who_is_stopped_by_the_guard_is_told_what_was_edited(lab: Lab, cells: dict[str, Any]) -> None:
    run_cell(EDITED, cells)
    with pytest.raises(iron.CodeChanged, match=r"edited: line 3 of `scale`[\s\S]*3 finished steps"):
        cells["main"].options(on_change="strict")(3)


def test_a_plan_looks_at_the_work_at_stake_once_for_thousands_of_steps(
    lab: Lab, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, Any] = {"iron": iron, "world": world}
    run_cell("@iron.step\ndef double(n):\n    return 2 * n", names)
    run_cell("@iron.flow\ndef main():\n    list(double.map(range(300)))\n    raise RuntimeError", names)
    with pytest.raises(RuntimeError):
        names["main"]()
    run_cell("@iron.step\ndef double(n):\n    return n + n", names)
    looked: list[str] = []
    really = RecordedSteps.work_at_stake
    monkeypatch.setattr(RecordedSteps, "work_at_stake", lambda memo, *of: looked.append(of[0]) or really(memo, *of))
    lab.cell()
    assert names["main"].plan()["action"].value_counts().to_dict() == {"redo": 300}
    assert looked == ["double"]
