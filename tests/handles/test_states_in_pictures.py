"""The nodes of the picture of a run say of their steps what the history says of them."""

from __future__ import annotations

import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import Run
from ironflow_nb.handles.run_progress import rounded_age_s
from ironflow_nb.journal.ports import Select
from tests.cells import run_cell
from tests.conftest import Lab

SVG = "{http://www.w3.org/2000/svg}"
FLOW = """
@iron.step
def gather(n):
    return n

@iron.step
def check(n):
    act(n)
    return n

@iron.step
def publish(n):
    return n

@iron.flow
def main(n):
    found = list(gather.map(range(n)))
    check(len(found))
    return publish(n)
"""


def states(run: Run[Any]) -> dict[str, str]:
    """Return what the picture says of the run and of each of its nodes, by the first word of its title."""
    root = ET.fromstring(run._repr_mimebundle_()["image/svg+xml"])
    assert root.tag == f"{SVG}svg"
    groups = [group for group in root.iter(f"{SVG}g") if group.get("data-status") is not None]
    found = {}
    for group in groups:
        title = (group.findtext(f"{SVG}title") or "").split("\n")[0]
        name = "the run" if group.get("id", "").endswith("-head") else title.replace(":", " ").split()[0]
        assert name not in found
        found[name] = group.attrib["data-status"]
    return found


def recorded(run: Run[Any]) -> dict[str, set[str]]:
    """Return the statuses that the frame has for each name of a step."""
    steps = run.steps()
    names = [name.rpartition(".")[2] for name in steps["name"]]
    return {name: {status for other, status in zip(names, steps["status"], strict=True) if other == name}
            for name in names}  # fmt: skip


def begun(act: Any) -> Any:
    space: dict[str, Any] = {"__name__": "__main__", "iron": iron, "act": act}
    run_cell(FLOW, space)
    return space["main"]


def fail(n: int) -> None:
    raise ValueError(n)


def stop(n: int) -> None:
    raise KeyboardInterrupt


def test_all_nodes_of_a_completed_run_are_completed(lab: Lab) -> None:
    main = begun(lambda n: None)
    main(3)
    run = main.last
    assert recorded(run) == {"gather": {"completed"}, "check": {"completed"}, "publish": {"completed"}}
    shown = states(run)
    assert shown["the run"] == shown["gather"] == shown["check"] == shown["publish"] == "completed"


@pytest.mark.parametrize(
    ("act", "error", "of_run", "of_step"),
    [(fail, ValueError, "failed", "failed"), (stop, KeyboardInterrupt, "interrupted", "interrupted")],
    ids=["failed", "interrupted"],
)
def test_the_node_where_a_run_stopped_says_so_and_those_never_reached_say_nothing(
    lab: Lab, act: Any, error: type[BaseException], of_run: str, of_step: str
) -> None:
    main = begun(act)
    with pytest.raises(error):
        main(3)
    run = main.last
    assert run.status == of_run
    assert recorded(run) == {"gather": {"completed"}, "check": {of_step}}
    shown = states(run)
    assert (shown["the run"], shown["gather"], shown["check"]) == (of_run, "completed", of_step)
    assert shown["publish"] == "none"
    # Another process, which knows nothing of the flow, shows the same.
    lab.die()
    assert states(iron.get_run(run.id)) == shown


def test_a_failure_that_an_edit_left_behind_does_not_colour_the_completed_run(lab: Lab) -> None:
    space: dict[str, Any] = {"__name__": "__main__", "iron": iron, "act": fail}
    run_cell(FLOW, space)
    with pytest.raises(ValueError, match="3"):
        space["main"](3)
    run_cell(FLOW.replace("check(len(found))", "check(0)") + "act = print", space)
    run = space["main"].resume()
    run.result()
    assert recorded(run)["check"] == {"failed", "completed"}
    shown = states(run)
    assert (shown["the run"], shown["gather"], shown["check"]) == ("completed", "completed", "completed")


def test_the_node_of_a_step_that_goes_on_is_running_and_interrupted_once_its_process_is_dead(lab: Lab) -> None:
    inside, gate = threading.Event(), threading.Event()

    def wait(n: int) -> None:
        inside.set()
        gate.wait(20)

    run = begun(wait).start(2)
    try:
        assert inside.wait(20)
        assert recorded(run) == {"gather": {"completed"}, "check": {"running"}}
        shown = states(run)
        assert (shown["the run"], shown["check"], shown["publish"]) == ("running", "running", "none")
        lab.die()
        found = iron.get_run(run.id)
        assert recorded(found)["check"] == {"interrupted"}
        shown = states(found)
        assert (shown["the run"], shown["gather"], shown["check"]) == ("interrupted", "completed", "interrupted")
    finally:
        gate.set()


def until(holds: Callable[[], bool]) -> None:
    """Wait for what the next flush writes."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def drawn_from_source(run: Run[Any]) -> bool:
    with iron.engine().reading() as reader:
        return reader.definition(reader.runs(Select(run_ids=[run.id]))[0].definition_id) is not None


AGAIN = """
@iron.step
def first(n):
    wait()
    return n

@iron.step
def each(n):
    act(n)
    return n

@iron.step
def odd():
    raise OSError

@iron.flow
def main():
    try:
        odd()
    except OSError:
        pass
    first(1)
    return list(each.map(range(3)))
"""
AGAIN_ASYNC = (
    AGAIN.replace("def first", "async def first")
    .replace("    wait()", "    import asyncio\n    await asyncio.to_thread(wait)")
    .replace("def each", "async def each")
    .replace("    act(n)", "    import asyncio\n    await asyncio.to_thread(act, n)")
    .replace("def main", "async def main")
    .replace("    first(1)", "    await first(1)")
    .replace("list(each.map(range(3)))", "await each.map(range(3))")
)


@pytest.mark.parametrize("source", [AGAIN, AGAIN_ASYNC], ids=["def", "async def"])
@pytest.mark.parametrize("has_died", [False, True], ids=["failed", "killed"])
def test_what_an_earlier_stretch_left_undone_is_pending_until_the_run_gets_there(
    lab: Lab, source: str, *, has_died: bool
) -> None:
    inside, gate, there = threading.Event(), threading.Event(), threading.Event()

    def break_or_die(n: int) -> None:
        if n == 2 and has_died:
            there.set()
            gate.wait(60)
        elif n == 2:
            raise ValueError(n)

    space: dict[str, Any] = {"__name__": "__main__", "iron": iron, "act": break_or_die, "wait": lambda: None}
    run_cell(source, space)
    run = space["main"].start()
    if has_died:
        assert there.wait(60)
        until(lambda: recorded(run).get("each") == {"completed", "running"} and drawn_from_source(run))
        lab.die()
    else:
        with pytest.raises(ValueError, match="2"):
            run.result(timeout_s=60)
    assert states(iron.get_run(run.id))["each"] == ("interrupted" if has_died else "failed")

    def stand() -> None:
        inside.set()
        gate.wait(60)

    space |= {"act": lambda n: None, "wait": stand}
    run_cell(source.replace("    return n\n", "    return n + 0\n", 1), space)  # `first` runs again
    again = space["main"].resume()
    try:
        assert inside.wait(60)
        until(lambda: states(run)["first"] == "running")
        shown = states(run)
        assert (shown["each"], shown["odd"]) == ("pending", "handled")
    finally:
        gate.set()
    again.result(timeout_s=60)
    assert states(again)["each"] == "completed"


def test_one_failed_item_of_many_colours_its_node(lab: Lab) -> None:
    space: dict[str, Any] = {"__name__": "__main__", "iron": iron}
    run_cell(
        """
@iron.step
def check(n):
    if n == 2:
        raise ValueError(n)
    return n

@iron.flow
def main():
    return len(check.map(range(4), on_error="collect").errors)
""",
        space,
    )
    assert space["main"]() == 1
    run = space["main"].last
    assert recorded(run) == {"check": {"completed", "failed"}}
    assert states(run)["check"] == "handled"
    assert states(run)["the run"] == "completed"
    assert "3 of 4, 1 failed" in run._repr_mimebundle_()["text/plain"]


def head(run: Run[Any]) -> list[str]:
    """Return the lines below the chip of the picture."""
    root = ET.fromstring(run._repr_mimebundle_()["image/svg+xml"])
    group = next(group for group in root.iter(f"{SVG}g") if group.get("id", "").endswith("-head"))
    return [each.text or "" for each in group.iter(f"{SVG}text")][-2:]


def test_the_head_tells_the_time_by_the_clock_and_what_was_not_done_anew(lab: Lab) -> None:
    clock = lab.simulate_time()
    space: dict[str, Any] = {"__name__": "__main__", "iron": iron, "clock": clock, "broken": [True]}
    run_cell(
        """
@iron.step
def fetch(n):
    return n

@iron.step
def check(n):
    clock.advance(7)
    if broken:
        raise OSError("off")
    return n

@iron.step
def odd():
    raise ValueError("odd")

@iron.flow
def main():
    for n in range(4):
        fetch(n)
    try:
        odd()
    except ValueError:
        pass
    return check(1)
""",
        space,
    )
    with pytest.raises(OSError, match="off"):
        space["main"]()
    run = space["main"].last
    assert head(run) == ["4 steps done, 1 failed, 1 failed and handled", "7.0 s"]
    assert states(run)["odd"] == "handled"
    assert states(run)["check"] == "failed"
    clock.advance(86_400)
    space["broken"].clear()
    lab.cell()
    space["main"]()
    assert head(run) == [
        "5 steps done, 1 failed and handled", "7.0 s since continued · 5 reused · 1 tried again",
    ]  # fmt: skip


CONTINUED = """
@iron.step
def fetch(n):
    return n

@iron.step
def check():
    if broken:
        raise OSError("off")

@iron.flow
def main():
    for n in range(2):
        fetch(n)
    clock.advance(65)
    look()
    check()
    fetch(2)
"""


def node_titles(run: Run[Any]) -> list[str]:
    root = ET.fromstring(run._repr_mimebundle_()["image/svg+xml"])
    nodes = [group for group in root.iter(f"{SVG}g") if group.get("data-kind") == "step"]
    return [(group.findtext(f"{SVG}title") or "").split("\n")[0] for group in nodes]


def test_the_head_of_a_run_that_goes_on_tells_how_long_it_has_and_nodes_what_was_done_earlier(lab: Lab) -> None:
    clock, heads, titles = lab.simulate_time(), [], []

    def look() -> None:
        run = iron.get_run(iron.runs()["run_id"].iloc[0])
        heads.append(head(run)[-1])
        titles.append(node_titles(run)[0].partition(" · ")[0])

    space: dict[str, Any] = {"__name__": "__main__", "iron": iron, "clock": clock, "broken": [True], "look": look}
    run_cell(CONTINUED, space)
    with pytest.raises(OSError, match="off"):
        space["main"]()
    clock.advance(86_400)
    space["broken"].clear()
    lab.cell()
    space["main"]()
    # Rounded, so that a picture which follows the run for hours is not drawn anew each second.
    assert heads == ["1 min 3 s", "1 min 3 s since continued · 2 reused"]
    assert titles == ["fetch: 2 of 2", "fetch: 2 of 2, 2 earlier"]
    found = node_titles(space["main"].last)
    assert [title.partition(" · ")[0] for title in found[:2]] == ["fetch: 2 of 2, 2 reused", "check: 0 ms"]


def test_an_age_is_told_less_precisely_the_older_it_is() -> None:
    assert [rounded_age_s(age_s) for age_s in (0, 7, 59, 65, 600, 90_000)] == [0, 7, 59, 63, 600, 88_452]
    for older in (10, 100, 10_000, 1_000_000):
        assert 0.9 * older <= rounded_age_s(older) <= older


def test_the_time_of_many_steps_is_called_work(lab: Lab) -> None:
    space: dict[str, Any] = {"__name__": "__main__", "iron": iron}
    run_cell(FLOW.replace("    act(n)\n", ""), space)
    space["main"](4)
    root = ET.fromstring(space["main"].last._repr_mimebundle_()["image/svg+xml"])
    (title,) = [found for each in root.iter(f"{SVG}title") if (found := each.text or "").startswith("gather")]
    assert title.split("\n")[0].startswith("gather: 4 of 4 · ")
    assert title.split("\n")[0].endswith(" of work")
