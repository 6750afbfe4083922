"""Runs that are begun, listed, shown, followed and steered by an HTTP client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.server.conftest import Service
from tests.waits.conftest import until

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")


def code(found: httpx.Response) -> tuple[int, str]:
    assert set(found.json()) == {"error"}
    assert found.json()["error"]["message"]
    return found.status_code, found.json()["error"]["code"]


def test_who_waits_gets_the_result(served: Service) -> None:
    found = served.start("squares", input={"n": 3}, wait=True, status=200)
    assert found == {"run_id": found["run_id"], "status": "completed", "result": [0, 1, 4]}
    found = served.start("squares_async", input={"n": 2}, wait=True, status=200)
    assert found["result"] == {"squares": [4, 9]}
    assert served.start("shout", input={"text": "hi"}, wait=True, status=200)["result"] == "HI"


def test_a_failure_of_the_flow_is_its_outcome(served: Service) -> None:
    found = served.start("bad", wait=True, status=200)
    assert (found["status"], found["error"]) == ("failed", {"code": "lookup_error", "message": "no such page"})
    assert served.run(found["run_id"])["error"] == found["error"]


def test_what_can_not_be_shown_costs_no_answer(served: Service) -> None:
    found = served.start("odd", input={"is_raised": False}, wait=True, status=200)
    assert "can't be shown" in found["result"]
    found = served.start("odd", input={"is_raised": True}, wait=True, status=200)
    assert "can't be shown" in served.run(found["run_id"])["error"]["message"]


def test_an_accepted_run_is_shown_where_the_answer_says(served: Service) -> None:
    found = served.client.post("/runs", json={"flow": "squares", "input": {"n": 2}})
    assert found.status_code in {200, 202}  # the run may have ended when the answer is made
    served.until_status(found.json()["run_id"], "completed")
    shown = served.client.get(found.headers["location"]).json()
    assert (shown["name"], shown["result"], shown["arguments"]) == ("squares", [0, 1], "n=2")
    assert [(each["step"], each["output"]) for each in shown["steps"]] == [("work[0]", "0"), ("work[1]", "1")]
    assert served.run(shown["run_id"][:8])["run_id"] == shown["run_id"]


def test_who_waits_long_enough_is_told_that_the_run_goes_on(served: Service) -> None:
    found = served.start("waits", wait=True, timeout_s=0.2)
    assert found["status"] in {"running", "waiting"}
    served.client.post(f"/runs/{found['run_id']}/cancel")


def test_equal_requests_are_runs_of_their_own_and_those_of_a_key_are_one(served: Service) -> None:
    ids = {served.start("squares", input={"n": 1}, wait=True, status=200)["run_id"] for _ in range(3)}
    assert len(ids) == 3

    def ask(_: int) -> str:
        headers = {"Idempotency-Key": "one"}
        body = {"flow": "squares", "input": {"n": 1}, "wait": True}
        answer = served.client.post("/runs", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["run_id"])

    with ThreadPoolExecutor(8) as pool:
        assert len({*pool.map(ask, range(16))}) == 1
    again = served.start("squares", input={"n": 1}, key="one", wait=True, status=200)
    assert again["run_id"] == ask(0)
    other = served.client.post("/runs", json={"flow": "squares", "input": {"n": 2}, "key": "one"})
    assert code(other) == (409, "duplicate_key")
    two = {"json": {"flow": "squares", "input": {"n": 1}, "key": "one"}, "headers": {"Idempotency-Key": "two"}}
    assert code(served.client.post("/runs", **two)) == (422, "two_keys")


def test_a_failed_run_is_not_tried_again_by_its_key(served: Service) -> None:
    first = served.start("bad", key="failing", wait=True, status=200)
    assert served.start("bad", key="failing", wait=True, status=200) == first
    assert served.run(first["run_id"])["n_sessions"] == 1


def test_pages_have_every_run_once(served: Service) -> None:
    for n in range(5):
        served.start("squares", input={"n": 0}, key=f"page {n}", wait=True, status=200)
    ids: list[str] = []
    query = {"flow": "squares", "status": "completed,failed", "limit": "2"}
    while True:
        page = served.client.get("/runs", params=query).json()
        ids += [each["run_id"] for each in page["runs"]]
        if page["next"] is None:
            break
        query["after"] = page["next"]
    every = served.client.get("/runs", params={"flow": "squares", "limit": 1000}).json()["runs"]
    assert ids == [each["run_id"] for each in every]
    assert len(ids) >= 5
    assert code(served.client.get("/runs", params=query | {"flow": "bad"})) == (422, "cursor_invalid")
    assert code(served.client.get("/runs", params={"after": "?"})) == (422, "cursor_invalid")


def messages(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Yield server-sent events."""
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if not line and found:
            yield found
            found = {}
        elif name in {"id", "event", "data"}:
            found[name] = value


def follow(service: Service, run_id: str, last: str | None = None, *, n: int = 1000) -> list[dict[str, str]]:
    headers = {"Accept": "text/event-stream"} | ({} if last is None else {"Last-Event-ID": last})
    with service.client.stream("GET", f"/runs/{run_id}/events", headers=headers) as answer:
        assert answer.status_code == 200
        found = []
        for each in messages(answer.iter_lines()):
            found.append(each)
            if len(found) == n:
                break
        return found


def test_a_follower_that_is_cut_off_goes_on_after_its_last_id(served: Service) -> None:
    run_id = served.start("waits")["run_id"]
    first = follow(served, run_id, n=2)
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(follow, served, run_id, first[-1]["id"])
        served.client.post(f"/runs/{run_id}/signals/go", json={"payload": 7}).raise_for_status()
        found = first + rest.result()
    end = found.pop()
    assert (end["event"], json.loads(end["data"])) == ("end", {"run_id": run_id, "status": "completed"})
    events = [json.loads(each["data"]) for each in found]
    assert [each["version"] for each in events] == [*range(1, len(events) + 1)]
    assert (events[0]["type"], events[-1]["type"]) == ("RunStarted", "RunCompleted")
    headers = {"Accept": "text/event-stream", "Last-Event-ID": found[-1]["id"]}
    assert served.client.get(f"/runs/{run_id}/events", headers=headers).status_code == 204
    page = served.client.get(f"/runs/{run_id}/events", params={"limit": 3}).json()
    assert (page["events"], page["is_last"]) == (events[:3], False)
    page = served.client.get(f"/runs/{run_id}/events", params={"after": page["next"]}).json()
    assert (page["events"], page["is_last"], page["status"]) == (events[3:], True, "completed")


def test_the_id_of_an_event_that_never_was_is_gone(served: Service) -> None:
    run_id = served.start("squares", input={"n": 0}, wait=True, status=200)["run_id"]
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "999999999"}
    assert code(served.client.get(f"/runs/{run_id}/events", headers=headers)) == (410, "cursor_gone")
    headers["Last-Event-ID"] = "x"
    assert code(served.client.get(f"/runs/{run_id}/events", headers=headers)) == (422, "cursor_invalid")
    assert code(served.client.get("/runs/nothing/events", headers=headers)) == (404, "run_not_found")


def test_a_question_is_listed_and_answered(served: Service) -> None:
    run_id = served.start("asks", input={"question": "publish?"})["run_id"]
    until(lambda: run_id in {each["run_id"] for each in served.client.get("/waiting").json()["waiting"]})
    path = f"/waiting/{run_id}/answer"
    assert code(served.client.post(path, json={"value": "maybe"})) == (422, "input_invalid")
    assert served.client.post(path, json={"value": True}).status_code == 202
    assert served.until_status(run_id, "completed")["result"] is True
    assert code(served.client.post(path, json={"value": False})) == (409, "run_finished")


def test_a_signal_with_an_id_is_sent_once(served: Service) -> None:
    run_id = served.start("waits")["run_id"]
    path = f"/runs/{run_id}/signals/go"
    for payload, status in (({"a": 1}, 202), ({"a": 1}, 202), ({"a": 2}, 409)):
        found = served.client.post(path, json={"payload": payload, "id": "mine"})
        assert found.status_code == status, found.text
    assert served.until_status(run_id, "completed")["result"] == [1, {"a": 1}, 4]


def test_a_run_is_paused_continued_and_cancelled(served: Service) -> None:
    run_id = served.start("waits")["run_id"]
    assert served.client.post(f"/runs/{run_id}/pause").status_code == 202
    served.until_status(run_id, "paused")
    assert served.client.post(f"/runs/{run_id}/resume").status_code == 202
    served.until_status(run_id, "waiting")
    assert served.client.post(f"/runs/{run_id}/cancel").status_code == 202
    served.until_status(run_id, "cancelled")
    assert code(served.client.post(f"/runs/{run_id}/resume", json={})) == (409, "run_finished")


def test_a_result_is_given_by_hand_and_a_run_goes_on_from_there(served: Service) -> None:
    run_id = served.start("squares", input={"n": 2}, wait=True, status=200)["run_id"]
    body = {"step": "work[1]", "value": 10, "reason": "it was wrong"}
    assert served.client.post(f"/runs/{run_id}/inject", json=body).status_code == 202
    assert served.client.post(f"/runs/{run_id}/resume", json={}).status_code == 202
    until(lambda: served.run(run_id).get("result") == [0, 10])
    other = served.client.post(f"/runs/{run_id}/fork", json={"inputs": {"m": 1}})
    assert code(other) == (422, "input_invalid")
    forked = served.client.post(f"/runs/{run_id}/fork", json={"replace": {"work[0]": 5}})
    assert forked.status_code == 202
    assert served.until_status(forked.json()["run_id"], "completed")["result"] == [5, 10]
    assert served.client.delete(f"/runs/{forked.json()['run_id']}").json()["deleted"] is True
    assert code(served.client.get(f"/runs/{forked.json()['run_id']}")) == (404, "run_not_found")


def test_an_event_starts_its_flow_once_for_a_key(served: Service) -> None:
    body = {"name": "order.placed", "data": {"n": 3}, "key": "order 3"}
    ids = {served.client.post("/events", json=body).json()["event_id"] for _ in range(3)}
    assert len(ids) == 1

    def found() -> Any:
        return served.client.get("/runs", params={"flow": "ordered"}).json()["runs"]

    until(lambda: [each["status"] for each in found()] == ["completed"])
