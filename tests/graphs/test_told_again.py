"""Flows of other engines beside the same in our format: both give what is documented there, and ours is shorter."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ironflow_nb.graphs.graph import Graph


class Told(NamedTuple):
    """A flow in both formats, what a call gives it, what both give, and what stands in for the world outside."""

    theirs: str
    ours: str
    given: dict[str, Any]
    expected: Any
    mocks: dict[str, Any] | None = None


# -- tagged YAML -------------------------------------------------------------------------------------------------


def answer(body: Any, status: int = 200) -> dict[str, Any]:
    return {"status_code": status, "headers": {}, "body": body}


REFUND = Told(
    theirs="""
name: refund
nodes:
  - !Http
    id: order
    url: "{{join('', ['https://shop.test/orders/', input.order])}}"
    method: GET
    config:
      retry: {enabled: true, max_count: 2, on_status_codes: [429, 503]}
      fail_on_non_2xx: true
  - !Assertion
    id: same
    assertions:
      - !Equals {left: "{{order.body.id}}", right: "{{input.order}}"}
      - !NotEquals {left: "{{length(order.body.items)}}", right: 0}
  - !Condition
    id: paid
    expression: "{{order.body.paid}}"
    true_branch:
      - !Lambda
        id: money
        function_name: pay-back
        payload: {order: "{{input.order}}", items: "{{order.body.items[?late].name}}"}
    false_branch: []
""",
    ours="""
graph: refund
allow: {http: [shop.test], lambda: [pay-back]}
nodes:
  - id: order
    http: "https://shop.test/orders/{{ input.order }}"
    retry: {on_status: [429, 503]}
  - id: same
    assert: [{holds: "{{ order.body.id == input.order && length(order.body.items) > 0 }}"}]
  - id: paid
    condition: "{{ order.body.paid }}"
    then:
      - id: money
        lambda:
          function: pay-back
          payload: {order: "{{ input.order }}", items: "{{ order.body.items[?late].name }}"}
""",
    given={"order": "A-7"},
    expected={"taken": "then", "money": {"order": "A-7", "items": ["cup"]}},
    mocks={
        "order": answer({"id": "A-7", "paid": True, "items": [{"name": "tea"}, {"name": "cup", "late": True}]}),
        "money": lambda function, payload: payload,
    },
)

WARD = Told(
    theirs="""
name: ward
nodes:
  - !Loop
    id: each
    array: "{{input.patients}}"
    for_each: patient
    nodes:
      - !Condition
        id: feverish
        expression: "{{patient.celsius > `38`}}"
        true_branch:
          - !Http
            id: call
            url: https://ward.test/calls
            method: POST
            body: {name: "{{patient.name}}", team: "{{input.team}}"}
        false_branch:
          - !Http
            id: note
            url: "{{join('/', ['https://ward.test/notes', patient.name])}}"
            method: PUT
            content_type: text/plain
            body: fine
""",
    ours="""
graph: ward
allow: {http: [ward.test]}
nodes:
  - id: each
    loop: "{{ input.patients }}"
    as: patient
    do:
      - id: feverish
        condition: "{{ patient.celsius > 38 }}"
        then:
          - id: call
            http:
              url: https://ward.test/calls
              method: POST
              json: {name: "{{ patient.name }}", team: "{{ input.team }}"}
        else:
          - {id: note, http: {url: "https://ward.test/notes/{{ patient.name }}", method: PUT, body: fine}}
""",
    given={"team": "blue", "patients": [{"name": "Ada", "celsius": 39.5}, {"name": "Bo", "celsius": 36.6}]},
    expected=[
        {"feverish": {"taken": "then", "call": {"name": "Ada", "team": "blue"}}},
        {"feverish": {"taken": "else", "note": "https://ward.test/notes/Bo"}},
    ],
    mocks={"call": lambda json, **_: json, "note": lambda url, **_: url},
)

ALARM = Told(
    theirs="""
name: alarm
nodes:
  - !Branch
    id: tell
    condition: "input.is_loud"
    branches:
      mail:
        - !Lambda {id: text, function_name: write, payload: {what: "{{upper_all(input.what)}}"}}
        - !Http
          id: send
          url: https://mail.test/send
          method: POST
          body: {to: "{{input.who}}", subject: "{{join('', ['Alarm: ', input.what])}}"}
          config: {retry: {enabled: true, max_count: 4, on_methods: [POST], on_status_codes: [503]}}
      desk:
        - !Workflow {id: ticket, workflow: open_ticket, input: {what: "{{input.what}}"}}
""".replace("upper_all", "capitalize"),
    ours="""
graph: alarm
allow: {http: [mail.test], lambda: [write]}
nodes:
  - id: tell
    when: "{{ input.is_loud }}"
    branch:
      mail:
        - {id: text, lambda: {function: write, payload: {what: "{{ upper(input.what) }}"}}}
        - id: send
          http:
            url: https://mail.test/send
            method: POST
            json: {to: "{{ input.who }}", subject: "Alarm: {{ input.what }}"}
          retry: {attempts: 5, on_status: [503]}
      desk: [{id: ticket, workflow: open_ticket, input: {what: "{{ input.what }}"}}]
""",
    given={"is_loud": True, "what": "smoke", "who": "ada@home.test"},
    expected={
        "mail": {"text": {"what": "SMOKE"}, "send": {"to": "ada@home.test", "subject": "Alarm: smoke"}},
        "desk": {"ticket": "opened"},
    },
    mocks={"text": lambda function, payload: payload, "send": lambda json, **_: json, "ticket": "opened"},
)


# -- Lua ---------------------------------------------------------------------------------------------------------

GREETING = Told(
    theirs="""
local flow = Flow.new("greeting")
flow:step("hello", nodes.log({ message = "Hello, ${ctx.name}!", level = "info" }))
flow:step("seen", function(ctx)
    return { greeted = ctx.name, n = (ctx.n or 0) + 1 }
end):depends_on("hello")
return flow
""",
    ours="""
graph: greeting
nodes:
  - {id: hello, log: "Hello, {{ input.name }}!"}
output: {greeted: "{{ input.name }}", n: "{{ default(input.n, 0) + 1 }}"}
""",
    given={"name": "Ada", "n": 2},
    expected={"greeted": "Ada", "n": 3},
)

ORDERS = Told(
    theirs="""
local flow = Flow.new("orders")
flow:step("rows", nodes.csv_parse({ source_key = "csv", output_key = "rows", infer_types = true }))
flow:step("large", nodes.data_filter({ source_key = "rows", output_key = "large", field = "n", op = "gte", value = 2 }))
    :depends_on("rows")
flow:step("once", nodes.deduplicate({ source_key = "large", output_key = "once", key = "name" })):depends_on("large")
flow:step("named", nodes.data_transform({
    source_key = "once", output_key = "named", mapping = { title = "name", n = "n", price = "price" }
})):depends_on("once")
flow:step("priced", nodes.foreach({
    source_key = "named", output_key = "priced",
    transform = function(row) return { title = row.title, sum = row.n * row.price } end
})):depends_on("named")
flow:step("pairs", nodes.batch({ source_key = "priced", output_key = "pairs", size = 2 })):depends_on("priced")
flow:step("total", function(ctx)
    local total = 0
    for _, row in ipairs(ctx.priced) do total = total + row.sum end
    return { total = total }
end):depends_on("priced")
return flow
""",
    ours="""
graph: orders
nodes:
  - {id: rows, parse: {csv: "{{ input.csv }}", types: auto}}
  - id: priced
    transform: "{{ rename(unique(rows[?n >= 2], 'name'), {name: 'title'})[*].{title: title, sum: n * price} }}"
  - {id: pairs, batch: {items: "{{ priced }}", size: 2}}
output: {priced: "{{ priced }}", pairs: "{{ pairs }}", total: "{{ sum(priced[*].sum) }}"}
""",
    given={"csv": "name,n,price\ntea,4,2.5\ncup,1,8\npot,2,20\ntea,3,2.5\nlid,2,1\n"},
    expected={
        "priced": [{"title": "tea", "sum": 10}, {"title": "pot", "sum": 40}, {"title": "lid", "sum": 2}],
        "pairs": [[{"title": "tea", "sum": 10}, {"title": "pot", "sum": 40}], [{"title": "lid", "sum": 2}]],
        "total": 52,
    },
)

COUNTER = """
local flow = Flow.new("counter")
flow:step("large", nodes.if_node({ condition = "ctx.amount > 100" }))
flow:step("check", function() return { checked = true } end):depends_on("large"):route("true")
flow:step("pass", function() return { checked = false } end):depends_on("large"):route("false")
flow:step("lane", nodes.switch_node({
    value = "ctx.country", cases = { at = "near", ch = "near", nz = "far" }, default = "unknown"
})):depends_on("check", "pass")
flow:step("near", function() return { days = 2 } end):depends_on("lane"):route("near")
flow:step("far", function() return { days = 9 } end):depends_on("lane"):route("far")
flow:step("unknown", function() return { days = 0 } end):depends_on("lane"):route("unknown")
return flow
"""
COUNTER_OURS = """
graph: counter
nodes:
  - id: lane
    switch: "{{ input.country }}"
    cases:
      - {is: [at, ch], do: [{id: near, transform: 2}]}
      - {is: nz, do: [{id: far, transform: 9}]}
    default: [{id: unknown, transform: 0}]
output: {checked: "{{ input.amount > 100 }}", days: "{{ coalesce(lane.near, lane.far, lane.unknown) }}"}
"""
NEAR = Told(COUNTER, COUNTER_OURS, {"amount": 250, "country": "ch"}, {"checked": True, "days": 2})
FAR = Told(COUNTER, COUNTER_OURS, {"amount": 20, "country": "nz"}, {"checked": False, "days": 9})
NOWHERE = Told(COUNTER, COUNTER_OURS, {"amount": 100, "country": "de"}, {"checked": False, "days": 0})

MENDED = Told(
    theirs="""
local flow = Flow.new("mended")
flow:step("risky", function(ctx)
    error("no tea today")
end):retries(1, 0.001):on_error("mend")
flow:step("mend", function(ctx)
    return { cup = "water", instead_of = ctx._error_step }
end)
flow:step("served", function(ctx) return { served = ctx.cup .. " for " .. ctx.who } end):depends_on("risky")
return flow
""",
    ours="""
graph: mended
nodes:
  - id: risky
    lua: {source: "function() error('no tea today') end"}
    retry: {attempts: 2, delay_s: 0.001}
    on_error: [{id: mend, transform: {cup: water, instead_of: risky}}]
output: {served: "{{ risky.cup }} for {{ input.who }}", instead_of: "{{ risky.instead_of }}"}
""",
    given={"who": "Ada"},
    expected={"served": "water for Ada", "instead_of": "risky"},
)

FORMS = Told(
    theirs="""
local flow = Flow.new("forms")
flow:step("data", nodes.yaml_parse({ source_key = "yaml", output_key = "data" }))
flow:step("json", nodes.json_stringify({ source_key = "data", output_key = "json" })):depends_on("data")
flow:step("back", nodes.json_parse({ source_key = "json", output_key = "back" })):depends_on("json")
flow:step("name", nodes.json_extract_path({ source_key = "back", path = "cups[1].name", output_key = "name" }))
    :depends_on("back")
flow:step("sum", nodes.hash({ input = "${ctx.name}", output_key = "sum" })):depends_on("name")
flow:step("coded", nodes.base64_encode({ input = "${ctx.name}", output_key = "coded" })):depends_on("name")
flow:step("text", nodes.template_render({ template = "a ${ctx.name}, ${ctx.coded}", output_key = "text" }))
    :depends_on("coded")
return flow
""",
    ours="""
graph: forms
parallel: true
nodes:
  - {id: data, parse: {yaml: "{{ input.yaml }}"}}
  - {id: json, format: {json: "{{ data }}"}}
  - {id: name, transform: "{{ from_json(json).cups[1].name }}"}
output: {sum: "{{ hash(name) }}", text: "a {{ name }}, {{ base64_encode(name) }}"}
""",
    given={"yaml": "cups:\n  - {name: small}\n  - {name: large}\n"},
    expected={"sum": hashlib.sha256(b"large").hexdigest(), "text": "a large, bGFyZ2U="},
)

TOLD = {
    "refund": REFUND, "ward": WARD, "alarm": ALARM, "greeting": GREETING, "orders": ORDERS, "near": NEAR, "far": FAR,
    "nowhere": NOWHERE, "mended": MENDED, "forms": FORMS,
}  # fmt: skip


def size(text: str) -> int:
    """Count the characters of a text without blanks."""
    return len("".join(text.split()))


@pytest.mark.parametrize("told", TOLD.values(), ids=TOLD)
def test_a_flow_gives_the_same_in_both_formats_and_is_shorter_in_ours(tmp_path: Path, told: Told) -> None:
    is_lua = "Flow.new" in told.theirs
    if is_lua:
        pytest.importorskip("lupa", reason="Lua is an extra")
    file = tmp_path / ("flow.lua" if is_lua else "flow.yaml")
    file.write_text(told.theirs)
    theirs, ours = Graph.from_file(file), Graph.from_yaml(told.ours)
    assert (theirs.findings(), ours.findings()) == ([], [])
    mocks = told.mocks or {}
    found = theirs.test(told.given, mocks=mocks).unwrap()
    same = {key: found.get(key) for key in told.expected} if is_lua else found
    assert ours.test(told.given, mocks=mocks).unwrap() == told.expected
    assert same == told.expected
    assert size(told.ours) < size(told.theirs)
