"""Workers over HTTP: runs of a server are executed by processes that have no journal."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.remote.conftest import RemoteService
from tests.server.test_runs_over_http import code
from tests.waits.conftest import LIMIT_S, until

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

import ironflow_nb as iron
from ironflow_nb.core import events
from ironflow_nb.core.event_codec import encode_event
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import RunStatus
from ironflow_nb.errors import JournalConflict, JournalError
from ironflow_nb.journal.ports import Lease, Select
from ironflow_nb.remote.http_run_server import HttpRunServer
from ironflow_nb.remote.wire_format import ClaimMessage, WireCommit, WireEvent, packed

pytestmark = [pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL"), pytest.mark.slow]


@pytest.mark.parametrize(
    ("flow", "given", "result"),
    [
        ("squares", {"n": 3}, [0, 1, 4]),
        ("squares_async", {"n": 3}, {"squares": [9, 16]}),
        ("chain", {"n": 3}, 3),
        ("mapped", {"n": 20}, list(range(20))),
        ("mapped_async", {"n": 20}, list(range(20))),
        ("large", {"n": 3_000_000}, 3_000_000),
        ("sleeps", {"s": 0.1}, 4),
    ],
)
def test_a_run_is_executed_by_a_worker_and_recorded_on_the_server(
    worked: RemoteService, flow: str, given: dict[str, Any], result: Any
) -> None:
    begun = worked.start(flow, input=given)
    shown = worked.until_status(begun["run_id"], "completed")
    assert shown["result"] == result
    assert {step["status"] for step in shown["steps"]} == {"completed"}
    waited = worked.start(flow, input=given, wait=True, status=200)
    assert waited["result"] == result


def test_a_failure_is_recorded_on_the_server(worked: RemoteService) -> None:
    found = worked.start("fails", input={"n": 1}, wait=True, status=200)
    assert found["status"] == "failed"
    assert found["error"] == {"code": "lookup_error", "message": "no such page"}


def test_what_a_run_reports_is_on_the_server(worked: RemoteService) -> None:
    found = worked.start("reports", input={"n": 3}, wait=True, status=200)
    assert found["status"] == "completed"
    with iron.open(worked.folder / ".ironflow" / "journal.db", read_only=True):
        run = iron.get_run(found["run_id"])
        assert "hello from afar" in str(run.log())
        assert "in the step" in str(run.log())
        metrics = iron.sql(f"SELECT metric, value FROM metrics WHERE run_id = '{run.id}'")
    assert sorted(metrics["value"]) == [0, 1, 2]


def test_an_event_of_a_run_starts_flows_of_the_server(worked: RemoteService) -> None:
    worked.start("emits", input={"n": 5}, wait=True, status=200)
    until(lambda: [run["status"] for run in listed(worked, "ordered")] == ["completed"])
    assert len(listed(worked, "emits")) == 1


def listed(service: RemoteService, flow: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.client.get("/runs", params={"flow": flow}).json()["runs"]
    return found


def test_a_question_is_answered_and_a_run_is_cancelled_wherever_it_is(worked: RemoteService) -> None:
    asks = worked.start("asks", input={"question": "Go?"})["run_id"]
    until(lambda: any(row["run_id"] == asks for row in worked.client.get("/waiting").json()["waiting"]))
    assert worked.client.post(f"/waiting/{asks}/answer", json={"value": True}).status_code == 202
    assert worked.until_status(asks, "completed")["result"] is True
    gated = worked.start("gated", input={"n": 5})["run_id"]
    until(lambda: "gate 5" in worked.bodies())
    assert worked.client.post(f"/runs/{gated}/cancel").status_code == 202
    until(lambda: worked.run(gated)["status"] in {"cancelling", "cancelled"})
    worked.open()
    worked.until_status(gated, "cancelled")
    assert "work 6" not in worked.bodies()


def owner_of(service: RemoteService, run_id: str) -> str | None:
    with iron.open(service.folder / ".ironflow" / "journal.db", read_only=True) as engine, engine.reading() as reader:
        [row] = reader.runs(Select(run_ids=[run_id]))
    return row.owner


def test_a_run_that_waits_needs_no_worker(remote: RemoteService) -> None:
    first = remote.begin_work()
    waits = remote.start("waits")["run_id"]
    until(lambda: "waiting" in str(remote.run(waits)["status"]))
    until(lambda: owner_of(remote, waits) is None)
    remote.end_work(first, signal.SIGTERM)
    assert remote.client.post(f"/runs/{waits}/signals/go", json={"payload": 7}).status_code == 202
    remote.begin_work()
    assert remote.until_status(waits, "completed")["result"] == [1, 7, 4]
    assert remote.bodies() == ["work 1", "work 2"]


@pytest.mark.crash
def test_a_run_of_a_killed_worker_goes_on_elsewhere_and_nothing_recorded_is_done_again(remote: RemoteService) -> None:
    first = remote.begin_work()
    run_id = remote.start("with_child", input={"n": 4})["run_id"]
    until(lambda: "gate 4" in remote.bodies())
    remote.end_work(first)
    remote.open()
    remote.begin_work()
    assert remote.until_status(run_id, "completed")["result"] == 10
    assert sorted(remote.bodies()) == ["gate 4", "gate 4", *(f"slow {n}" for n in range(4))]


@pytest.mark.crash
@pytest.mark.sampled(2)
@pytest.mark.parametrize("n_done", [0, 1, 5, 11])
def test_a_worker_is_killed_anywhere_in_a_chain(remote: RemoteService, n_done: int) -> None:
    first = remote.begin_work()
    run_id = remote.start("chain", input={"n": 12})["run_id"]
    until(lambda: len(remote.bodies()) > n_done)
    remote.end_work(first)
    recorded = {step["step"] for step in remote.run(run_id)["steps"] if step["status"] == "completed"}
    before = remote.bodies()
    remote.begin_work()
    assert remote.until_status(run_id, "completed")["result"] == sum(range(12))
    again = remote.bodies()[len(before) :]
    assert again == [f"slow {n}" for n in range(len(recorded), 12)]
    assert len(remote.bodies()) <= 13


@pytest.mark.crash
def test_a_server_is_killed_while_a_worker_is_at_work(remote: RemoteService) -> None:
    remote.begin_work()
    port = str(remote.client.base_url.port)
    run_id = remote.start("chain", input={"n": 40})["run_id"]
    until(lambda: len(remote.bodies()) > 5)
    remote.end(signal.SIGKILL)
    remote.begin("--no-work", "--port", port, files=("job.py",))
    assert remote.until_status(run_id, "completed")["result"] == sum(range(40))
    assert remote.bodies() == [f"slow {n}" for n in range(40)]


def test_a_worker_that_is_asked_to_end_gives_its_runs_back(remote: RemoteService) -> None:
    first = remote.begin_work()
    run_id = remote.start("gated", input={"n": 1})["run_id"]
    until(lambda: "gate 1" in remote.bodies())
    remote.workers[first].send_signal(signal.SIGTERM)
    until(lambda: "given back" in remote.worker_said(first))
    remote.open()
    assert remote.workers[first].wait(LIMIT_S) == 0
    remote.begin_work()
    assert remote.until_status(run_id, "completed")["result"] == [1, 1, 4]
    assert remote.bodies() == ["work 1", "gate 1", "work 2"]


def test_several_workers_share_the_runs(remote: RemoteService) -> None:
    for _ in range(2):
        remote.begin_work("job.py", "--runs", "3")
    begun = [remote.start("chain", input={"n": 5})["run_id"] for _ in range(12)]
    for run_id in begun:
        assert remote.until_status(run_id, "completed")["result"] == 10
    assert len(remote.bodies()) == 60


def lease(owner: str, host: str = "elsewhere", pid: int = 1) -> Lease:
    return Lease(owner=owner, host=host, pid=pid, process_started_at="1", heartbeat_at=0, lease_s=1.0)


def continued(version: int, owner: str, at: int) -> WireEvent:
    event = events.RunContinued(reason="takeover", owner=owner, definition=b"\0" * 20, durability="power")
    return WireEvent(version, at, *encode_event(event))


def taken_over(run: RunRow, at: int, owner: str, version: int) -> WireCommit:
    """Return the commit with which an owner takes a run over."""
    row = replace(run, owner=owner, status=RunStatus.RUNNING, session_version=version, n_sessions=version)
    return WireCommit(run_id=run.run_id, events=[continued(version, owner, at)], run=row)


def test_the_commits_of_an_owner_that_was_given_up_are_refused(
    remote: RemoteService, request: pytest.FixtureRequest
) -> None:
    run_id = remote.start("squares", input={"n": 1})["run_id"]
    server = HttpRunServer(str(remote.client.base_url), None)
    request.addfinalizer(server.close)
    asked = ClaimMessage("w", [(each["kind"], each["name"]) for each in remote.client.get("/flows").json()["flows"]])
    [offered] = server.claim(asked)
    assert offered.run_id == run_id
    assert server.claim(asked) == []  # it is offered to nobody else meanwhile
    path = remote.folder / ".ironflow" / "journal.db"
    with iron.open(path, read_only=True) as engine, engine.reading() as reader:
        [row] = reader.runs(Select(run_ids=[run_id]))
        version, at = reader.head(row.run_id) or (0, 0)
    begun = taken_over(row, at, "first", version + 1)
    server.commit(lease("first"), [begun])
    server.commit(lease("first"), [begun])  # its answer was lost, and it is sent again
    second = taken_over(row, at, "second", version + 2)
    with pytest.raises(JournalConflict, match="another owner"):
        server.commit(lease("second"), [second])  # the first one lives

    def is_taken() -> bool:
        try:
            server.commit(lease("second"), [second])
        except JournalConflict:
            return False
        return True

    until(is_taken)
    late = WireCommit(run_id=row.run_id, events=[continued(version + 3, "first", at)])
    for commit in (late, WireCommit(run_id=row.run_id), taken_over(row, at, "first", version + 2)):
        with pytest.raises(JournalConflict, match="another owner"):
            server.commit(lease("first"), [commit])
    assert server.beat(lease("first"), [row.run_id], 0, is_beat=True).lost == [row.run_id]
    for other in (lease("second", pid=2), lease("second", host="nowhere")):
        with pytest.raises(JournalConflict, match="another process"):
            server.commit(other, [late])
    events_of = remote.client.get(f"/runs/{run_id}/events").json()["events"]
    assert [each["type"] for each in events_of].count("RunContinued") == 2
    with pytest.raises(JournalError, match="no child of a run"):
        server.commit(lease("second"), [WireCommit(run_id=RunId("0" * 12), run=replace(row, run_id=RunId("0" * 12)))])


@pytest.mark.parametrize("path", ["claims", "commits", "beats", "signals", "events", "releases"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\x80", b"\xff" * 100, b"\x91" * 100_000, packed({"lease": 1})])
def test_a_message_that_is_none_is_refused(worked: RemoteService, path: str, content: bytes) -> None:
    found = worked.client.post(f"/work/{path}", content=content)
    assert code(found) == (422, "input_invalid")


def test_a_worker_needs_a_key_that_allows_it(tmp_path: Path) -> None:
    remote = RemoteService(tmp_path)
    try:
        remote.begin("--no-work", "--require-key", files=("job.py",))
        developer, worker = (remote.key(f"a-{role}", role)["Authorization"] for role in ("developer", "worker"))
        for key in ("", developer.partition(" ")[2]):
            number = remote.begin_work(IRONFLOW_API_KEY=key)
            assert remote.workers[number].wait(LIMIT_S) == 1
            assert "refuses" in remote.worker_said(number)
        remote.command("keys", "deny", "worker", "run:work", "run:*squares/*")
        remote.begin_work(IRONFLOW_API_KEY=worker.partition(" ")[2])
        admin = remote.key("root", "admin")
        remote.client.headers.update(admin)
        denied = remote.start("squares", input={"n": 1})["run_id"]
        allowed = remote.start("chain", input={"n": 2})["run_id"]
        assert remote.until_status(allowed, "completed")["result"] == 1
        assert remote.run(denied)["status"] == "pending"
    finally:
        remote.close()


def test_a_wrong_address_is_told(remote: RemoteService) -> None:
    for words in (("--url", "nowhere"), ("--url", "ftp://a"), ("--url", "http://a", "--journal", "b.db")):
        with pytest.raises(AssertionError, match=r"address of a server|--url or --journal"):
            remote.command("work", "job.py", *words)
