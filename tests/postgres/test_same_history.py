"""Runs that are copied from a file to a server, and from there to a file, look the same in every frame and handle."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb import Graph, flow, step
from ironflow_nb.views.journal_view import JournalView, ThroughputView
from tests.postgres.server import Server
from tests.waits.conftest import until

TROUBLE: list[bool] = []
N_ROWS = 10_000  # a table that does not fit in a row


@step
def load(n: int) -> int:
    sys.stdout.write(f"row {n}\n")
    iron.metric("rows", n / 2)
    if TROUBLE and n == 2:
        raise ValueError("row 2 is bad")
    return 10 * n


@step
def table(n_rows: int) -> pd.DataFrame:
    return pd.DataFrame({"n": range(n_rows)})


@flow
def inner(n: int) -> int:
    return load(n)


@flow
def report(n: int) -> int:
    return sum(load.map(range(n))) + inner(n + 1) + len(table(N_ROWS))


@flow
def asking() -> int:
    return load(1) + int(iron.ask("How many?"))


GRAPH = {"graph": "greeting", "nodes": [
    {"id": "a", "template": {"text": "two"}},
    {"id": "b", "template": {"text": "{{ value }} and two", "values": {"value": "{{ a }}"}}},
]}  # fmt: skip


def as_texts(frame: pd.DataFrame) -> dict[Any, list[Any]]:
    return frame.astype(str).to_dict("list")


def view() -> JournalView:
    """Return the dashboard without what is of the moment, or of a journal."""
    found = iron.dashboard(since=None, limit=20).view()
    return msgspec.structs.replace(found, location="", throughput=ThroughputView(), n_processes=0)


FRAMES: Mapping[str, Callable[[], pd.DataFrame]] = {
    "runs": lambda: iron.runs().drop(columns="duration_s"),
    "runs of a name and status": lambda: iron.runs("report", status=["failed", "completed"], limit=2),
    "runs after another": lambda: iron.runs(after=iron.runs()["run_id"][1], since="1d")[["run_id", "output"]],
    "steps": lambda: iron.steps().drop(columns="duration_s"),
    "failed steps": lambda: iron.steps(report, status="failed"),
    "attempts": lambda: iron.attempts().drop(columns="duration_s"),
    "events": lambda: iron.events().drop(columns="position"),
    "metrics": iron.metrics,
    "questions": lambda: iron.waiting()[["run_id", "step"]],
    "work": lambda: iron.work()[["run_id", "signal"]],
    "lanes": iron.lanes,
    "breakers": iron.breakers,
    "schedules": iron.schedules,
    "projections": iron.projections,
    "audit": iron.audit,
    "output_history": lambda: iron.sql("SELECT run_id, step, output FROM output_history ORDER BY run_id, step"),
    "log_history": lambda: iron.sql("SELECT run_id, name, at, text FROM log_history ORDER BY run_id, at, text"),
    "metric_history": lambda: iron.sql("SELECT run_id, at, value FROM metric_history ORDER BY run_id, at, value"),
    "comparison": lambda: iron.compare(*iron.runs("report", limit=2)["run_id"]),
    "prune": lambda: iron.prune(status=["completed", "failed"]).drop(columns="kept"),
}


def handle(run: iron.Run[Any]) -> dict[str, Any]:
    """Return what a run shows of itself."""
    done = run.steps().query("status == 'completed' and not reused")["step"].iloc[0]
    return {
        "status": run.status.value,
        "arguments": dict(run.arguments),
        "value": str(run.value(done)),
        "inputs": run.inputs(done),
        "log": str(run.log()),
        "timeline": as_texts(run.timeline()),
        "past": str(run.at(-1)),
        "lineage": as_texts(run.lineage()),
        "report": run.report().markdown,
    }


def shown() -> dict[str, Any]:
    """Return all that the current journal shows."""
    runs = [iron.get_run(run_id) for run_id in iron.runs()["run_id"]]
    return {
        **{name: as_texts(frame()) for name, frame in FRAMES.items()},
        **{run.id: handle(run) for run in runs if run.status != "waiting"},
        "dashboard": view(),
        "verified": iron.verify().ok,
    }


@pytest.fixture
def written() -> None:
    """Write a journal in a file, with runs of every kind."""
    with iron.open("journal.db"):
        report(3)
        TROUBLE.append(True)
        with pytest.raises(ValueError, match="row 2"):
            report(4)
        TROUBLE.clear()
        iron.get_run(iron.runs("report")["run_id"][0]).fork().wait(60)
        Graph.from_dict(GRAPH)()
        asking.start()
        until(lambda: len(iron.waiting()) == 1)


@pytest.mark.usefixtures("written")
def test_what_is_copied_to_a_server_and_back_looks_the_same_and_goes_on(url: str) -> None:
    with iron.open("journal.db") as here:
        there = shown()
        [waiting] = iron.runs(status="waiting")["run_id"]
        with iron.open(url) as on_server:
            iron.copy(iron.runs(engine=here), on_server, engine=here)
    with iron.open(url) as on_server:
        found = shown()
        assert found.keys() == there.keys()
        for name, what in there.items():
            assert found[name] == what, name
        with iron.open("back.db") as back:
            iron.copy(iron.runs(engine=on_server), back, engine=on_server)
        iron.get_run(waiting).answer("5")
        assert iron.get_run(waiting).resume().result(60) == 15
    with iron.open("back.db"):
        found = shown()
        for name, what in there.items():
            assert found[name] == what, name
        iron.get_run(waiting).answer("6")
        assert iron.get_run(waiting).resume().result(60) == 16


@pytest.mark.usefixtures("written")
def test_a_role_that_may_only_look_sees_all_of_it(server: Server, url: str) -> None:
    with iron.open("journal.db") as here, iron.open(url) as on_server:
        iron.copy(iron.runs(engine=here), on_server, engine=here)
    schema = url.rpartition("=")[2]
    server.execute(f"CREATE ROLE {schema} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {schema}")
    server.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {schema}")
    with iron.open(url):
        there = shown()
    with iron.open(server.url(schema, user=schema)):
        found = shown()
        for name, what in there.items():
            assert found[name] == what, name
        with pytest.raises(iron.JournalError, match="ask its owner"):
            report(1)
    assert server.execute(f"SELECT count(*) FROM {schema}.runs") == [(len(there["runs"]["run_id"]),)]
