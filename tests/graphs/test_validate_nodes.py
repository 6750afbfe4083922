"""The kind validate, and schemas of users wherever they are used."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from ironflow_nb.errors import NodeFailed
from ironflow_nb.graphs.compiler.schema_check import problems
from ironflow_nb.graphs.graph import Graph
from ironflow_nb.graphs.nodes.validation import MOST_ERRORS, VALIDATE
from ironflow_nb.graphs.nodes.waits import APPROVE
from ironflow_nb.handles.schema_validator import MOST_DEPTH
from tests.graphs.evaluations import context_of

ORDER = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "items": {"type": "array", "items": {"$ref": "#/$defs/item"}}},
    "required": ["id"],
    "$defs": {"item": {"type": "object", "properties": {"sku": {"type": "string", "pattern": "^[A-Z]+$"}}}},
}


def checked(value: Any, schema: Any, **more: Any) -> Any:
    options = {"value": value, "schema": schema, **more}
    assert list(problems(VALIDATE.schema, options, allows_expressions=False)) == []
    return VALIDATE.perform(options, context_of())


def nested(n_levels: int) -> Any:
    value: Any = []
    for _ in range(n_levels):
        value = [value]
    return value


def test_a_value_that_fits_is_valid() -> None:
    assert checked({"id": 1, "items": [{"sku": "A"}]}, ORDER) == {"is_valid": True, "errors": []}
    assert checked(None, True) == {"is_valid": True, "errors": []}


def test_every_place_that_does_not_fit_is_told_without_its_content() -> None:
    value = {"items": [{"sku": "A"}, {"sku": "my password"}, 3]}
    with pytest.raises(NodeFailed) as caught:
        checked(value, ORDER)
    assert caught.value.is_retryable is False
    said = str(caught.value)
    assert "n: an object with items does not fit the schema; fail_on_invalid: false" in said
    assert '  it: "id" is a required property' in said
    assert '  items[1].sku: the value does not match "^[A-Z]+$"' in said
    assert "password" not in said
    report = checked(value, ORDER, fail_on_invalid=False)
    assert report["is_valid"] is False
    assert [error["path"] for error in report["errors"]] == ["", "items[1].sku", "items[2]"]
    assert caught.value.output == report


def test_only_the_first_errors_are_told() -> None:
    assert len(checked([1] * 5000, {"items": {"type": "string"}}, fail_on_invalid=False)["errors"]) == MOST_ERRORS


UNCHECKED = [
    (1, {"type": "nope"}, "schema is no JSON schema"),
    (1, {"pattern": "("}, "schema is no JSON schema"),
    (1, {"$ref": "#/$defs/none"}, "schema is no JSON schema"),
    (1, {"$ref": "file:///etc/passwd"}, "file:///etc/passwd is not in it; write it below $defs"),
    (nested(150), {"type": "array", "items": {"$ref": "#"}}, f"the value is nested deeper than {MOST_DEPTH}"),
    (1, {"default": nested(150)}, f"the schema is nested deeper than {MOST_DEPTH}"),
    ({1, 2}, {"type": "array"}, "a set can't be checked"),
    (
        nested(20_000),
        {"type": "array"},
        "a list of 1, first a list of 1 can't be checked: its result is nested too deep",
    ),
]


@pytest.mark.parametrize(("value", "schema", "expected"), UNCHECKED, ids=[text for *_, text in UNCHECKED])
def test_what_can_not_be_checked_is_an_error(value: Any, schema: Any, expected: str) -> None:
    with pytest.raises(NodeFailed) as caught:
        VALIDATE.perform({"value": value, "schema": schema}, context_of())
    assert expected in str(caught.value)
    assert caught.value.is_retryable is False


def test_a_value_that_would_be_huge_written_out_is_refused() -> None:
    value: Any = []
    for _ in range(60):
        value = [value, value]
    with pytest.raises(NodeFailed, match="can't be checked: it makes more than"):
        checked(value, {"type": "array"})


def test_no_schema_reads_from_a_server() -> None:
    asked = []

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            schema = {"$ref": f"http://127.0.0.1:{server.server_port}/schema"}
            with pytest.raises(NodeFailed, match="write it below"):
                checked(1, schema)
            assert APPROVE.wait is not None
            with pytest.raises(ValueError, match="write it below"):
                APPROVE.wait({"question": "ok?", "schema": schema}, None)
        finally:
            server.shutdown()
            thread.join()
    assert asked == []


def test_a_graph_goes_another_way_with_what_is_invalid() -> None:
    graph = Graph.from_yaml("""
graph: intake
nodes:
  - id: checked
    validate: {value: "{{ input.order }}", schema: "{{ input.schema }}", fail_on_invalid: false}
  - id: way
    condition: "{{ checked.is_valid }}"
    then: [{id: fits, transform: "{{ input.order.id }}"}]
    else: [{id: refused, transform: "{{ checked.errors[].path }}"}]
""")
    assert graph.test(order={"id": 7}, schema=ORDER).output["fits"] == 7
    assert graph.test(order={"id": "7"}, schema=ORDER).output["refused"] == ["id"]
