"""Requests that are refused, and what is told of the server: definitions, health, its document."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import GRAPH, Service
from tests.server.test_runs_over_http import code
from tests.waits.conftest import LIMIT_S

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

PAGE = Path(__file__).parent.parent.parent / "docs" / "server.md"
JSON = {"Content-Type": "application/json"}
DEEP = b'{"flow": "squares", "input": {"n": ' + b"[" * 100_000


@pytest.mark.parametrize(
    ("request_", "status", "named"),
    [
        ({"url": "/runs", "content": b"{", "headers": JSON}, 400, "no_json"),
        ({"url": "/runs", "content": DEEP, "headers": JSON}, 400, "no_json"),
        ({"url": "/runs", "content": b'{"flow": "\xff"}', "headers": JSON}, 400, "no_json"),
        ({"url": "/runs", "content": b"{}"}, 415, "no_json"),
        ({"url": "/runs", "data": {"flow": "squares"}}, 415, "no_json"),
        ({"url": "/runs", "content": b"", "headers": JSON}, 400, "no_json"),
        ({"url": "/runs", "json": []}, 422, "body_invalid"),
        ({"url": "/runs", "json": {"input": {}}}, 422, "body_invalid"),
        ({"url": "/runs", "json": {"flow": "squares", "inputs": {}}}, 422, "body_invalid"),
        ({"url": "/runs", "json": {"flow": "squares", "timeout_s": -1}}, 422, "body_invalid"),
        ({"url": "/runs", "json": {"flow": "squares", "timeout_s": 1e9}}, 422, "body_invalid"),
        ({"url": "/runs", "json": {"flow": "triangles"}}, 404, "flow_not_defined"),
        ({"url": "/runs", "json": {"flow": "squares", "input": {"m": 1}}}, 422, "input_invalid"),
        ({"url": "/runs", "json": {"flow": "squares", "input": {"n": 1}, "key": ""}}, 422, "body_invalid"),
        ({"url": "/runs", "json": {"flow": "squares", "input": {"n": "x" * 2_000_000}}}, 413, "body_too_large"),
        ({"url": "/runs", "json": {"flow": "squares"}, "headers": {"Host": "evil.test"}}, 421, "wrong_host"),
        ({"url": "/runs/a/cancel", "headers": {"Origin": "http://evil.test"}}, 403, "foreign_origin"),
        ({"url": "/runs/a/cancel", "headers": {"Origin": "http://["}}, 403, "foreign_origin"),
        ({"url": "/runs/nothing/cancel"}, 404, "run_not_found"),
        ({"url": "/runs/nothing/signals/go"}, 404, "run_not_found"),
        ({"url": "/triangles"}, 404, "no_route"),
        ({"url": "/health"}, 405, "method_not_allowed"),
        ({"url": "/runs?limit=0", "method": "GET"}, 422, "query_invalid"),
        ({"url": "/runs?limit=many", "method": "GET"}, 422, "query_invalid"),
        ({"url": "/runs?sort=up", "method": "GET"}, 422, "query_invalid"),
        ({"url": "/runs?status=lost", "method": "GET"}, 422, "value_error"),
        ({"url": "/dashboard?status=lost", "method": "GET"}, 422, "query_invalid"),
        ({"url": "/runs?since=soon", "method": "GET"}, 422, "value_error"),
        ({"url": "/runs?after=", "method": "GET"}, 422, "query_invalid"),
        ({"url": "/runs?limit=1&limit=2", "method": "GET"}, 422, "query_invalid"),
        ({"url": "/dashboard?status=null", "method": "GET"}, 422, "query_invalid"),
        ({"url": "/events", "json": {"name": ""}}, 422, "body_invalid"),
        ({"url": "/events", "json": {"name": "a\nb"}}, 422, "value_error"),
        ({"url": "/runs/a/inject", "json": {"step": "a", "reason": "b"}}, 422, "body_invalid"),
        ({"url": "/runs/a/inject", "json": {"step": "a", "reason": "b", "value": 1, "line": "1"}}, 422, "body_invalid"),
        ({"url": "/waiting/a/answer"}, 415, "no_json"),
        ({"url": "/waiting/a/answer", "json": {}}, 422, "body_invalid"),
        ({"url": "/waiting/a/answer", "json": {"value": 1, "rows": []}}, 422, "body_invalid"),
    ],
)
def test_a_bad_request_is_told_what_to_do(served: Service, request_: dict[str, Any], status: int, named: str) -> None:
    found = served.client.request(**{"method": "POST", **request_})
    assert code(found) == (status, named), found.text


def test_a_body_that_is_too_large_is_refused_whole_or_in_pieces(served: Service) -> None:
    piece = b" " * 2**16
    chunked = served.client.post("/runs", content=(piece for _ in range(20)), headers=JSON)
    assert code(chunked) == (413, "body_too_large")
    assert chunked.headers["connection"] == "close"  # else the next request would meet a connection that is reset
    place = ("127.0.0.1", served.client.base_url.port or 0)
    head = f"POST /runs HTTP/1.1\r\nHost: {place[0]}:{place[1]}\r\nContent-Length: {2**40}\r\n"
    with socket.create_connection(place, LIMIT_S) as connection:
        # None of the body is sent: the client waits to be asked for it.
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_offers_http_2_is_answered_as_it_asked(served: Service) -> None:
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    body = {"flow": "squares", "input": {"n": 2}, "wait": True}
    for _ in range(2):
        assert served.client.post("/runs", json=body, headers=offer).json()["result"] == [0, 1]


def test_headers_without_end_close_their_connection(served: Service) -> None:
    place = ("127.0.0.1", served.client.base_url.port or 0)
    with socket.create_connection(place, LIMIT_S) as connection, suppress(ConnectionError):
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 500_000)
        while connection.recv(2**16):
            pass
    assert served.client.get("/health").status_code == 200


def test_arguments_become_the_types_that_the_flow_declares(served: Service) -> None:
    given = {"order": {"n": 1, "at": "2026-11-29"}, "path": "a.csv", "some": [1]}
    found = served.start("typed", input=given, wait=True, status=200)
    assert found["result"] == ["Order(n=1, at=datetime.date(2026, 11, 29))", "'a.csv'"]
    given["order"] = {"n": "1", "at": "2026-11-29"}
    wrong = served.client.post("/runs", json={"flow": "typed", "input": given})
    assert code(wrong) == (422, "input_invalid")
    assert "Expected `int`, got `str` - at `order.n`" in wrong.json()["error"]["message"]
    wrong = served.client.post("/runs", json={"flow": "squares", "input": {"n": "many"}})
    assert "n: Expected `int`, got `str`" in wrong.json()["error"]["message"]


def test_a_run_of_what_is_not_defined_here_is_shown_and_not_continued(served: Service) -> None:
    import ironflow_nb as iron
    from ironflow_nb import flow

    with iron.open(served.folder / ".ironflow" / "journal.db"):
        foreign = flow(lambda: iron.wait_for("go"), name="foreign").start()
        foreign.pause().wait()
    assert served.run(foreign.id)["status"] == "paused"
    assert code(served.client.post(f"/runs/{foreign.id}/resume")) == (409, "flow_not_defined")
    assert code(served.client.post(f"/runs/{foreign.id}/fork")) == (409, "flow_not_defined")


def test_a_graph_that_is_checked_is_not_defined_by_that(served: Service) -> None:
    text = GRAPH.replace("shout", "stranger")
    assert served.client.post("/graphs/validate", json={"source": text}).json()["valid"] is True
    assert code(served.client.post("/runs", json={"flow": "stranger"})) == (404, "flow_not_defined")
    wrong = served.client.post("/graphs/validate", json={"source": text.replace("transform", "transfrom")}).json()
    assert [(each["path"], each["line"]) for each in wrong["findings"]] == [("nodes[0].transfrom", 4)]
    path = str(served.folder / "shout.yaml")
    assert served.client.post("/graphs/validate", json={"source": path}).json()["valid"] is False
    assert served.client.post("/graphs/validate", json={"source": "a: [b"}).json()["valid"] is False


def test_what_is_defined_is_listed(served: Service) -> None:
    found = {each["name"]: each for each in served.client.get("/flows").json()["flows"]}
    assert (found["squares"]["call"], found["squares"]["description"]) == ("squares(n: int)", "Square some numbers.")
    assert found["ordered"]["events"] == ["order.placed"]
    assert found["shout"]["kind"] == "graph"
    assert "http" in {each["kind"] for each in served.client.get("/nodes").json()["nodes"]}
    for name in ("schedules", "lanes", "breakers"):
        assert served.client.get(f"/{name}").json() == {name: []}


def test_the_document_and_the_page_have_every_route(served: Service) -> None:
    paths = served.client.get("/openapi.json").json()["paths"]
    routes = {f"{method.upper()} {path}" for path, of_path in paths.items() for method in of_path}
    told = set(re.findall(r"`([A-Z]+ /[^` ?]*)", PAGE.read_text()))
    assert routes == told
    for path, of_path in paths.items():
        for method, operation in of_path.items():
            found = served.client.request(method.upper(), path.replace("{", "").replace("}", ""))
            assert found.status_code != 500, (method, path)
            assert operation["description"].startswith("In Python: ")


def test_the_health_is_told(served: Service) -> None:
    assert served.client.get("/health").json()["status"] == "ok"
