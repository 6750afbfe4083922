"""Schedules: each instant that the rule names is one run; what passed while no process was there is caught up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.execution import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.testing.clock import SimClock
from ironflow_nb.testing.simulated_time import pass_time
from tests.triggers.conftest import engine_on, instants, keys

DAY_S = 86400.0


@step
def read(source: str) -> str:
    return source.upper()


def test_a_month_of_a_daily_schedule_is_a_run_a_day(engine: Engine) -> None:
    @flow
    def report(source: str) -> str:
        return read(source)

    report.schedule("0 6 * * *", args=("web",))
    pass_time(engine, "31d")
    assert instants(report) == [f"2030-01-{day:02}T06:00:00" for day in range(1, 32)]
    assert set(report.runs()["status"]) == {"completed"}
    assert report.last is not None
    assert report.last.result() == "WEB"


def test_an_async_flow_and_a_graph_are_scheduled_alike(engine: Engine) -> None:
    @flow
    async def gathered(source: str) -> str:
        return read(source)

    graph = iron.Graph.from_yaml("graph: noted\nnodes:\n  - id: a\n    log: '{{ input.text }}'\n")
    gathered.schedule(every_s=3600, inputs={"source": "a"})
    graph.schedule(every_s=3600, inputs={"text": "hello"})
    pass_time(engine, 3 * 3600)
    assert [len(each.runs()) for each in (gathered, graph)] == [3, 3]
    assert graph.last is not None
    assert graph.last.result() == "hello"


def test_one_instant_fires_once_and_is_not_past_when_its_cell_is_run_again(engine: Engine) -> None:
    @flow
    def once() -> None:
        pass

    at = datetime(2030, 1, 2, 3, tzinfo=UTC)
    schedule = once.schedule(at=at)
    pass_time(engine, "2d")
    assert once.schedule(at=at).n_fired == 1 == len(once.runs())
    assert (schedule.next_at, schedule.last_at) == (None, at)
    pass_time(engine, "30d")
    assert len(once.runs()) == 1


def test_the_same_schedule_is_the_one_that_is_there(engine: Engine) -> None:
    @flow
    def report(n: int = 1) -> None:
        pass

    first = report.schedule(every_s=60, name="often")
    pass_time(engine, 90)
    again = report.schedule(every_s="1min", name="often")
    assert again.n_fired == first.n_fired == 1
    assert report.schedule(name="often").next_at == first.next_at
    assert len(iron.schedules()) == 1


def test_two_schedules_of_one_name_with_other_rules_or_arguments_are_refused(engine: Engine) -> None:
    @flow
    def report(n: int = 1) -> None:
        pass

    report.schedule(every_s=60)
    with pytest.raises(iron.errors.DuplicateName, match=r'another rule: "every 1 min".* "every 30.0 s"'):
        report.schedule(every_s=30)
    with pytest.raises(iron.errors.DuplicateName, match="other arguments"):
        report.schedule(every_s=60, args=(2,))
    report.schedule(every_s=30, replace=True)
    report.schedule(every_s=20, name="other")
    assert iron.schedules()["when"].tolist() == ["every 20.0 s", "every 30.0 s"]
    pass_time(engine, 60)
    assert len(report.runs()) == 2 + 3


def test_a_paused_schedule_catches_nothing_up_and_a_removed_one_is_gone(engine: Engine) -> None:
    @flow
    def report() -> None:
        pass

    schedule = report.schedule(every_s=3600, catch_up="all")
    pass_time(engine, 3600)
    schedule.pause()
    pass_time(engine, 10 * 3600)
    assert (schedule.is_paused, schedule.next_at, len(report.runs())) == (True, None, 1)
    schedule.resume()
    pass_time(engine, 2 * 3600)
    assert instants(report) == [f"2030-01-01T{hour:02}:00:00" for hour in (1, 12, 13)]
    schedule.remove()
    pass_time(engine, 10 * 3600)
    assert len(report.runs()) == 3
    assert iron.schedules().empty
    assert iron.work().empty
    assert "removed" in repr(schedule)
    with pytest.raises(LookupError, match="was removed"):
        schedule.pause()


@pytest.mark.parametrize(
    ("options", "fired", "n_missed"),
    [
        ({"catch_up": "latest"}, [1, 26, 27], 24),
        ({"catch_up": "all"}, list(range(1, 28)), 0),
        ({"catch_up": "none"}, [1, 27], 25),
        ({"catch_up": "latest", "grace_s": 60}, [1, 27], 25),
        ({"catch_up": "all", "grace_s": "3h"}, [1, 24, 25, 26, 27], 22),
        ({"catch_up": "none", "grace_s": "1h"}, [1, 26, 27], 24),
    ],
)
def test_what_passed_while_no_process_was_there_is_caught_up_as_it_was_said(
    tmp_path: Path,
    clock: SimClock,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    fired: list[int],
    n_missed: int,
) -> None:
    @flow
    def report() -> None:
        pass

    engine = engine_on(tmp_path, clock=clock)
    with REGISTRY.replaced(engine):
        report.schedule(every_s=3600, **options)
        pass_time(engine, 3600)
    engine.close()
    clock.advance(25.5 * 3600)
    with REGISTRY.replaced(engine_on(tmp_path, clock=clock)):
        engine = REGISTRY.engine()
        pass_time(engine, 3600)
        began_at = datetime(2030, 1, 1, tzinfo=UTC)
        hours = [(datetime.fromisoformat(f"{at}+00:00") - began_at) / timedelta(hours=1) for at in instants(report)]
        assert hours == fired
        assert report.schedule().n_missed == n_missed
        assert (f"{n_missed} instants passed while no process was there" in caplog.text) is (n_missed > 0)
        engine.close()


def test_a_firing_is_a_run_with_the_schedule_and_the_instant_as_its_key(engine: Engine) -> None:
    @flow
    def report() -> None:
        pass

    report.schedule("*/30 * * * *", name="half-hourly")
    pass_time(engine, 1800)
    assert keys(report) == ["schedule half-hourly 2030-01-01T00:30:00+00:00"]


def test_the_frame_of_schedules_tells_what_fires_when(engine: Engine) -> None:
    @flow
    def report() -> None:
        pass

    schedule = report.schedule("0 6 * * MON", tz="Europe/Berlin", name="weekly")
    pass_time(engine, "7d")
    (row,) = iron.schedules().to_dict("records")
    assert (row["schedule"], row["flow"], row["when"], row["tz"]) == (
        "weekly",
        report.name,
        "0 6 * * MON",
        "Europe/Berlin",
    )
    assert (row["n_fired"], row["n_missed"], row["is_paused"], row["state"]) == (1, 0, False, "scheduled")
    assert row["last_at"] == datetime(2030, 1, 7, 5, tzinfo=UTC)
    assert row["next_at"] == schedule.next_at == datetime(2030, 1, 14, 5, tzinfo=UTC)
    (queued,) = iron.work().to_dict("records")
    assert (queued["kind"], queued["run_name"], queued["state"]) == ("schedule", report.name, "waiting")
    REGISTRY.forget("flow", report.name)
    assert iron.schedules()["state"].tolist() == ["waits for its notebook"]


def test_arguments_that_do_not_fit_any_more_are_told_and_the_schedule_goes_on(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    def define(is_right: bool) -> Any:
        if is_right:
            return flow(lambda n: n, name="report")
        return flow(lambda other: other, name="report")

    schedule = define(True).schedule(every_s=3600, inputs={"n": 1})
    define(False)
    pass_time(engine, 3600 + 60)
    assert "starts no run of report" in caplog.text
    (dead,) = [row for row in iron.work().to_dict("records") if row["state"] == "dead"]
    assert (dead["kind"], dead["run_name"], dead["attempts"]) == ("schedule", "report", 5)
    assert dead["error"].startswith("TypeError: ")
    assert "'other'" in dead["error"]
    right = define(True)
    pass_time(engine, 3600)
    assert instants(right) == ["2030-01-01T02:00:00"]
    assert (schedule.n_fired, schedule.n_missed) == (1, 1)
    assert right.requeue(key="another") == 0
    assert right.requeue(key=dead["key"]) == 1
    pass_time(engine, 1)
    assert sorted(instants(right)) == ["2030-01-01T01:00:00", "2030-01-01T02:00:00"]
    assert iron.work()["state"].tolist() == ["waiting"]
    assert right.requeue() == 0


def test_a_dead_letter_that_is_requeued_and_fails_again_is_one_again_and_its_schedule_goes_on(engine: Engine) -> None:
    wrong = flow(lambda n: n, name="report")
    wrong.schedule(every_s=3600, inputs={"n": 1})
    wrong = flow(lambda other: other, name="report")
    pass_time(engine, 3600 + 60)
    for _ in range(2):
        assert wrong.requeue() == 1
        pass_time(engine, 60)
        assert sorted(iron.work()["state"]) == ["dead", "waiting"]


@pytest.mark.parametrize(
    ("cron", "options", "error", "words"),
    [
        ("61 * * * *", {}, ValueError, "its minute is '61', which takes 0 to 59"),
        ("0 0 * * FUNDAY", {}, ValueError, "its day-of-week is 'FUNDAY'"),
        ("0 0 *", {}, ValueError, "it has 3 fields"),
        ("0 0 30 2 *", {}, ValueError, "day-of-month is '30'"),
        (5, {}, TypeError, "a cron expression is a text"),
        ("0 0 * * *", {"tz": "Europe/Atlantis"}, ValueError, "no time zone 'Europe/Atlantis'"),
        ("0 0 * * *", {"tz": 3}, TypeError, "name of a zone"),
        ("0 0 * * *", {"every_s": 3}, ValueError, "cron and every_s are given"),
        (None, {"every_s": 0}, ValueError, "every_s is how many seconds"),
        (None, {"every_s": -3}, ValueError, "not -3"),
        (None, {"every_s": float("nan")}, ValueError, "not nan"),
        (None, {"every_s": 3, "tz": "UTC"}, ValueError, "leave out tz='UTC'"),
        (None, {"every_s": 3, "catch_up": "some"}, ValueError, '"latest" or "all" or "none", not'),
        (None, {"every_s": 3, "grace_s": -1}, ValueError, "not -1"),
        (None, {"at": datetime(2029, 1, 1, tzinfo=UTC)}, ValueError, "which is past"),
        (None, {"at": datetime(2031, 1, 1)}, ValueError, "has no time zone"),
        (None, {"at": datetime.max.replace(tzinfo=timezone(-timedelta(hours=1)))}, ValueError, "outside of the years"),
        (None, {"at": "tomorrow"}, TypeError, "takes a datetime"),
        (None, {"every_s": 3, "args": (1, 2)}, TypeError, "report.*too many positional arguments"),
        (None, {"every_s": 3, "inputs": {"m": 1}}, TypeError, "unexpected keyword argument 'm'"),
        (None, {"every_s": 3, "name": ""}, ValueError, "name is a text"),
        (None, {"every_s": 3, "name": "a\nb"}, ValueError, "control character"),
        (None, {"name": "none such"}, LookupError, "has no schedule 'none such'"),
        (None, {"args": (1,)}, ValueError, "none is given"),
    ],
)
def test_what_makes_no_schedule_is_refused_and_nothing_is_recorded(
    engine: Engine, cron: Any, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    @flow
    def report(n: int = 1) -> None:
        pass

    with pytest.raises(error, match=words):
        report.schedule(cron, **options)
    assert iron.schedules().empty
    assert iron.work().empty


def test_a_graph_takes_the_input_of_a_schedule_by_name(engine: Engine) -> None:
    graph = iron.Graph.from_yaml("graph: noted\nnodes:\n  - id: a\n    log: '{{ input.text }}'\n")
    with pytest.raises(TypeError, match="takes one input"):
        graph.schedule(every_s=3, args=({"text": "a"},))
