"""Timelines: the attempts of a run, its waits, its queues and its children by time."""

from __future__ import annotations

import threading
import time
from typing import Any
from xml.etree import ElementTree as ET

import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.testing.clock import SimClock
from tests.cells import World
from tests.conftest import Lab

LIMIT_S = 30


@pytest.fixture
def clock(lab: Lab) -> SimClock:
    return lab.simulate_time()


def latest(definition: Any) -> iron.Run[Any]:
    assert definition.last is not None
    run: iron.Run[Any] = definition.last
    return run


def table(timeline: pd.DataFrame) -> list[tuple[object, ...]]:
    """Return what each bar is, and its length in seconds."""
    rows = pd.DataFrame(timeline)
    steps = rows["step"].str.rpartition(".")[2]
    return list(zip(steps, rows["attempt"], rows["kind"], rows["status"], rows["duration_s"].round(), strict=True))


def test_a_timeline_has_attempts_waits_and_the_steps_of_children(lab: Lab, clock: SimClock) -> None:
    @step
    def work(seconds: float) -> float:
        clock.advance(seconds)
        return seconds

    @flow
    def child() -> float:
        return work(2.0)

    @flow
    def main() -> float:
        work(3.0)
        iron.sleep(5.0)
        return child()

    main()
    timeline = latest(main).timeline()
    assert table(timeline) == [
        ("work[0]", 1, "step", "completed", 3), ("sleep[0]", 1, "wait", "completed", 5),
        ("child[0]", 1, "child", "completed", 2), ("work[0]", 1, "step", "completed", 2),
    ]  # fmt: skip
    assert timeline["run_id"].nunique() == 2
    assert timeline["is_critical"].tolist() == [True, True, False, True]
    assert timeline.parallelism()["n_running"].tolist() == [1, 0, 1, 0]
    assert timeline.picture is not None
    assert timeline.picture.svg is not None
    drawn = ET.fromstring(timeline.picture.svg)
    titles = [each.text or "" for each in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert sum("attempt 1: " in title for title in titles) == 4
    assert "at work at once: 1 at most" in titles
    assert [line[:14].strip() for line in timeline.picture.text.splitlines()] == [
        "✓ work[0]", "✓ sleep[0]", "✓ child[0]", "✓   work[0]",
    ]  # fmt: skip


def test_a_failed_attempt_and_the_next_one_are_bars_of_their_own(lab: Lab) -> None:
    tries: list[int] = []

    @step(retries=1)
    async def work() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("again")
        return 1

    @flow
    async def main() -> int:
        return await work()

    run = main.start()
    run.wait()
    timeline = run.timeline()
    assert timeline["attempt"].tolist() == [1, 2]
    assert timeline["status"].tolist() == ["failed", "completed"]
    assert timeline["reason"].tolist() == ["new", "retry"]
    assert (timeline["duration_s"] == run.attempts()["duration_s"].round(6)).all()
    assert timeline.picture is not None
    assert len(timeline.picture.text.splitlines()) == 1


def test_an_attempt_whose_process_died_ends_with_the_last_sign_of_it(lab: Lab, clock: SimClock, world: World) -> None:
    world.plan = [clock, lab]

    @step
    def work(seconds: float) -> float:
        world.plan[0].advance(seconds)
        return seconds

    @step
    def long(seconds: float) -> float:
        clock, lab = world.plan
        clock.advance(seconds)
        if world.is_broken:
            lab.engine.flush()
            lab.die_in_flow()
        return seconds

    @flow
    def main() -> float:
        return work(3.0) + long(4.0)

    with pytest.raises(SystemExit):
        main()
    clock.advance(1000)
    world.is_broken = False
    died = latest(main).timeline()
    assert table(died)[-1] == ("long[0]", 1, "step", "interrupted", 0)
    main()
    timeline = latest(main).timeline()
    assert table(timeline) == [
        ("work[0]", 1, "step", "completed", 3), ("long[0]", 1, "step", "interrupted", 0),
        ("long[0]", 2, "step", "completed", 4),
    ]  # fmt: skip
    assert timeline["finished_at"].isna().tolist() == [False, True, False]
    assert timeline.parallelism()["n_running"].tolist() == [1, 0, 1, 0]
    assert timeline.picture is not None
    assert "¦" in timeline.picture.text  # the gap between the two processes takes little room


def test_what_goes_on_lasts_until_now(lab: Lab) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    @step
    def work() -> None:
        has_begun.set()
        may_end.wait(LIMIT_S)

    @flow
    def main() -> None:
        work()

    run = main.start()
    assert has_begun.wait(LIMIT_S)
    lab.engine.flush()
    timeline = run.timeline()
    may_end.set()
    run.result(timeout_s=LIMIT_S)
    assert timeline["status"].tolist() == ["running"]
    assert timeline["finished_at"].isna().all()
    assert timeline.parallelism()["n_running"].tolist() == [1]
    assert run.timeline().parallelism()["n_running"].tolist() == [1, 0]


def test_what_a_fork_took_over_has_no_length_and_is_not_in_its_picture(lab: Lab, clock: SimClock, world: World) -> None:
    world.plan = [clock]

    @step
    def work(seconds: float) -> float:
        world.plan[0].advance(seconds)
        return seconds

    @flow
    def child() -> float:
        return work(2.0)

    @flow
    def main() -> float:
        return child() + work(3.0)

    main()
    fork = latest(main).fork()
    assert fork.result(timeout_s=LIMIT_S) == 5.0
    fork.inject("work", 4.0, reason="wrong")
    timeline = fork.timeline()
    assert set(timeline["kind"]) == {"child", "step"}
    assert timeline["duration_s"].sum() == 0
    assert not timeline["is_critical"].any()
    assert timeline["run_id"].unique().tolist() == [fork.id]
    assert timeline.headline.endswith("results taken over or given")
    assert timeline.picture is not None
    assert timeline.picture.svg is None


def test_a_place_in_a_lane_is_waited_for_in_a_queue(lab: Lab) -> None:
    @step(lane=iron.Lane("only one", limit=1))
    def work(n: int) -> int:
        limit = time.monotonic() + LIMIT_S
        while n == 0 and not (iron.attempts()["status"] == "pending").any():
            assert time.monotonic() < limit
        return n

    @flow
    def main() -> list[int]:
        return list(work.map([0, 1], concurrency=2))

    main()
    timeline = latest(main).timeline()
    queued = timeline[timeline["kind"] == "queue"]
    assert queued["reason"].tolist() == ["lane only one"]
    [step_name] = queued["step"]
    rows = pd.DataFrame(timeline)
    [attempt] = rows[(rows["kind"] == "step") & (rows["step"] == step_name)].to_dict("records")
    assert queued["finished_at"].tolist() == [attempt["started_at"]]
    assert queued["is_critical"].all()
    assert timeline.parallelism()["n_running"].max() == 1


def test_a_run_that_waited_for_its_place_shows_that_first(lab: Lab) -> None:
    may_end = threading.Event()

    @step
    def work(n: int) -> int:
        may_end.wait(LIMIT_S)
        return n

    @flow(lane=iron.Lane("runs", limit=1))
    def main(n: int) -> int:
        return work(n)

    first, second = main.start(1), main.start(2)
    limit = time.monotonic() + LIMIT_S
    while "pending" not in (first.status, second.status):
        assert time.monotonic() < limit
    late = second if second.status == "pending" else first
    lab.engine.flush()
    assert late.timeline()["status"].tolist() == ["pending"]
    may_end.set()
    assert late.result(timeout_s=LIMIT_S) in {1, 2}
    timeline = late.timeline()
    assert timeline["kind"].tolist() == ["queue", "step"]
    assert timeline["step"].tolist()[0] == ""
    assert timeline["reason"].tolist()[0] == "lane runs"


def test_a_run_without_steps_has_an_empty_timeline(lab: Lab) -> None:
    @flow
    def main() -> None:
        pass

    main()
    timeline = latest(main).timeline()
    assert timeline.empty
    assert timeline.parallelism().empty
    assert "no step has begun" in repr(timeline)
    assert timeline._repr_html_() is not None


def test_a_graph_has_a_timeline(lab: Lab) -> None:
    graph = iron.Graph.from_yaml(
        "graph: timed\nnodes:\n  - {id: a, transform: '{{ input.x }}'}\n"
        "  - {id: c, condition: '{{ a == `1` }}', then: [{id: y, log: yes}], else: [{id: n, log: no}]}\n"
    )
    graph(x=1)
    timeline = latest(graph).timeline()
    assert set(timeline["step"]) == {"timed.a[0]", "timed.c[0]", "timed.y[0]", "timed.n[0]"}
    assert not timeline.set_index("step").loc["timed.n[0]", "is_critical"]


def test_the_chart_is_drawn_on_axes_of_matplotlib(lab: Lab, clock: SimClock) -> None:
    figure = pytest.importorskip("matplotlib.figure")

    @step
    def work(seconds: float) -> float:
        clock.advance(seconds)
        return seconds

    @flow
    def main() -> float:
        return work(3.0) + work(1.0)

    main()
    ax = figure.Figure().subplots()
    assert latest(main).timeline().gantt(ax) is ax
    assert len(ax.collections) == 2
    assert [label.get_text() for label in ax.get_yticklabels()] == ["work \N{MULTIPLICATION SIGN}2"]
