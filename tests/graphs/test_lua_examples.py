"""Flows as their authors write them, told again: each gives here what it gave there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.graphs.graph import Graph
from tests.graphs.servers import Server, replying, serving

pytest.importorskip("lupa", reason="Lua is an extra")
pytestmark = [pytest.mark.usefixtures("lab"), pytest.mark.parametrize("lab", ["sqlite"], indirect=True)]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def imported(tmp_path: Path, text: str, name: str = "flow.lua", **places: str) -> Graph:
    for mark, place in places.items():
        text = text.replace(f"<{mark}>", place)
    (tmp_path / name).write_text(text)
    return Graph.from_file(tmp_path / name)


REPORT = """
-- Revenue of the night: two requests beside each other, then a sum, then word of it.
local flow = Flow.new("night_shift")

flow:step("guests", nodes.http_get({ url = "<server>/guests", output_key = "guests" })):retries(3, 0.01):timeout(30)
flow:step("bills", nodes.http_get({ url = "<server>/bills", output_key = "bills",
    auth = { type = "bearer", token = env("TILL_TOKEN") } })):retries(3, 0.01)

flow:step("sum", function(ctx)
    local sum = 0
    for _, bill in ipairs(ctx.bills_data or {}) do
        sum = sum + (bill.amount or 0)
    end
    return { sum = sum, n_bills = #ctx.bills_data, n_guests = #ctx.guests_data }
end):depends_on("guests", "bills")

flow:step("tell", nodes.http_post({
    url = "<server>/word",
    body = { text = "took $${ctx.sum} of ${ctx.n_bills} bills", n = "${ctx.n_guests}" },
    output_key = "word",
})):depends_on("sum"):retries(2, 0.01)

return flow
"""


def test_two_requests_a_sum_and_word_of_it(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILL_TOKEN", "first-flush-of-the-till")
    server.answers("/guests", replying(503), replying(200, [{"name": "Ada"}, {"name": "Bo"}]))
    server.answers("/bills", replying(200, [{"amount": 10}, {"amount": 2.5}, {}]))
    server.answers("/word", replying(201, {"ok": True}))
    graph = imported(tmp_path, REPORT, server=server.url("").rstrip("/"))
    found = graph()
    assert (found["sum"], found["n_bills"], found["n_guests"]) == (12.5, 3, 2)
    assert (found["guests_status"], found["word_status"], found["word_success"]) == (200, 201, True)
    asked = {each.target: each for each in server.seen}
    assert json.loads(asked["/word"].body) == {"text": "took $12.5 of 3 bills", "n": "2"}
    assert asked["/bills"].headers["authorization"] == "Bearer first-flush-of-the-till"
    assert "authorization" not in asked["/guests"].headers
    assert [each.target for each in server.seen].count("/guests") == 2


PROBE = """
local flow = Flow.new("probe")
flow:step("ask", nodes.http_request({
    method = "PUT", url = "<server>/${ctx.what}", body_type = "form", body = { a = "1", b = "${ctx.what}" },
    fail_on_status = false, retry_statuses = { 429, "503" }, status_retries = 2, status_retry_backoff = 0.01,
    output_key = "probe"
}))
flow:step("which", nodes.if_http_status({
    status_key = "probe_status", default_route = "odd",
    routes = { ["2xx"] = "good", ["401"] = "closed", ["4xx"] = "wrong" }
})):depends_on("ask")
flow:step("good", function() return { way = "good" } end):depends_on("which"):route("good")
flow:step("closed", function() return { way = "closed" } end):depends_on("which"):route("closed")
flow:step("wrong", function() return { way = "wrong" } end):depends_on("which"):route("wrong")
flow:step("odd", function(ctx) return { way = "odd " .. ctx._status_code_which } end):depends_on("which"):route("odd")
flow:step("has", nodes.if_body_contains({ source_key = "probe_data", pattern = "TEA", case_sensitive = false }))
    :depends_on("ask")
flow:step("tea", function() return { tea = true } end):depends_on("has"):route("true")
return flow
"""


@pytest.mark.parametrize(
    ("what", "answers", "way", "tea"),
    [
        ("fine", [replying(429), replying(200, "green tea")], "good", True),
        ("shut", [replying(401, {"why": "no tea"})], "closed", True),
        ("gone", [replying(404, {"why": "none"})], "wrong", False),
        ("broken", [replying(503), replying(503), replying(503, "x")], "odd 503", False),
    ],
    ids=["fine", "shut", "gone", "broken"],
)
def test_the_status_and_the_body_choose_the_way(
    tmp_path: Path, server: Server, what: str, answers: list[Any], way: str, tea: bool
) -> None:
    server.answers(f"/{what}", *answers)
    found = imported(tmp_path, PROBE, server=server.url("").rstrip("/"))(what=what)
    assert (found["way"], "tea" in found) == (way, tea)
    assert found["probe_success"] is (way == "good")
    assert server.last.body == f"a=1&b={what}".encode()
    assert len(server.seen) == len(answers)


TABLES = """
local flow = Flow.new("tables")
flow:step("rows", nodes.csv_parse({ source_key = "csv", output_key = "rows", infer_types = true, delimiter = ";" }))
flow:step("good", nodes.data_filter({ source_key = "rows", output_key = "good", field = "stars", op = "gte",
    value = 3 })):depends_on("rows")
flow:step("once", nodes.deduplicate({ source_key = "good", output_key = "once", key = "name" })):depends_on("good")
flow:step("mapped", nodes.data_transform({ source_key = "once", output_key = "mapped",
    mapping = { title = "name", rating = "stars" } })):depends_on("once")
flow:step("pairs", nodes.batch({ source_key = "mapped", output_key = "pairs", size = 2 })):depends_on("mapped")
flow:step("first", nodes.json_extract_path({ source_key = "mapped", path = "[0].title", output_key = "first" }))
    :depends_on("mapped")
flow:step("none", nodes.json_extract_path({ source_key = "mapped", path = "[9].title", output_key = "none",
    default = "nobody" })):depends_on("mapped")
flow:step("one", nodes.json_parse({ source_key = "text", output_key = "one" }))
flow:step("renamed", nodes.rename_fields({ source_key = "one", output_key = "renamed", mapping = { a = "b" } }))
    :depends_on("one")
flow:step("some", nodes.select_fields({ source_key = "renamed", output_key = "some", fields = { "b" } }))
    :depends_on("renamed")
flow:step("out", nodes.csv_stringify({ source_key = "mapped", output_key = "out" })):depends_on("mapped")
flow:step("yaml", nodes.yaml_stringify({ source_key = "some", output_key = "yaml" })):depends_on("some")
flow:step("back", nodes.yaml_parse({ source_key = "yaml", output_key = "back" })):depends_on("yaml")
flow:step("sum", nodes.hash({ input = "${ctx.first}", output_key = "sum" })):depends_on("first")
flow:step("coded", nodes.base64_encode({ input = "hello ${ctx.first}", output_key = "coded" })):depends_on("first")
flow:step("plain", nodes.base64_decode({ source_key = "coded", output_key = "plain" })):depends_on("coded")
flow:step("day", nodes.date_format({ input = "2024-06-15T10:30:00+02:00", output_format = "%d.%m.%Y %H:%M",
    output_key = "day" }))
flow:step("valid", nodes.validate_schema({ source_key = "some", schema = { type = "object", required = { "b" } } }))
    :depends_on("some")
flow:step("valid_text", nodes.json_validate({ source_key = "text", schema = { type = "object" } }))
return flow
"""


def test_tables_texts_and_codes(tmp_path: Path) -> None:
    csv = "name;stars\ntea;5\ncup;2\ntea;4\npot;3\nlid;3\n"
    graph = imported(tmp_path, TABLES)
    found = graph(csv=csv, text='{"a": 1, "c": 2}')
    assert found["mapped"] == [
        {"title": "tea", "rating": 5},
        {"title": "pot", "rating": 3},
        {"title": "lid", "rating": 3},
    ]
    assert found["good_count"] == 4
    assert (found["pairs_count"], [len(each) for each in found["pairs"]]) == (2, [2, 1])
    assert (found["first"], found["none"]) == ("tea", "nobody")
    assert found["renamed"] == {"b": 1, "c": 2}
    assert found["some"] == found["back"] == {"b": 1}
    assert found["sum"] == hashlib.sha256(b"tea").hexdigest()
    assert found["plain"] == "hello tea"
    assert found["day"] == "15.06.2024 08:30"
    assert (found["validation_success"], found["validation_errors"]) == (True, [])
    assert sorted(found["out"].splitlines()[0].split(",")) == ["rating", "title"]


VALID = """
local flow = Flow.new("valid")
flow:step("check", nodes.json_validate({ source_key = "text", schema_key = "schema" }))
flow:step("told", nodes.log({ message = "good: ${ctx.validation_success}" })):depends_on("check")
return flow
"""


def test_a_text_or_data_fits_its_schema_or_the_run_fails(tmp_path: Path) -> None:
    graph = imported(tmp_path, VALID)
    schema = {"type": "object", "required": ["a"]}
    assert graph(text='{"a": 1}', schema=json.dumps(schema))["log_message"] == "good: true"
    assert graph(text={"a": 1}, schema=schema)["validation_errors"] == []
    for wrong in ("{}", "[]", {"b": 1}):
        with pytest.raises(iron.NodeFailed, match="does not fit the schema"):
            graph(text=wrong, schema=schema)


FILES = """
local flow = Flow.new("files")
flow:step("made", nodes.write_file({ path = "<folder>/in/a.txt", content = "of ${ctx.who}" }))
flow:step("more", nodes.write_file({ path = "<folder>/in/a.txt", content = "!", append = true })):depends_on("made")
flow:step("copied", nodes.copy_file({ source = "<folder>/in/a.txt", destination = "<folder>/in/b.txt" }))
    :depends_on("more")
flow:step("listed", nodes.list_directory({ path = "<folder>/in", output_key = "files" })):depends_on("copied")
flow:step("zipped", nodes.zip_create({ source = "<folder>/in", zip_path = "<folder>/all.zip" })):depends_on("listed")
flow:step("inside", nodes.zip_list({ path = "<folder>/all.zip" })):depends_on("zipped")
flow:step("out", nodes.zip_extract({ path = "<folder>/all.zip", destination = "<folder>/out" })):depends_on("inside")
flow:step("read", nodes.read_file({ path = "<folder>/out/b.txt", output_key = "got" })):depends_on("out")
flow:step("gone", nodes.delete_file({ path = "${ctx.got_path}" })):depends_on("read")
flow:step("moved", nodes.move_file({ source = "<folder>/out/a.txt", destination = "<folder>/c.txt" }))
    :depends_on("gone")
return flow
"""


def test_files_and_archives(tmp_path: Path) -> None:
    graph = imported(tmp_path, FILES, folder=str(tmp_path))
    found = graph(who="Ada")
    assert (found["got_content"], found["zip_entries_count"]) == ("of Ada!", 2)
    assert [(each["name"], each["type"]) for each in found["files"]] == [("a.txt", "file"), ("b.txt", "file")]
    assert sorted(str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*.txt")) == [
        "c.txt",
        "in/a.txt",
        "in/b.txt",
    ]
    assert found["delete_file_success"] is True
    assert any("is known only when it runs" in note for note in graph.notes)


SQL = """
local flow = Flow.new("ledger_of_tea")
local db = "sqlite:<folder>/tea.db?mode=rwc"
flow:step("make", nodes.db_exec({ connection = db, query = "CREATE TABLE tea (name TEXT, n INTEGER)" }))
flow:step("one", nodes.db_exec({ connection = db, query = "INSERT INTO tea VALUES (?, ?)", params = { "green", 3 } }))
    :depends_on("make")
flow:step("two", nodes.db_exec({ connection = db, query = "INSERT INTO tea VALUES (?, ?)",
    params = { "${ctx.name}", 4 } })):depends_on("one")
flow:step("all", nodes.db_query({ connection = db, query = "SELECT * FROM tea ORDER BY n", output_key = "tea" }))
    :depends_on("two")
flow:step("check", function(ctx)
    assert(ctx.tea[2].n == 4, "numbers stay numbers")
    return { sum = ctx.tea[1].n + ctx.tea[2].n }
end):depends_on("all")
return flow
"""


def test_a_database_of_sqlite(tmp_path: Path) -> None:
    found = imported(tmp_path, SQL, folder=str(tmp_path))(name="'); DROP TABLE tea; --")
    assert (found["sum"], found["tea_count"], found["rows_affected"]) == (7, 2, 1)
    assert found["tea"][1]["name"] == "'); DROP TABLE tea; --"


SHELL = """
local flow = Flow.new("programs")
flow:step("say", nodes.shell_command({ cmd = "sh", args = { "-c", "echo $WORD; exit 3" }, fail_on_nonzero = false,
    env = { WORD = "hi ${ctx.who}" }, output_key = "said" }))
flow:step("slow", nodes.delay({ seconds = 0.01 })):depends_on("say")
flow:step("bad", nodes.shell_command({ cmd = "sh", args = { "-c", "exit 7" } })):depends_on("slow"):on_error("fix")
flow:step("fix", function(ctx) return { fixed = ctx._error_step, why = ctx._error_message } end)
flow:step("last", nodes.log({ message = "${ctx.said_stdout} ${ctx.fixed}", level = "warn" })):depends_on("bad")
return flow
"""


@pytest.mark.skipif("os.name == 'nt'", reason="it has no sh")
def test_programs_and_what_is_done_when_one_fails(tmp_path: Path) -> None:
    found = imported(tmp_path, SHELL)(who="Ada")
    assert (found["said_stdout"].strip(), found["said_code"], found["said_success"]) == ("hi Ada", 3, False)
    assert found["fixed"] == "bad"
    assert "7" in found["why"]
    assert found["log_message"].split() == ["hi", "Ada", "bad"]


REUSED = """
local flow = Flow.new("reused")
local function advance(value)
    return { count = (value.count or 0) + 1 }
end
flow:step("items", function() return { items = { { count = 10 }, { count = 20 } } } end)
flow:step("first", advance):depends_on("items")
flow:step_if("ctx.count == 1", "second", advance):depends_on("first")
flow:step("third", nodes.code({ source = advance })):depends_on("second")
flow:step("each", nodes.foreach({ source_key = "items", transform = advance, output_key = "more" }))
    :depends_on("third")
return flow
"""


def test_one_function_is_used_by_several_steps(tmp_path: Path) -> None:
    found = imported(tmp_path, REUSED)()
    assert (found["count"], found["more"]) == (3, [{"count": 11}, {"count": 21}])
