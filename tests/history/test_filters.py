"""Every filter of the frames chooses what it says, and refuses what it can't be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb import Flow, flow, step
from ironflow_nb.journal.ports import Durability
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.testing.clock import START_AT
from tests.cells import run_cell
from tests.conftest import Lab
from tests.contracts.histories import A, Author, B, C, D

pytestmark = pytest.mark.slow

FRAMES: Mapping[str, Callable[..., pd.DataFrame]] = {
    "runs": iron.runs,
    "steps": iron.steps,
    "attempts": iron.attempts,
    "events": iron.events,
}
ALL = pytest.mark.parametrize("name", FRAMES)
START = datetime.fromtimestamp(START_AT / 1e6, UTC)


@step
def work(n: int) -> int:
    if n == 13:
        raise ValueError("unlucky")
    return n


@flow(name="north.main")
def north(n: int) -> int:
    return work(n) + work(n + 1)


@flow(name="south.main")
def south(n: int) -> int:
    return work(n)


@flow(name="main")
def plain(n: int) -> int:
    return work(n)


@pytest.fixture
def ids(lab: Lab) -> SimpleNamespace:
    """Four runs, an hour apart, each named by its flow; the newest of them failed."""
    clock = lab.simulate_time()
    made = {}
    for name, one, n in (("north", north, 1), ("south", south, 1), ("plain", plain, 1)):
        made[name] = one.start(n).wait(20).id
        clock.advance(3600)
    made["failed"] = south.start(13).wait(20).id
    return SimpleNamespace(**made)


def chosen(name: str, **filters: Any) -> list[str]:
    """Return the runs that are in the frame, in its order."""
    return list(dict.fromkeys(FRAMES[name](**filters)["run_id"]))


def ordered(name: str, *newest_first: str) -> list[str]:
    return list(newest_first) if name != "events" else list(newest_first)[::-1]


@ALL
def test_without_filters_everything_is_there(ids: SimpleNamespace, name: str) -> None:
    assert chosen(name) == ordered(name, ids.failed, ids.plain, ids.south, ids.north)


@ALL
def test_a_flow_is_chosen_by_its_name_or_the_last_part_of_it(ids: SimpleNamespace, name: str) -> None:
    assert chosen(name, flow="north.main") == [ids.north]
    assert chosen(name, flow="main") == ordered(name, ids.failed, ids.plain, ids.south, ids.north)
    assert chosen(name, flow="ain") == []
    assert chosen(name, flow="%") == []


@ALL
@pytest.mark.parametrize("one", [north, plain], ids=lambda one: one.name)
def test_a_flow_itself_chooses_its_own_runs_only(ids: SimpleNamespace, name: str, one: Flow[[int], int]) -> None:
    mine = {"north.main": ids.north, "main": ids.plain}[one.name]
    assert chosen(name, flow=one) == [mine]
    assert chosen(name, flow=one, run=ids.south) == []
    assert one.runs()["run_id"].tolist() == [mine]
    assert set(one.events()["run_id"]) == {mine}


def test_the_newest_run_of_a_flow_is_found_behind_newer_ones_of_others(ids: SimpleNamespace) -> None:
    assert chosen("runs", flow=plain, limit=1) == [ids.plain]
    assert set(iron.events(flow=plain, limit=1)["type"]) == {"RunCompleted"}
    assert chosen("steps", flow=plain, limit=1) == [ids.plain]


@ALL
def test_a_run_is_chosen_by_its_id_a_prefix_or_its_handle(ids: SimpleNamespace, name: str) -> None:
    for run in (ids.south, ids.south[:10].upper(), iron.get_run(ids.south)):
        assert chosen(name, run=run) == [ids.south]


@pytest.mark.parametrize("name", ["runs", "events"])
def test_runs_and_events_are_chosen_by_the_status_of_the_run(ids: SimpleNamespace, name: str) -> None:
    assert chosen(name, status="failed") == [ids.failed]
    assert chosen(name, status="completed") == ordered(name, ids.plain, ids.south, ids.north)
    assert chosen(name, status=["failed", "completed"], flow=south) == ordered(name, ids.failed, ids.south)
    assert chosen(name, status="running") == []
    assert chosen(name, status=[]) == []


@pytest.mark.parametrize("name", ["steps", "attempts"])
def test_steps_are_chosen_by_their_own_status(ids: SimpleNamespace, name: str) -> None:
    assert chosen(name, status="failed") == [ids.failed]
    assert len(FRAMES[name](status={"completed"})) == 4
    assert FRAMES[name](status=["running", "interrupted"]).empty
    assert FRAMES[name](status=()).empty


def test_interrupted_includes_runs_whose_process_died(lab: Lab) -> None:
    space: dict[str, Any] = {"__name__": "__main__", "iron": iron, "die": lab.die_in_flow}
    run_cell("@iron.step\ndef work():\n    return 1\n@iron.flow\ndef main():\n    work()\n    die()", space)
    with pytest.raises(SystemExit):
        space["main"]()
    for status in ("interrupted", ["running", "interrupted"]):
        assert iron.runs(status=status)["status"].tolist() == ["interrupted"]
        assert len(iron.events(status=status)) == 3
    assert iron.runs(status="running").empty
    assert iron.runs(status="interrupted", limit=0).empty


@ALL
@pytest.mark.parametrize(
    "since",
    [
        "90m", 5400, 5400.0, timedelta(minutes=90), "1h 30m", START + timedelta(minutes=90),
        (START + timedelta(minutes=90)).isoformat(), (START + timedelta(minutes=90)).astimezone().replace(tzinfo=None),
        pd.Timestamp(START) + pd.Timedelta("90min"), (START + timedelta(hours=2)).isoformat(),
    ],
    ids=repr,
)  # fmt: skip
def test_since_is_an_instant_or_a_duration_before_now(ids: SimpleNamespace, name: str, since: Any) -> None:
    assert chosen(name, since=since) == ordered(name, ids.failed, ids.plain)


@ALL
@pytest.mark.parametrize("since", ["99999d", 1e300, float("inf"), datetime.min.replace(tzinfo=UTC)], ids=repr)
def test_a_very_long_time_ago_is_everything(ids: SimpleNamespace, name: str, since: Any) -> None:
    assert len(chosen(name, since=since)) == 4


@ALL
def test_nothing_happened_since_the_future(ids: SimpleNamespace, name: str) -> None:
    assert chosen(name, since=START + timedelta(days=1)) == []


def test_the_limit_is_of_the_newest_runs_and_events_and_of_the_first_steps(ids: SimpleNamespace) -> None:
    assert chosen("runs", limit=2) == [ids.failed, ids.plain]
    assert iron.events(limit=2)["type"].tolist() == ["StepFailed", "RunFailed"]
    assert chosen("steps", limit=np.int64(2)) == [ids.failed, ids.plain]
    assert len(iron.steps(run=ids.north, limit=1)) == 1
    assert len(iron.attempts(limit=3)) == 3
    for huge in (2**63, 2**70):
        assert len(iron.events(limit=huge)) == len(iron.events())
        assert len(iron.runs(limit=huge)) == len(iron.runs())
    assert chosen("steps", status="completed", limit=3) == [ids.plain, ids.south, ids.north]
    assert chosen("steps", status=["failed", "interrupted"], limit=3) == [ids.failed]
    assert chosen("steps", flow="main", limit=3) == [ids.failed, ids.plain, ids.south]


@ALL
def test_filters_work_together(ids: SimpleNamespace, name: str) -> None:
    assert chosen(name, flow=south, status="completed", since="1d", limit=50) == [ids.south]
    assert chosen(name, flow=south, status="completed", since="90m") == []
    assert FRAMES[name](limit=0).empty
    assert len(FRAMES[name](limit=10**6)) == len(FRAMES[name]())


@ALL
@pytest.mark.parametrize(
    ("filters", "kind", "message"),
    [
        ({"status": "green"}, ValueError, "status must be one of pending, running, .* got 'green'"),
        ({"status": ["failed", "gone"]}, ValueError, "status must be one of"),
        ({"limit": -1}, ValueError, "limit must be an int >= 0, got -1"),
        ({"limit": "many"}, ValueError, "limit must be an int >= 0, got 'many'"),
        ({"limit": 1.5}, ValueError, "limit must be an int >= 0"),
        ({"since": "yesterday"}, ValueError, "'yesterday' is no duration"),
        ({"since": -5}, ValueError, "zero or more seconds"),
        ({"since": True}, TypeError, "a duration is seconds"),
        ({"since": float("nan")}, ValueError, "zero or more seconds"),
        ({"flow": 3}, TypeError, "flow must be a flow, a graph, a decider or the name of one, got 3"),
        ({"flow": "work"}, ValueError, "is the name of a step, and no run has it; its attempts are the rows of iron"),
        ({"run": "zzzz"}, iron.RunNotFound, "no run begins with 'zzzz'"),
        ({"run": ""}, iron.RunNotFound, "no run begins with ''"),
        ({"run": 3}, iron.RunNotFound, "no run begins with 3"),
    ],
    ids=repr,
)
def test_what_can_not_be_a_filter_is_refused(
    ids: SimpleNamespace, name: str, filters: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        FRAMES[name](**filters)


@ALL
def test_a_flow_that_has_the_name_of_a_step_is_found_by_it(lab: Lab, name: str) -> None:
    space: dict[str, Any] = {"__name__": "__main__", "iron": iron}
    source = "@iron.step\ndef both(n):\n    return n\n@iron.flow(name='both')\ndef flow(n):\n    return both(n)\n"
    run_cell(source, space)
    space["flow"](1)
    assert not FRAMES[name](flow="both").empty
    assert FRAMES[name](flow="nobody").empty


@ALL
def test_another_journal_is_read_by_its_engine(lab: Lab, name: str) -> None:
    other = iron.open(":memory:")
    with other:
        plain(1)
    assert FRAMES[name]().empty
    other = iron.open(":memory:")
    plain(1)
    assert not FRAMES[name]().empty
    assert FRAMES[name](engine=other).empty
    other.close()


def test_a_reader_goes_on_page_by_page(lab: Lab) -> None:
    @flow
    def paged(n: int) -> int:
        return n

    for n in range(5):
        lab.cell()
        paged(n)
    whole, pages, last = iron.runs(), [], None
    while not (page := iron.runs(limit=2, after=last)).empty:
        pages.append(list(page["run_id"]))
        last = page["run_id"].iloc[-1]
    assert [*map(len, pages)] == [2, 2, 1]
    assert [run_id for page in pages for run_id in page] == list(whole["run_id"])
    assert list(iron.runs(after=iron.get_run(whole["run_id"][3]))["run_id"]) == [whole["run_id"][4]]
    events, position = iron.events(), 0
    found: list[int] = []
    while not (page := iron.events(limit=3, after=position)).empty:
        found += list(page["position"])
        position = int(page["position"].iloc[-1])
    assert found == list(events["position"])
    for bad in (-1, "x"):
        with pytest.raises(ValueError, match="after must be an int >= 0"):
            iron.events(after=bad)  # type: ignore[arg-type]
    with pytest.raises(iron.RunNotFound):
        iron.runs(after="zzz")


def test_a_limit_counts_the_runs_that_have_the_status_by_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three newer runs are recorded as running, and their owners are dead; an instance has no owner that could die."""
    monkeypatch.setattr("ironflow_nb.history.frames._PAGE", 1)
    journal, author = SqliteJournal(tmp_path / "journal.db"), Author()
    for run, kind in ((A, "decider"), (B, "flow"), (C, "flow"), (D, "flow")):
        author.start(run, kind=kind)
        journal.append([author.entry(run)], durability=Durability.PROCESS)
    journal.close()
    with iron.open(tmp_path / "journal.db"):
        assert iron.runs(status="running", limit=1)["run_id"].to_list() == [A]
        assert iron.runs(status="running", limit=9)["run_id"].to_list() == [A]
        assert iron.runs(status="interrupted", limit=2)["run_id"].to_list() == [D, C]
        assert len(iron.runs(status=[])) == 0
