"""Code of Lua in graphs: what it gives, and that nothing it does gets out of its process or its bounds."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.graphs.lua import lua_calls
from ironflow_nb.graphs.nodes.lua import LUA
from tests.conftest import Lab
from tests.graphs.asking import perform
from tests.graphs.playing import graph_of

pytest.importorskip("lupa", reason="Lua is an extra")
pytestmark = [pytest.mark.usefixtures("lab"), pytest.mark.parametrize("lab", ["sqlite"], indirect=True)]


def run(source: str, *, timeout_s: float = 20.0, **options: Any) -> Any:
    return perform(LUA, {"source": source, **options}, timeout_s=timeout_s)


def refusal(source: str, *, timeout_s: float = 20.0, **options: Any) -> iron.NodeFailed:
    with pytest.raises(iron.NodeFailed) as caught:
        run(source, timeout_s=timeout_s, **options)
    return caught.value


GIVEN = [
    ("function(ctx) return {n = ctx.n + 1} end", {"n": 1}, {"n": 2}),
    ("local n = ctx.n return {n = n * 2}", {"n": 1.5}, {"n": 3.0}),
    ("ctx.n", {"n": 7}, {"result": 7}),
    ("{a = 1, b = {}}", {}, {"a": 1, "b": {}}),
    ("{1, 2, 3}", {}, {"result": [1, 2, 3]}),
    ("return nil", {}, {}),
    ("function() end", {}, {}),
    ("{n = json_null, l = json_array({}), o = json_object({})}", {}, {"n": None, "l": [], "o": {}}),
    ("{same = ctx.list, n = #ctx.list}", {"list": []}, {"same": [], "n": 0}),
    ("{is = ctx.a == nil, inner = ctx.b.c == json_null}", {"a": None, "b": {"c": None}}, {"is": True, "inner": True}),
    ("{text = string.upper('ä') .. #'ä', n = utf8.len('ä')}", {}, {"text": "ä2", "n": 1}),
    ("json_parse(json_stringify({a = {1, 2}}))", {}, {"a": [1, 2]}),
    ("base64_decode(base64_encode('ah, \u00e9')) .. ''", {}, {"result": "ah, é"}),
    ("{big = math.maxinteger, s = tostring(1 / 3):sub(1, 4)}", {}, {"big": 2**63 - 1, "s": "0.33"}),
    ("select(2, pcall(error, 'no')) .. '!'", {}, {"result": "no!"}),
    ("{env('A'), env('B') == nil}", {}, {"result": ["a", True]}),
    (
        "local t, got = {b = 1, [2] = 1, a = 1, [1] = 1}, '' for k in pairs(t) do got = got .. k end return got",
        {},
        {"result": "12ab"},
    ),
    ("local m = setmetatable({}, {__pairs = function() return next, {x = 1} end}) for k in pairs(m) do return k end",
     {}, {"result": "x"}),
]  # fmt: skip


@pytest.mark.parametrize(("source", "ctx", "expected"), GIVEN, ids=[each[0][:40] for each in GIVEN])
def test_code_gives_what_it_returns(source: str, ctx: dict[str, Any], expected: Any) -> None:
    assert run(source, ctx=ctx, env={"A": "a"}) == expected


def test_a_function_is_called_for_each_item() -> None:
    code = "function(item, i) if item.n > 1 then return {i = i, n = item.n} end end"
    items = [{"n": 2}, {"n": 0}, {"n": 3}]
    assert run(code, items=items) == [{"i": 1, "n": 2}, {"i": 3, "n": 3}]
    assert run(code, items=items, keep_nulls=True)[1] is None
    assert "with items, the code is a function" in str(refusal("1", items=items))


def test_what_it_logs_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", "ironflow_nb.graph"):
        run("function() log('warn', 'low', {n = 1}) log('all', 2) print('p') end")
    assert [(each.levelname, each.getMessage().partition(": ")[2] or each.getMessage()) for each in caplog.records] == [
        ("WARNING", 'low {"n":1}'),
        ("INFO", "all 2"),
        ("INFO", "p"),
    ]


def test_times_and_ids_are_those_of_the_run() -> None:
    graph = graph_of({"id": "a", "lua": "{id = uuid4(), other = uuid4(), at = now_rfc3339(), ms = now_unix_ms()}"})
    made = graph()
    assert made["id"] != made["other"]
    assert made["id"] != graph.options(fresh=True)()["id"]
    assert datetime.fromisoformat(made["at"]).timestamp() == made["ms"] / 1000


FAULTS = [
    ("function(ctx) return ctx.a.b end", "line 1 of its code: attempt to index a nil value (field 'a')"),
    ("function(ctx)\n  local x = 1\n  error('bad luck')\nend", "line 3 of its code: bad luck"),
    ("x = = 1", "line 1 of its code: unexpected symbol near '='"),
    ("error({message = 'told'})", "told"),
    ("error({code = 7})", "an error that is a table"),
    ("{1, nil, 3}", "a list with gaps"),
    ("{1, a = 2}", "both numbers and names"),
    ("{f = print}", "the value.f is a function, which is no data"),
    ("{n = 0 / 0}", "which JSON does not have"),
    ("{n = math.huge}", "which JSON does not have"),
    ("{t = '\\255'}", "the value.t is a text that is not UTF-8"),
    ("{[true] = 1}", "both numbers and names"),
    ("json_parse('{')", "Expecting property name"),
    ("json_parse('NaN')", "JSON has no NaN"),
    ("log()", "log needs something to log"),
    ("base64_decode('***')", "base64"),
    ("string.dump(print)", "attempt to call a nil value (field 'dump')"),
]


@pytest.mark.parametrize(("source", "expected"), FAULTS, ids=[each[0][:30] for each in FAULTS])
def test_what_fails_says_where(source: str, expected: str) -> None:
    assert expected in str(refusal(source))


NAMES = (
    "io os debug package require load loadstring loadfile dofile collectgarbage coroutine python warn module setfenv"
)


@pytest.mark.parametrize("value", [b"bytes", float("nan"), object()], ids=["bytes", "nan", "an object"])
def test_what_is_no_json_is_not_given_to_it(value: Any) -> None:
    assert "what it is given is no JSON" in str(refusal("1", ctx={"x": value}))


def test_names_that_lead_out_are_not_there() -> None:
    source = "function(ctx) local found = json_array({}) for _, name in ipairs(ctx.names) do"
    source += " if _G[name] ~= nil then found[#found + 1] = name end end return {found = found} end"
    assert run(source, ctx={"names": NAMES.split()}) == {"found": []}


def test_no_object_of_python_is_in_reach() -> None:
    source = """function()
      local seen, kinds = {}, {}
      local function look(value)
        kinds[type(value)] = true
        if type(value) == "table" and not seen[value] then
          seen[value] = true
          for key, each in pairs(value) do look(key) look(each) end
        end
        local meta = getmetatable(value)
        if type(meta) == "table" then look(meta) end
      end
      look(_G) look("") look(json_parse) look(log) look(json_parse("[1]"))
      local _, told = pcall(json_parse, "{")
      look(told)
      return {kinds = kinds}
    end"""
    assert set(run(source)["kinds"]) <= {"table", "string", "function", "boolean", "number"}


QUICK = [
    ("an endless loop", "while true do end", "instructions"),
    ("an endless loop in a function", "function() while true do end end", "instructions"),
    ("endless tail calls", "local function f() return f() end return f()", "instructions"),
    ("endless recursion", "local function f() return 1 + f() end return f()", "stack overflow"),
    ("a pcall around it", "while true do pcall(function() while true do end end) end", "instructions"),
    ("pcalls in pcalls", "local function f() while true do pcall(f) end end return f()", "instructions"),
    ("an xpcall whose handler does not end", "xpcall(error, function() while true do end end)", "instructions"),
    ("an iterator without an end", "for _ in function() return 1 end do end", "instructions"),
    ("__index without an end", "setmetatable({}, {__index = function(t, k) return t[k + 1] end})[1]", "overflow"),
    ("__close", "local x <close> = setmetatable({}, {__close = function() while true do end end})", "instructions"),
    ("a table that grows", "local t = {} while true do t[#t + 1] = {} end", "memory"),
    ("a text that grows", "local t = 'x' while true do t = t .. t end", "memory"),
    ("string.rep", "string.rep('x', 1 << 36)", ""),
    ("string.rep often", "local t = {} for i = 1, 1000 do t[i] = string.rep('x', 1000000) .. i end", "memory"),
    ("table.concat", "local t, x = {}, string.rep('x', 1e6 // 1) for i = 1, 300 do t[i] = x end table.concat(t)", ""),
    ("string.format", "string.format('%99999d', 1)", ""),
    ("a swallowed error of memory", "for i = 1, 3 do pcall(string.rep, 'x', 1 << 30) end return 1 + nil", ""),
    ("an error with an endless text", "error(setmetatable({}, {__tostring = function() while true do end end}))", ""),
    ("an error with an endless field", "error(setmetatable({}, {__index = function() while true do end end}))", ""),
    ("a sort that lies", "local t = {1, 2, 3, 4, 5, 6} table.sort(t, function() return true end)", "order"),
    ("nesting", "local t = {} for i = 1, 100 do t = {t} end return t", "levels deep"),
    ("a cycle", "local t = {} t.t = t return t", "levels deep"),
    ("many values", "local t = {} for i = 1, 200000 do t[i] = i end return t", "more than 100,000 values"),
    ("endless logs", "while true do log('x') end", "more than 1,000 lines"),
    ("deep JSON", "json_parse(string.rep('[', 1000000))", ""),
    ("long JSON", "json_parse('\"' .. string.rep('x', 20000000) .. '\"')", "bytes is not parsed"),
    ("a chunk of bytes", "\x1bLua", ""),
    ("no coroutine", "coroutine.wrap(function() while true do end end)()", "nil value (global 'coroutine')"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), [each[1:] for each in QUICK], ids=[each[0] for each in QUICK])
def test_code_that_wants_too_much_is_stopped(source: str, expected: str) -> None:
    error = refusal(source, max_instructions=20_000_000)
    assert expected in str(error)


SLOW = [
    ("an empty text repeated", "string.rep('', 1 << 62)"),
    ("a pattern with too many ways", "string.find(string.rep('a', 60), string.rep('a?', 60) .. string.rep('a', 60))"),
    ("a pattern of many stars", "string.match(string.rep('a', 5000), '.-.-.-.-.-.-b')"),
    ("a move of nothing", "table.move({}, 1, 1 << 60, 2)"),
    ("a length that lies", "table.insert(setmetatable({}, {__len = function() return 1 << 60 end}), 1, 'x')"),
    ("a finalizer", "setmetatable({}, {__gc = function() while true do end end}) for i = 1, 1e7 do local t = {} end"),
    ("a swallowed pattern", "while true do pcall(string.find, string.rep('a', 60), string.rep('a?', 60) .. 'b') end"),
]


@pytest.mark.parametrize("source", [each[1] for each in SLOW], ids=[each[0] for each in SLOW])
def test_what_only_the_clock_can_stop_is_stopped(source: str) -> None:
    error = refusal(source, timeout_s=0.5)
    assert "it took longer than 0.5 s" in str(error)
    assert not error.is_retryable


def test_a_finalizer_at_the_end_of_the_process_is_not_waited_for() -> None:
    code = "function() setmetatable({}, {__gc = function() while true do end end}) return {n = 1} end"
    assert run(code) == {"n": 1}


def test_what_it_needs_ends_with_it() -> None:
    before = set(_children())
    refusal("string.rep('', 1 << 62)", timeout_s=0.3)
    assert set(_children()) <= before | _supervisors()


def _children() -> list[int]:
    place = Path(f"/proc/self/task/{os.getpid()}/children")
    if not place.exists():
        pytest.skip("only Linux tells the children of a process")
    return [int(each) for each in place.read_text().split()]


def _supervisors() -> set[int]:
    return {each for each in _children() if b"groups_of_begun" in Path(f"/proc/{each}/cmdline").read_bytes()}


def test_the_process_sees_no_variable_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_OWN_TOKEN", "darjeeling")
    assert run("{token = env('MY_OWN_TOKEN')}") == {}


def test_an_edit_of_the_code_runs_it_again_and_its_neighbours_not(lab: Lab) -> None:
    lab.is_interactive = True

    def nodes(code: str) -> list[dict[str, Any]]:
        return [
            {"id": "a", "lua": "{id = uuid4()}"},
            {"id": "b", "depends_on": ["a"], "lua": {"source": code, "ctx": {"id": "{{ a.id }}"}}},
            {"id": "c", "depends_on": ["b"], "lua": {"source": "{n = ctx.n, id = uuid4()}", "ctx": {"n": "{{ b.n }}"}}},
        ]

    def built(code: str) -> Any:
        return graph_of(*nodes(code), name="edited", output="{{ [a.id, b.n, c.id] }}")

    first = built("{n = #ctx.id}")()
    lab.cell()
    same = built("{n = #ctx.id + 0}")()
    assert same == first  # what takes its output is reused, too
    lab.cell()
    other = built("{n = 1}")()
    assert (other[0], other[1]) == (first[0], 1)
    assert other[2] != first[2]


def test_a_failure_of_the_code_is_tried_again_and_one_of_its_bounds_not() -> None:
    assert refusal("error('x')").is_retryable
    assert not refusal("while true do end", max_instructions=1_000_000).is_retryable


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lupa", None)
    assert "pip install 'ironflow-nb[lua]'" in str(refusal("1"))


def test_a_process_that_can_not_answer_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = tmp_path / "lua_process.py"
    place.write_text("raise SystemExit('no way')")
    monkeypatch.setattr(lua_calls, "_FOLDER", tmp_path)
    assert "its process ended with exit code 1: no way" in str(refusal("1"))


def test_the_process_imports_nothing_of_the_package() -> None:
    code = f"import sys; sys.path.append({str(lua_calls._FOLDER)!r}); import lua_process, lua_source"
    code += "; print([name for name in sys.modules if name.startswith('ironflow')])"
    found = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
