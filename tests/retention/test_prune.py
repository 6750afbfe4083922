"""What is pruned, what is kept and why; and that what is kept is whole."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.identity import RunId
from ironflow_nb.execution.registry import REGISTRY, make_engine
from ironflow_nb.journal.ports import Durability, QueueItem, RunCommit
from ironflow_nb.testing.clock import SimClock
from tests.retention import flows
from tests.retention.flows import call, everything, files_of, rows

DAY_S = 86_400


@pytest.fixture
def clock() -> SimClock:
    return SimClock()


@pytest.fixture
def engine(tmp_path: Path, clock: SimClock) -> Iterator[iron.Engine]:
    engine = make_engine(tmp_path / "journal.db", durability="process", clock=clock)
    with REGISTRY.replaced(engine):
        yield engine
        engine.close()


@flow
def easy(n: int) -> int:
    return n


@flow
def fails(n: int) -> int:
    raise ValueError(n)


def ran(of: Any, n: int) -> str:
    run = of.start(n)
    run.wait(timeout_s=60)
    return str(run.id)


def test_nothing_is_deleted_unless_it_is_asked_for(engine: iron.Engine) -> None:
    ran(easy, 1)
    before = iron.events()
    found = iron.prune(older_than=0)
    assert found["name"].str.endswith("easy").to_list() == [True]
    assert len(iron.events()) == len(before)


def test_old_runs_go_and_younger_ones_stay(engine: iron.Engine, clock: SimClock) -> None:
    old = ran(easy, 1)
    clock.advance(2 * DAY_S)
    young = ran(easy, 2)
    assert list(iron.prune(older_than="1d", dry_run=False)["run_id"]) == [old]
    assert list(iron.runs()["run_id"]) == [young]
    assert iron.prune(older_than="200000d").empty  # before all time


def test_of_each_flow_the_newest_stay(engine: iron.Engine) -> None:
    easies, failures = [ran(easy, n) for n in range(4)], [ran(fails, n) for n in range(3)]
    iron.prune(keep=2, dry_run=False)
    assert set(iron.runs()["run_id"]) == {*easies[2:], *failures[1:]}


def test_only_runs_of_the_flow_and_of_the_statuses_that_are_named_go(engine: iron.Engine) -> None:
    done, failed = ran(easy, 1), ran(fails, 1)
    assert list(iron.prune(status="failed")["run_id"]) == [failed]
    assert list(iron.prune(easy)["run_id"]) == [done]
    assert list(iron.prune("easy", status=["failed", "cancelled"])["run_id"]) == []


def test_a_run_that_can_be_continued_goes_only_by_name(engine: iron.Engine) -> None:
    @flow
    def stops(n: int) -> None:
        run = iron.get_run(iron.runs()["run_id"][0])
        run.pause()
        easy_step(n)

    @step
    def easy_step(n: int) -> int:
        return n

    paused = ran(stops, 1)
    assert iron.get_run(paused).status == "paused"
    assert iron.prune(older_than=0).empty
    assert list(iron.prune(status="paused", dry_run=False)["run_id"]) == [paused]


def test_a_run_with_work_to_be_done_is_kept(engine: iron.Engine) -> None:
    run_id = RunId(ran(easy, 1))
    item = QueueItem(run_id=run_id, kind="notification", key="run.completed tell", due_at=0, created_at=0)
    engine.access.append([RunCommit(run_id=run_id, events=(), put_work=(item,))], Durability.PROCESS)
    for dry_run in (True, False):
        assert list(iron.prune(older_than=0, dry_run=dry_run)["kept"].str.contains("work of run")) == [True]
    iron.get_run(run_id).delete()  # who names it wants it gone
    assert iron.work().empty


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "all runs would go"),
        ({"keep": 0}, "keep is a whole number from 1"),
        ({"status": "running"}, "what goes on is not deleted"),
        ({"status": "over"}, "status must be one of"),
        ({"older_than": "soon"}, "no duration"),
    ],
)
def test_bad_options_are_refused(engine: iron.Engine, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        iron.prune(**options)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_what_is_kept_reads_as_before(engine: iron.Engine, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    styles = [flows.whole, flows.child, flows.whole_too, flows.child_too]
    for _ in range(8):
        call(chance.choice(styles), chance.randrange(3))
    before, events = everything(), iron.events()
    roots = iron.runs().query("parent_run_id.isna()")["run_id"]
    for run_id in chance.sample(list(roots), 4):
        iron.get_run(run_id).delete()
    after, left = everything(), set(iron.runs()["run_id"])
    assert after == {key: value for key, value in before.items() if key.split()[0] in left}
    now = iron.events().query("type != 'RunDeleted'")
    assert now["position"].to_list() == events[events["run_id"].isin(left)]["position"].to_list()
    for run_id in left:
        iron.get_run(run_id).plan()
    iron.prune(older_than=0, dry_run=False)
    assert not any(rows(tmp_path / "journal.db").values())
    assert files_of(tmp_path / "journal.db") == set()
