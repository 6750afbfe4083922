"""Flows of Lua that run others, and the command line that runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ironflow_nb as iron
from tests.graphs.lua_files import STOCK, flow_of, refusals

pytest.importorskip("lupa", reason="Lua is an extra")
pytestmark = [pytest.mark.usefixtures("lab"), pytest.mark.parametrize("lab", ["sqlite"], indirect=True)]

GREET = """
local flow = Flow.new("greet")
flow:step("hello", function(ctx) return { greeting = "Hello " .. (ctx.name or "you") } end)
return flow
"""
COUNT = """
local flow = Flow.new("count_up")
flow:step("one", function(ctx)
    local state = ctx.repeat_state or { n = 0 }
    return { repeat_next_state = { n = state.n + 1 }, repeat_done = state.n + 1 >= ctx.goal, at = ctx.repeat_iteration }
end)
return flow
"""


def test_a_child_is_a_run_of_its_own_whose_keys_are_its_parents(tmp_path: Path) -> None:
    (tmp_path / "greet.lua").write_text(GREET)
    graph = flow_of(
        tmp_path,
        'flow:step("who", function() return { person = "Ada" } end)',
        'flow:step("flat", nodes.subworkflow({ flow = "greet.lua", input = { name = "person" } })):depends_on("who")',
        'flow:step("own", nodes.subworkflow({ flow = "greet.lua", input = { name = "person" }, output_key = "sub",',
        '  on_error = "fail_fast" })):depends_on("who")',
        'flow:step("told", nodes.log({ message = "${ctx.greeting}, ${ctx.sub.greeting}" })):depends_on("flat", "own")',
    )
    found = graph()
    assert found["log_message"] == "Hello Ada, Hello Ada"
    assert (found["subworkflow_success"], found["sub_success"]) == (True, True) or found["sub_success"]
    assert sorted(iron.runs()["name"]) == ["f", "greet", "greet"]


def test_several_children_run_beside_each_other(tmp_path: Path) -> None:
    (tmp_path / "greet.lua").write_text(GREET)
    (tmp_path / "bad.lua").write_text(GREET.replace('"greet"', '"bad"').replace("(ctx.name", "(ctx.name.x.y"))
    graph = flow_of(
        tmp_path,
        'flow:step("all", nodes.parallel_subworkflows({ on_error = "ignore", flows = {',
        '  { flow = "greet.lua", input = { name = "Ada" }, output_key = "one" },',
        '  { flow = "bad.lua", output_key = "two" } } }))',
        'flow:step("sum", function(ctx)',
        '  return { n = ctx.parallel_results_count, ok = ctx.parallel_results_all_succeeded } end):depends_on("all")',
    )
    found = graph()
    first, second = found["parallel_results"]
    assert (first["success"], first["flow"], first["one"]["greeting"]) == (True, "greet", "Hello Ada")
    assert second["success"] is False
    assert (found["n"], found["ok"]) == (2, False)


def test_a_child_runs_for_each_item(tmp_path: Path) -> None:
    (tmp_path / "greet.lua").write_text(GREET.replace("ctx.name", "ctx.item.name"))
    graph = flow_of(
        tmp_path,
        'flow:step("who", function() return { people = { { name = "Ada" }, { name = "Bo" } } } end)',
        'flow:step("each", nodes.parallel_subworkflows({ flow = "greet.lua", source_key = "people" }))',
        '  :depends_on("who")',
    )
    found = graph()["parallel_results"]
    assert [(each["greeting"], each["index"]) for each in found] == [("Hello Ada", 1), ("Hello Bo", 2)]


def test_a_child_is_repeated_until_it_is_done(tmp_path: Path) -> None:
    (tmp_path / "count.lua").write_text(COUNT)
    lines = (
        'flow:step("begin", function() return { start = { n = 0 }, goal = 3 } end)',
        'flow:step("again", nodes.repeat_subworkflow({ flow = "count.lua", max_iterations = MOST,',
        '  input = { repeat_state = "start", goal = "goal" }, output_key = "counter" })):depends_on("begin")',
    )
    found = flow_of(tmp_path, *(each.replace("MOST", "5") for each in lines))()
    assert (found["counter_state"], found["counter_iterations"], found["counter"]["at"]) == ({"n": 3}, 3, 3)
    with pytest.raises(iron.NodeFailed, match="still true after 2 rounds"):
        flow_of(tmp_path, *(each.replace("MOST", "2") for each in lines))()


def test_a_child_that_runs_its_parent_is_refused(tmp_path: Path) -> None:
    [found] = refusals(tmp_path, 'flow:step("a", nodes.subworkflow({ flow = "flow.lua" }))')
    assert "line 2" in found
    assert "its child flow.lua runs it again" in found


# -- the command line --------------------------------------------------------------------------------------------


def command(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "ironflow_nb", *words]
    return subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=False)


@pytest.mark.slow
def test_the_command_line_runs_and_checks_a_file_of_lua(tmp_path: Path) -> None:
    (tmp_path / "flow.lua").write_text(STOCK)
    ran = command(tmp_path, "run", "flow.lua", "--input", '{"cups": 3}', "--json", "--journal", "j.db")
    assert ran.returncode == 0, ran.stderr
    assert '"told": "2 lines, 28.0 EUR: large"' in ran.stdout
    checked = command(tmp_path, "validate", "flow.lua", "--json")
    assert (checked.returncode, '"valid": true' in checked.stdout) == (0, True)
    (tmp_path / "flow.lua").write_text(STOCK.replace("nodes.log(", "nodes.image_flip("))
    wrong = command(tmp_path, "validate", "flow.lua", "--json")
    assert wrong.returncode == 1
    assert "there is no node of the kind image_flip here" in wrong.stdout
