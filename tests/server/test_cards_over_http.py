"""The cards of runs over HTTP: whole frames first, then what changes them; the details of a node; answers as typed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.conftest import Service
from tests.server.test_runs_over_http import code
from tests.waits.conftest import until

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

SSE = {"Accept": "text/event-stream"}


def told(service: Service, **query: Any) -> Iterator[tuple[str, Any]]:
    """Yield the events of a stream: names and data."""
    with service.client.stream("GET", "/follow", params=query, headers=SSE) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


def test_the_card_of_a_run_is_followed_to_its_end(service: Service) -> None:
    service.begin()
    run_id = service.start("gated", input={"n": 3})["run_id"]
    until(lambda: "gate 3" in service.bodies())
    frame: dict[str, Any] = {}
    elements: dict[str, str] = {}
    n_changes = 0
    for name, content in told(service, runs=run_id):
        assert (name, content["run_id"]) == ("card", run_id)
        if "frame" in content:
            assert not frame
            frame = content["frame"]
            elements = frame["elements"]
            assert frame["svg"].startswith("<svg")
            assert frame["status"] == "running"
            assert {"pause", "cancel"} <= {*frame["actions"]}
            service.open()
            continue
        n_changes += 1
        assert content["change"].keys() <= {*frame, "svg"}
        frame = {**frame, **content["change"]}
        elements = {**elements, **content["elements"]}
        if frame["status"] == "completed":
            break
    assert n_changes
    assert frame["progress"]["n_done"] == 3
    assert not {"pause", "cancel"} & {*frame["actions"]}
    [whole] = service.client.get("/follow", params={"runs": run_id}).json()["cards"]
    assert (whole["elements"], whole["picture"]) == (elements, frame["picture"])
    service.end()


def test_a_stream_tells_of_the_journal_and_of_runs_that_are_gone(served: Service) -> None:
    gone = served.start("squares", input={"n": 1}, wait=True)["run_id"]
    served.client.delete(f"/runs/{gone}").raise_for_status()
    events = told(served, runs=f"{gone},{gone}", journal="true")
    name, content = next(events)
    assert (name, content["run_id"], content["error"]["code"]) == ("error", gone, "run_not_found")
    before = next(content["position"] for name, content in events if name == "journal")
    served.start("squares", input={"n": 1})
    assert next(content["position"] for name, content in events if name == "journal") > before
    events.close()  # type: ignore[attr-defined]
    many = ",".join(f"{n}" for n in range(51))
    assert code(served.client.get("/follow", params={"runs": many})) == (422, "query_invalid")


def test_the_details_of_a_node_are_those_of_the_card(served: Service) -> None:
    run_id = served.start("squares", input={"n": 3}, wait=True)["run_id"]
    [frame] = served.client.get("/follow", params={"runs": run_id[:8]}).json()["cards"]
    element = next(name for name, markup in frame["elements"].items() if "work" in markup and "-n-" in name)
    found = served.client.get(f"/runs/{run_id}/nodes/{element}").json()
    assert (found["label"], found["n_steps"]) == ("work", 3)
    assert {each["step"]: each["output"] for each in found["steps"]} == {"work[0]": "0", "work[1]": "1", "work[2]": "4"}
    assert "return n * n" in found["source"]
    assert code(served.client.get(f"/runs/{run_id}/nodes/nothing")) == (404, "step_not_found")


def test_the_moments_of_a_run_are_those_of_the_slider(served: Service) -> None:
    run_id = served.start("squares", input={"n": 3}, wait=True)["run_id"]

    def moment(**query: Any) -> Any:
        return served.client.get(f"/runs/{run_id}/moments", params=query).json()

    newest = moment()
    last = newest["view"]["newest"]
    assert (newest["at"], newest["is_live"], newest["status"]) == (last, True, "completed")
    assert newest["svg"].startswith("<svg")
    assert newest["recent"][-1]["words"] == "run completed"
    first = moment(at=1, other=last)
    assert (first["at"], first["is_live"], first["status"], len(first["ghosts"])) == (1, False, "running", 1)
    assert [each["name"] for each in first["differences"]] == ["work[0]", "work[1]", "work[2]"]
    known = moment(at=10**9, picture=newest["picture"])  # beyond the end is the end
    assert (known["at"], known["elements"], "svg" in known) == (last, newest["elements"], False)
    for wrong in ({"at": 0}, {"at": "x"}, {"other": -1}):
        assert code(served.client.get(f"/runs/{run_id}/moments", params=wrong)) == (422, "query_invalid")
    served.client.delete(f"/runs/{run_id}").raise_for_status()
    assert code(served.client.get(f"/runs/{run_id}/moments")) == (404, "run_not_found")


def test_a_question_is_answered_by_a_typed_line(served: Service) -> None:
    run_id = served.start("asks", input={"question": "Sure?"})["run_id"]
    until(lambda: any(each["run_id"] == run_id for each in served.client.get("/waiting").json()["waiting"]))
    asked = next(each for each in served.client.get("/waiting").json()["waiting"] if each["run_id"] == run_id)
    assert (asked["form"], asked["choices"]) == ("choice", ["yes", "no"])
    for wrong in ({}, {"line": "yes", "value": True}):
        found = served.client.post(f"/waiting/{run_id}/answer", json=wrong)
        assert code(found) == (422, "body_invalid")
    found = served.client.post(f"/waiting/{run_id}/answer", json={"line": "perhaps"})
    assert code(found) == (422, "input_invalid")
    found = served.client.post(f"/waiting/{run_id}/answer", json={"line": "no", "step": asked["step"]})
    assert found.status_code == 202
    assert served.until_status(run_id, "completed")["result"] is False


def test_the_files_of_the_page_are_those_of_the_package_and_nothing_else(served: Service) -> None:
    page = served.client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    script = served.client.get("/page/run_card.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    again = served.client.get("/page/run_card.js", headers={"If-None-Match": script.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for path in ("/page/page.html", "/page/..%2faccess_guard.py", "/page/http_server.py", "/page/.", "/page/%00"):
        assert served.client.get(path).status_code == 404
