"""Flows of Lua as graphs: what they give here, what is told of them, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import GraphInvalid
from ironflow_nb.graphs.graph import Graph
from ironflow_nb.testing.crash_everywhere import crash_everywhere
from tests.conftest import Lab
from tests.graphs.lua_files import STOCK, flow_of, imported, node_of, refusals

pytest.importorskip("lupa", reason="Lua is an extra")
pytestmark = [pytest.mark.usefixtures("lab"), pytest.mark.parametrize("lab", ["sqlite"], indirect=True)]

# -- what it gives -----------------------------------------------------------------------------------------------


def test_a_flow_gives_the_context_at_its_end(tmp_path: Path) -> None:
    graph = imported(tmp_path, STOCK)
    assert graph.findings() == []
    found = graph(cups=3)
    assert found["told"] == "2 lines, 28.0 EUR: large"
    assert found["sums"] == [{"line": 1, "name": "TEA", "sum": 10.0}, {"line": 2, "name": "CUP", "sum": 18}]
    assert {"cups": 3, "currency": "EUR", "total": 28.0, "sums_count": 2}.items() <= found.items()
    assert graph()["told"] == "only 10.0 EUR"
    assert list(graph(cups=0)) == list(graph(cups=3))


def test_to_yaml_is_the_whole_graph_and_needs_no_file(tmp_path: Path) -> None:
    graph = imported(tmp_path, STOCK)
    (tmp_path / "flow.lua").unlink()
    again = Graph.from_yaml(graph.to_yaml())
    assert again.data == graph.data
    assert again(cups=3)["total"] == 28
    assert node_of(graph, "total")["lua"]["ctx"] == {"sums": "{{ sums }}"}
    assert node_of(graph, "large")["when"] == "{{ size == `true` }}"


def test_a_run_is_continued_without_the_file(tmp_path: Path) -> None:
    graph = imported(tmp_path, STOCK)
    run = graph.start(cups=3)
    run.wait()
    (tmp_path / "flow.lua").unlink()
    assert Graph.from_run(run)(cups=3) == run.result()


def test_an_edited_function_runs_again_and_its_unchanged_neighbours_are_reused(tmp_path: Path, lab: Lab) -> None:
    lab.is_interactive = True
    lines = [
        'flow:step("a", function() return { a = uuid4() } end)',
        'flow:step("b", function(ctx) return { b = #ctx.a } end):depends_on("a")',
        'flow:step("c", function(ctx) return { c = ctx.b .. uuid4() } end):depends_on("b")',
    ]
    first = flow_of(tmp_path, *lines)()
    lab.cell()
    edited = [lines[0], lines[1].replace("#ctx.a", "#ctx.a + 1"), lines[2]]
    second = flow_of(tmp_path, "-- a comment", *edited)()
    assert (second["a"], second["b"]) == (first["a"], 37)
    assert second["c"] != first["c"]


@pytest.mark.crash
@pytest.mark.parametrize("durability", ["power", "process"])
def test_killed_at_every_write_it_goes_on(tmp_path: Path, durability: str) -> None:
    lines = [
        'flow:step("a", function() return { list = { 1, 2 } } end)',
        'flow:step("b", nodes.foreach({ source_key = "list", output_key = "got",',
        '  transform = function(n) return n * 2 end })):depends_on("a")',
        'flow:step("c", nodes.if_node({ condition = "ctx.got_count == 2" })):depends_on("b")',
        'flow:step("d", function(ctx) return { sum = ctx.got[1] + ctx.got[2] } end):depends_on("c"):route("true")',
    ]
    found = crash_everywhere(flow_of(tmp_path, *lines), {}, durability=durability)
    assert set(found["moment"]) == {"before", "after"}
    assert found["n_kept"].max() >= found["n_completed"].max() - 1


CODES = [
    ('nodes.code({ source = "return { x = ctx.n * 2 }" })', {"x": 6}),
    ('nodes.code({ source = "ctx.n + 1" })', {"result": 4}),
    ('nodes.code({ source = [[ local t = {} for i = 1, ctx.n do t[i] = i end return t ]] })', {"result": [1, 2, 3]}),
    ('nodes.code({ source = function() return { y = ctx.n } end })', {"y": 3}),
    ('function(ctx) return { ["a b"] = 1, c = { d = ctx["n"] } } end', {"a b": 1, "c": {"d": 3}}),
    ('function(c) local all = {} for k, v in pairs(c) do all["got_" .. k] = v end return all end', {"got_n": 3}),
    ('function(ctx) if ctx.n > 2 then return { big = true } end return { small = true } end', {"big": True}),
    ('function(ctx) ctx.n = 9 return { n = ctx.n } end', {"n": 9}),
    ('function() return env("MY_NUMBER") end', {"result": "7"}),
    ('function() local f = function(x) return { no = x } end return { v = f(1).no } end', {"v": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("handler", "expected"), CODES, ids=[each[0][:50] for each in CODES])
def test_code_in_each_form_writes_its_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handler: str, expected: dict[str, Any]
) -> None:
    monkeypatch.setenv("MY_NUMBER", "7")
    found = flow_of(tmp_path, f'flow:step("a", {handler})')(n=3)
    assert found == {"n": 3, **expected}


CONDITIONS = [
    ("ctx.n > 2", {"n": 3}, True), ("ctx.n > 2", {"n": "3"}, True), ("ctx.n >= 3", {"n": 2.9}, False),
    ("ctx.n == 3", {"n": "3.0"}, True), ("ctx.n != 3", {}, True), ("ctx.n == 3", {}, False),
    ("ctx.a.b == 'x'", {"a": {"b": "x"}}, True), ('ctx.s == "x"', {"s": "y"}, False), ("ctx.s == x", {"s": "x"}, True),
    ("ctx.s exists", {"s": 0}, True), ("ctx.s exists", {}, False), ("ctx.s", {"s": 0}, True),
    ("ctx.s", {"s": ""}, True), ("ctx.s", {"s": False}, False), ("ctx.s", {"s": None}, False), ("ctx.s", {}, False),
    ("ctx.s == true", {"s": True}, True),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "given", "expected"), CONDITIONS, ids=map(str, CONDITIONS))
def test_a_condition_holds_as_it_did(tmp_path: Path, condition: str, given: dict[str, Any], expected: bool) -> None:
    graph = flow_of(
        tmp_path,
        f'flow:step_if([[{condition}]], "a", function() return {{ ran = true }} end)',
        'flow:step("b", function() return { done = true } end):depends_on("a")',
    )
    found = graph(given)
    assert ("ran" in found, found["done"]) == (expected, True)


@pytest.mark.parametrize(("role", "expected"), [("admin", "all"), ("7", "seven"), (7, "seven"), (None, "rest")])
def test_a_switch_runs_the_route_of_its_case(tmp_path: Path, role: Any, expected: str) -> None:
    cases = '{ admin = "all", ["7"] = "seven", dull = "never" }'
    graph = flow_of(
        tmp_path,
        f'flow:step("who", nodes.switch_node({{ value = "ctx.role", cases = {cases}, default = "rest" }}))',
        *(
            f'flow:step("{each}", function() return {{ way = "{each}" }} end):depends_on("who"):route("{each}")'
            for each in ("all", "seven", "never", "rest")
        ),
        'flow:step("after", nodes.log({ message = "${ctx.way} ${ctx._route_who}" })):depends_on("all", "rest")',
    )
    assert graph(role=role)["way"] == expected
    if role is not None:
        assert graph(role=role)["log_message"] == f"{expected} {expected}"


def test_the_later_step_wins_a_key_and_a_phase_sees_what_was_before_it(tmp_path: Path) -> None:
    graph = flow_of(
        tmp_path,
        'flow:step("one", function() return { v = 1 } end)',
        'flow:step("two", function() return { v = 2 } end)',
        'flow:step("beside", function(ctx) return { seen_beside = tostring(ctx.v) } end)',
        'flow:step("after", function(ctx) return { seen = ctx.v, v = 3 } end):depends_on("one")',
        'flow:step("skipped", nodes.if_node({ condition = "ctx.v == 9" })):depends_on("one")',
        'flow:step("never", function() return { v = 9 } end):depends_on("skipped"):route("true")',
        'flow:step("last", function(ctx) return { last = ctx.v } end):depends_on("never", "after")',
    )
    found = graph()
    assert (found["seen"], found["last"], found["v"]) == (2, 3, 3)
    assert found["seen_beside"] == "nil"
    assert graph(v=5)["seen_beside"] == "5"


def test_a_step_that_handles_a_failure_runs_only_then(tmp_path: Path) -> None:
    graph = flow_of(
        tmp_path,
        'flow:step("risky", function(ctx) if ctx.bad then error("no luck") end return { got = 1 } end):on_error("fix")',
        'flow:step("fix", function(ctx)',
        '  return { got = 0, why = ctx._error_step .. " " .. ctx._error_node_type .. ": " .. ctx._error_message } end)',
        'flow:step("next", function(ctx) return { next = ctx.got } end):depends_on("risky")',
        'flow:step("told", nodes.log({ message = "${ctx.why}" })):depends_on("fix")',
    )
    good = graph()
    assert (good["next"], good["got"]) == (1, 1)
    assert "why" not in good
    assert "log_message" not in good
    bad = graph(bad=True)
    assert (bad["next"], bad["got"]) == (0, 0)
    assert bad["why"].startswith("risky code: risky: line 1 of its code: no luck")
    assert bad["log_message"] == bad["why"]


def test_a_failure_without_a_handler_fails_the_run_after_what_does_not_wait_for_it(tmp_path: Path) -> None:
    graph = flow_of(
        tmp_path,
        'flow:step("bad", function() error("no") end):retries(1, 0)',
        'flow:step("after", function() return { after = 1 } end):depends_on("bad")',
        'flow:step("beside", function() return { beside = 1 } end)',
    )
    with pytest.raises(iron.NodeFailed, match="no"):
        graph()
    statuses = iron.attempts().groupby("name")["status"].agg(list).to_dict()
    assert statuses == {"f.bad": ["failed", "failed"], "f.beside": ["completed"], "f.after": ["skipped"]}


def test_a_step_that_has_no_time_left_is_ended(tmp_path: Path) -> None:
    graph = flow_of(tmp_path, 'flow:step("long", function() string.rep("", 1 << 62) end):retries(5):timeout(0.5)')
    with pytest.raises(iron.NodeFailed, match=r"longer than 0\.5 s|0\.5"):
        graph()
    assert len(iron.attempts()) == 1


def test_context_keys_bound_what_a_function_sees(tmp_path: Path) -> None:
    code = "function(ctx) local n = 0 for _ in pairs(ctx) do n = n + 1 end return { n = n } end"
    graph = flow_of(
        tmp_path, f'flow:step("a", {code}):context_keys({{ "x" }})', 'flow:step("b", function() return nil end)'
    )
    assert graph(x=1, y=2)["n"] == 1


@pytest.mark.slow
def test_a_flow_of_many_steps_is_read(tmp_path: Path) -> None:
    lines = [
        'flow:step("s0", function() return { n0 = 0 } end)',
        "for i = 1, 2000 do",
        '  flow:step("s" .. i, nodes.log({ message = "${ctx.n0} " .. i })):depends_on("s" .. i - 1) end',
    ]
    graph = flow_of(tmp_path, *lines)
    assert node_of(graph, "s2000")["depends_on"] == ["s1999", "s0"]
    assert graph.findings() == []


def test_several_functions_in_one_line_are_told_apart(tmp_path: Path) -> None:
    graph = flow_of(
        tmp_path,
        'local a, b = function() return { a = 1 } end, function() return { b = "end -- [[" } end',
        'flow:step("a", a) flow:step("b", b) flow:step("c", nodes.code({ source = a }))',
    )
    assert graph() == {"a": 1, "b": "end -- [["}


# -- what is told ------------------------------------------------------------------------------------------------


def test_what_means_something_else_is_told_with_its_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [
        'flow:step("ask", nodes.http_get({ url = "https://a.test/${ctx.id}", output_key = "got", max_redirects = 3 }))',
        'flow:step("told", nodes.log({ message = "${ctx.got_data.user.name}" })):depends_on("ask")',
        'flow:step("odd", function()',
        "  return { v = helper(1) }",
        "end):retries(200 - 190)",
        'flow:step("wait", nodes.delay({ seconds = 1 })):timeout(3)',
        'flow:step("n", function(ctx) return { n = ctx.got_attempts, h = ctx._headers } end):depends_on("ask")',
    ]
    with caplog.at_level(logging.WARNING, "ironflow_nb.graph"):
        graph = flow_of(tmp_path, *lines)
    told = "\n".join(graph.notes)
    assert "line 2, column 1: step ask: ctx.id: what is missing is an empty text there, and an error here" in told
    assert "line 3, column 1: step told: ctx.got_data.user.name: what is missing" in told
    assert "step odd: line 5: nothing defines helper, so it is nil" in told
    assert "step wait: a delay has no time limit here; timeout(3) is left out" in told
    assert "line 8, column 1: step n: ctx.got_attempts is not there, so it is nil" in told
    assert "step n: ctx._headers is not there" in told
    assert len(caplog.records) == len(graph.notes)
    assert all(f"# flow.lua, {note}" in graph.to_yaml() for note in graph.notes)
    assert graph.data["allow"] == {"http": ["a.test"]}
    lenient = flow_of(tmp_path, *lines, lenient=True)
    assert node_of(lenient, "told")["log"] == "{{ default(ask.body.user.name, '') }}"


def test_variables_and_random_ids_of_a_file_stay_out_of_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "darjeeling-first-flush")
    monkeypatch.setenv("SHOP_REGION", "north")
    monkeypatch.delenv("SHOP_OTHER", raising=False)
    graph = flow_of(
        tmp_path,
        'local place = "/tmp/" .. uuid4() .. ".txt"',
        'flow:step("ask", nodes.http_get({ url = "https://a.test/" .. env("SHOP_REGION"), output_key = "got",',
        '  auth = { type = "bearer", token = env("SHOP_TOKEN") }, headers = { x = env("SHOP_OTHER") or "none" } }))',
        'flow:step("a", nodes.log({ message = place })) flow:step("b", nodes.log({ message = place .. "!" }))',
    )
    assert "darjeeling" not in graph.to_yaml()
    assert "north" not in graph.to_yaml()
    asked = node_of(graph, "ask")["http"]
    assert asked["url"] == "https://a.test/{{ env.SHOP_REGION }}"
    assert asked["auth"] == {"host": "a.test", "bearer": "{{ secrets.shop_token }}"}
    assert asked["headers"] == {"x": "none"}
    assert graph.data["allow"]["env"] == ["SHOP_REGION", "SHOP_TOKEN"]
    assert node_of(graph, "random_id_1")["transform"] == "{{ uuid() }}"
    run = graph.test(mocks={"ask": {"status_code": 200, "headers": {}, "body": {}}})
    assert run.output["log_message"].endswith(".txt!")
    assert graph.findings() == []


def test_a_variable_that_decides_which_steps_there_are_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_MODE", "long")
    line = 'if env("SHOP_MODE") == "long" then flow:step("more", nodes.log({ message = "more" })) end'
    graph = flow_of(tmp_path, 'flow:step("a", nodes.log({ message = "a" }))', line)
    assert [each["id"] for each in graph.data["nodes"]] == ["a", "more"]
    assert any(
        "what it reads of SHOP_MODE decides" in note and "their values stand in the graph" in note
        for note in graph.notes
    )


def test_a_secret_that_decides_is_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_MODE", "long")
    monkeypatch.setenv("SHOP_TOKEN", "darjeeling-first-flush")
    line = 'if env("SHOP_MODE") == "long" then flow:step("m", nodes.log({ message = env("SHOP_TOKEN") })) end'
    graph = flow_of(tmp_path, line)
    assert node_of(graph, "m")["log"] == "{{ secrets.shop_token }}"
    found = refusals(
        tmp_path, 'if env("SHOP_TOKEN") ~= "x" then flow:step("m" .. #env("SHOP_TOKEN"), nodes.log({})) end'
    )
    assert "a secret of" in found[0]
    assert "decides what the flow is" in found[0]
    assert "darjeeling" not in found[0]


def test_a_file_that_is_another_flow_each_time_is_refused(tmp_path: Path) -> None:
    [found] = refusals(tmp_path, 'flow:step(tostring({}), nodes.log({ message = "" }))')
    assert "the file describes another flow each time it is run" in found


def test_steps_that_are_made_in_a_loop_have_the_same_order_each_time(tmp_path: Path) -> None:
    lines = ["for name, at in pairs({ c = 1, a = 2, b = 3, d = 4, e = 5 }) do",
             '  flow:step(name, nodes.log({ message = at .. "" })) end']  # fmt: skip
    assert [each["id"] for each in flow_of(tmp_path, *lines).data["nodes"]] == ["a", "b", "c", "d", "e"]


REFUSED = [
    ('flow:step("a", nodes.log({})):depends_on("b")', "step a: it depends on 'b', and there is no such step"),
    ('flow:step("a", nodes.log({})) flow:step("a", nodes.log({}))', "line 2 has a step of that name, too"),
    (
        'flow:step("a", nodes.log({})):depends_on("b") flow:step("b", nodes.log({})):depends_on("a")',
        "these steps wait for each other: a -> b -> a",
    ),
    ('flow:step("a", nodes.image_flip({}))', 'a kind of yours may stand for it: @iron.node("image_flip")'),
    ('local k = 3 flow:step("a", function() return { k = k } end)', "the function of line 2 uses k of the file"),
    ('flow:step("a", print)', "a function of"),
    ('flow:step("a", nodes.log({ message = "${ctx.a b}" }))', "is no path of the context"),
    ('flow:step("a", nodes.http_get({}))', "nodes.http_get needs url"),
    ('flow:step("a", nodes.http_get("https://a.test"))', "nodes.http_get takes a table of options"),
    ('flow:step("a", nodes.if_node({ condition = "1 > 2" }))', "is no value of the context"),
    ('flow:step("a", nodes.log({})):route("x")', "no step that it depends on has a route 'x'"),
    ('flow:step("a", nodes.log({})):on_error("a")', "on_error names 'a', which is no other step"),
    ('flow:step("a", nodes.log({})):retries(-1)', "retries takes a whole number"),
    ('flow:step("a", nodes.log({})):timeout(0)', "timeout takes seconds"),
    ('flow:step("a", nodes.subworkflow({ flow = "none.lua" }))', "its child none.lua can't be read: no such file"),
    ('flow:step("a", nodes.subworkflow({ flow = "x.lua", wait = false }))', "emit an event"),
    ('flow:step("a", nodes.code({ source = "local x = = 1" }))', "its code can't be read, line 1: unexpected symbol"),
    ('flow:step("a", nodes.code({ bytecode_b64 = "G0x1" }))', "not bytecode"),
    ('flow:step("a", nodes.db_query({ connection = "oracle:x", query = "select 1" }))', "the database"),
    ('flow:step("a", nodes.data_filter({ source_key = "a", output_key = "b", field = "c", op = "like" }))', "op is eq"),
    ('flow:step("a", nodes.select_fields({ source_key = "a", output_key = "b", fields = 3 }))', "a form that it can't"),
    ('flow:step("a", function() return env(ctx.x) end)', "env(name) needs the name as a text in quotes"),
    ('flow:step("a", nodes.log({})):context_keys({})', "context_keys belongs to functions and code nodes only"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), REFUSED, ids=[each[1][:50] for each in REFUSED])
def test_what_can_not_be_kept_is_refused_with_its_line(tmp_path: Path, line: str, expected: str) -> None:
    found = refusals(tmp_path, line)
    assert any(expected in each and "line 2, column 1" in each for each in found), found


def test_all_refusals_are_told_at_once(tmp_path: Path) -> None:
    lines = ['flow:step("a", nodes.image_flip({}))', "", 'flow:step("b", nodes.http_get({}))']
    assert [each.partition(",")[0] for each in refusals(tmp_path, *lines)] == ["line 2", "line 4"]


BROKEN = [
    ("x = = 1", "line 1, column 1: unexpected symbol near '='"),
    ("local flow = Flow.new('f')\nerror('bad luck')", "line 2, column 1: bad luck"),
    (
        "local flow = Flow.new('f')\nflow:step('a', 3)\nreturn flow",
        "line 2, column 1: the step a needs nodes.KIND{...}",
    ),
    (
        "local flow = Flow.new('f')\nflow:step('a', nodes.log{}):often()",
        "line 2, column 1: attempt to call a nil value",
    ),
    ("return 1", "the file returns no flow; end it with: return flow"),
    ("return Flow.new('f')", "the flow has no steps"),
    ("while true do end", "instructions"),
    ("local t = {} while true do t[#t + 1] = string.rep('x', 1e6) .. #t end", "bytes of memory"),
    ("os.execute('touch pwned')", "line 1, column 1: attempt to index a nil value (global 'os')"),
    ("io.open('/etc/passwd')", "global 'io'"),
    ("require('x')", "global 'require'"),
    ("return setmetatable({}, {__index = function() while true do end end})", "the file returns no flow"),
]


@pytest.mark.parametrize(("text", "expected"), BROKEN, ids=[each[0][:40] for each in BROKEN])
def test_a_file_that_is_no_flow_is_refused_within_its_bounds(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(GraphInvalid) as caught:
        imported(tmp_path, text)
    assert expected in str(caught.value)
    assert list(tmp_path.iterdir()) == [tmp_path / "flow.lua"]


def test_a_kind_of_the_user_stands_for_one_that_is_not_there(tmp_path: Path) -> None:
    @iron.node("image_flip")
    def image_flip(path: str, output_key: str) -> dict[str, Any]:
        return {output_key: f"flipped {path}"}

    graph = flow_of(
        tmp_path,
        'flow:step("a", nodes.image_flip({ path = "${ctx.p}", output_key = "done" }))',
        'flow:step("b", nodes.log({ message = "${ctx.done}" })):depends_on("a")',
    )
    assert graph(p="x.png")["log_message"] == "flipped x.png"
