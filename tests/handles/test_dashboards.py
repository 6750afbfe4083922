"""The dashboard: what it counts and lists of real runs, by flow, status and time, and what it says of what waits."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import Run, flow, step
from ironflow_nb.core.status import RunStatus
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.views.journal_view import JournalView
from tests.conftest import Lab
from tests.deciders.orders import Place, charging, orders
from tests.waits.conftest import LIMIT_S, until

# The counts are made by SQL; the memory journal of the test kit has no tables.
pytestmark = pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
REACHED, GO_ON = threading.Event(), threading.Event()


@pytest.fixture(autouse=True)
def open_gate() -> Iterator[None]:
    REACHED.clear()
    GO_ON.clear()
    yield
    GO_ON.set()


@step
def load(n: int) -> int:
    if n < 0:
        raise ValueError(f"row {n} is bad")
    return n


@flow
def ingest(n: int) -> int:
    return load(n)


@step(lane=iron.Lane("api", limit=1))
def hold(n: int) -> int:
    REACHED.set()
    assert GO_ON.wait(LIMIT_S)
    return n


@flow
def held(n: int) -> int:
    return hold(n)


@flow
def asks() -> Any:
    return iron.ask("Who?", choices=["ann", "bob"], timeout_s=3600)


@flow
def hears() -> Any:
    return iron.wait_for("go")


@flow
def outer() -> int:
    return ingest(5)


def shown(**options: Any) -> JournalView:
    return iron.dashboard(**options).view()


def failed(n: int) -> Run[Any]:
    return ingest.start(n).wait(LIMIT_S)


def test_an_empty_journal_has_a_dashboard(lab: Lab) -> None:
    view = shown()
    assert (view.runs, view.n_by_status, view.throughput.n_completed) == ((), {}, ())
    assert "0 runs" in repr(iron.dashboard())


def test_runs_are_counted_by_status_and_flow_and_children_are_not_counted(lab: Lab) -> None:
    for n in range(3):
        ingest(n)
    failed(-1)
    assert outer() == 5
    view = shown()
    assert view.n_by_status == {"failed": 1, "completed": 4}
    assert {each.name.rpartition(".")[2]: each.n_by_status for each in view.flows} == {
        "ingest": {"failed": 1, "completed": 3},
        "outer": {"completed": 1},
    }
    assert [run.status for run in view.runs] == ["completed", "failed", "completed", "completed", "completed"]
    bad = view.runs[1]
    assert (bad.n_known, bad.n_failed, bad.error) == (1, 1, "ValueError: row -1 is bad")


def test_failures_are_grouped_by_signature(lab: Lab) -> None:
    for n in (-1, -22, -333):
        newest = failed(n)
    [failure] = shown().failures
    assert (failure.n, failure.signature, failure.run_id) == (3, "ValueError: row -# is bad", newest.id)


def test_the_ends_of_runs_fill_the_bars_and_the_bars_have_all_of_them(lab: Lab) -> None:
    for n in range(4):
        ingest(n)
    failed(-1)
    view = shown()
    assert sum(view.throughput.n_completed) == 4
    assert sum(view.throughput.n_failed) == 1
    assert len(view.throughput.n_completed) == len(view.throughput.n_failed) <= 30
    assert view.p50_s is not None
    assert view.p95_s is not None
    assert 0 < view.p50_s <= view.p95_s


def test_what_happened_long_ago_is_left_out_unless_it_goes_on(lab: Lab) -> None:
    clock = lab.simulate_time()
    lab.cell()
    ingest(1)
    waiting = hears.start()
    until(lambda: waiting.status is RunStatus.WAITING)
    clock.advance(timedelta(minutes=30).total_seconds())
    ingest.options(fresh=True)(2)
    assert shown(since="10m").n_by_status == {"waiting": 1, "completed": 1}
    assert shown(since=None).n_by_status == {"waiting": 1, "completed": 2}
    waiting.cancel().wait(LIMIT_S)


def test_a_list_of_one_flow_and_one_status_in_another_order(lab: Lab) -> None:
    for n in range(3):
        ingest(n)
    bad = failed(-1)
    outer()
    assert {run.name for run in shown(flow=ingest).runs} == {ingest.name}
    found = shown(flow="ingest", status="failed")
    assert [run.run_id for run in found.runs] == [bad.id]
    assert found.n_found == 1
    assert found.n_by_status == {"failed": 1, "completed": 3}, "the numbers above the list are of all"
    newest = [run.run_id for run in shown().runs]
    assert [run.run_id for run in shown(order="oldest").runs] == newest[::-1]
    longest = shown(order="longest").runs
    took = [(run.ended_at or 0) - run.started_at for run in longest]
    assert took == sorted(took, reverse=True)
    few = shown(limit=2)
    assert ([run.run_id for run in few.runs], few.n_found) == (newest[:2], 5)


def test_a_run_whose_process_died_is_counted_and_listed_as_interrupted(lab: Lab) -> None:
    run = held.start(1)
    assert REACHED.wait(LIMIT_S)
    assert shown().n_by_status == {"running": 1}
    lab.die()
    assert shown().n_by_status == {"interrupted": 1}
    assert [each.run_id for each in shown(status="interrupted").runs] == [run.id]
    assert shown(status="running").runs == ()
    assert shown().flows[0].n_by_status == {"interrupted": 1}


def test_lanes_and_questions_are_shown(lab: Lab) -> None:
    first, second = held.start(1), held.start(2)
    assert REACHED.wait(LIMIT_S)
    asking = asks.start()
    until(lambda: asking.status is RunStatus.WAITING)
    until(lambda: [lane.n_waiting for lane in shown().lanes] == [1])
    view = shown()
    assert [(lane.lane, lane.n_held, lane.limit) for lane in view.lanes] == [("api", 1, 1)]
    assert [(each.run_id, each.question) for each in view.waiting] == [(asking.id, "Who?")]
    assert view.n_waiting == 1
    text = iron.dashboard().text
    assert "waiting for an answer" in text
    assert re.search(r"api +1 +1 +1", text)
    asking.cancel().wait(LIMIT_S)
    GO_ON.set()
    assert (first.result(LIMIT_S), second.result(LIMIT_S)) == (1, 2)


def test_schedules_and_breakers_are_shown(lab: Lab) -> None:
    @step(breaker=iron.Breaker("mail", failures=2, open_s=60))
    def send() -> None:
        raise ValueError("no mail")

    @flow
    def mails() -> None:
        send()

    schedule = ingest.schedule(every_s=3600, name="hourly", args=[1])
    mails.start().wait(LIMIT_S)
    view = shown()
    assert [(each.name, each.state) for each in view.schedules] == [("hourly", "scheduled")]
    assert [(each.name, each.n_failed, each.open_until) for each in view.breakers] == [("mail", 1, None)]
    schedule.remove()
    assert shown().schedules == ()


def test_dead_letters_and_the_lag_of_projections_are_shown(lab: Lab) -> None:
    order = orders("shown order")
    charging(order, [], fails=lambda _: True, attempts=1)

    @iron.projection("shown totals", initial=0, of=order)
    def totals(state: int, event: iron.ProjectionEvent) -> int:
        return state + 1

    try:
        order.send(Place("a", 3.0))
        order.run_until_idle()
        totals.catch_up()
        order.send(Place("b", 4.0))
        view = shown()
        assert [(each.kind, each.error) for each in view.dead_letters] == [
            ("effect", "ConnectionError: the bank is closed")
        ]
        assert view.n_dead == 1
        assert [(each.name, each.lag) for each in view.projections] == [("shown totals", 1)]
        assert view.n_by_status == {}, "instances of deciders are no runs that come to an end"
        assert [each.kind for each in view.flows] == ["decider"]
    finally:
        REGISTRY.forget("projection", "shown totals")
        REGISTRY.forget("decider", "shown order")


def test_damaged_runs_and_steps_hide_no_others(lab: Lab) -> None:
    first, second, third = (ingest.start(n).wait(LIMIT_S) for n in (1, 2, 3))
    with closing(sqlite3.connect(lab.engine.journal.location)) as connection, connection:
        connection.execute("UPDATE runs SET status = 'lost' WHERE run_id = ?", (first.id,))
        connection.execute("UPDATE steps SET status = 'lost' WHERE run_id = ?", (second.id,))
    view = shown()
    assert {run.run_id: run.n_known for run in view.runs} == {second.id: 0, third.id: 1}
    assert third.id in iron.dashboard().text


def test_a_view_is_equal_while_nothing_happens(lab: Lab) -> None:
    ingest(1)
    dashboard = iron.dashboard(since=None)
    assert dashboard.view() == dashboard.view()


def test_one_transaction_makes_a_view(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest(1)
    reads = []
    reading = lab.engine.journal.reading
    monkeypatch.setattr(lab.engine.journal, "reading", lambda: reads.append(1) or reading())
    shown()
    assert len(reads) == 1


def test_a_dashboard_displays_itself_as_text_and_tables(lab: Lab) -> None:
    ingest(1)
    bundle = iron.dashboard()._repr_mimebundle_()
    assert "✓ completed" in bundle["text/plain"]
    assert "<table>" in bundle["text/html"]


def test_a_journal_that_cannot_be_read_is_told_in_place_of_the_dashboard(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "other.db").write_bytes(b"no journal at all" * 1000)
    with iron.open(tmp_path / "other.db") as engine:
        bundle = iron.dashboard(engine=engine)._repr_mimebundle_()
    assert bundle.keys() == {"text/plain"}
    assert "other.db" in bundle["text/plain"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"order": "best"}, ValueError),
        ({"status": "done"}, ValueError),
        ({"since": "soon"}, ValueError),
        ({"limit": -1}, ValueError),
        ({"flow": 7}, TypeError),
    ],
)
def test_an_invalid_argument_is_refused_at_once(lab: Lab, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        iron.dashboard(**options)


def test_a_journal_in_memory_has_a_dashboard(lab: Lab) -> None:
    with iron.open(":memory:"):
        ingest(3)
        assert shown().n_by_status == {"completed": 1}
