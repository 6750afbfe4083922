"""Branches of def flows: functions side by side, recognised again whatever ran first."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, gather, step
from ironflow_nb.errors import AsyncMismatch, ResultTimeout
from ironflow_nb.execution.durable_calls import run_beside
from ironflow_nb.execution.steps.context import SCOPE
from tests.conftest import Lab

LIMIT_S = 20.0
DID: list[str] = []
ORDER: dict[str, str] = {}
"""What is done before the download of that name goes on."""
GATES: dict[str, threading.Event] = {}
DYING: list[Lab] = []


@pytest.fixture(autouse=True)
def fresh_world() -> None:
    DID.clear()
    ORDER.clear()
    GATES.clear()
    DYING.clear()


@step
def download(name: str) -> str:
    end_s = time.monotonic() + LIMIT_S
    while name in ORDER and ORDER[name] not in DID and time.monotonic() < end_s:
        time.sleep(0.005)
    DID.append(f"download {name}")
    return name


@step
def create() -> int:
    DID.append("create")
    return DID.count("create")


@step
def label(ticket: int, name: str) -> str:
    DID.append(f"label {ticket} {name}")
    if DYING and len([what for what in DID if what.startswith("label")]) == 2:
        DYING[0].die_in_flow()
    return f"{ticket} {name}"


def branch(name: str) -> str:
    download(name)
    return label(create(), name)


@flow
def main() -> list[str]:
    return gather(partial(branch, "A"), partial(branch, "B"))


def test_results_come_in_the_order_of_the_branches(lab: Lab) -> None:
    ORDER["A"] = "label 1 B"
    assert main() == ["2 A", "1 B"]
    assert lab.engine.sessions == {}


def test_branches_run_side_by_side(lab: Lab) -> None:
    meeting = threading.Barrier(3, timeout=20)

    def attend(_: int) -> int:
        return meeting.wait() >= 0

    @flow
    def together() -> list[int]:
        return gather(*(partial(attend, n) for n in range(3)))

    assert together() == [True, True, True]


def test_branches_never_swap_what_they_created(lab: Lab) -> None:
    ORDER["A"] = "label 1 B"
    DYING.append(lab)
    with pytest.raises(SystemExit):
        main()
    DYING.clear()
    ORDER.clear()
    ORDER["B"] = "label 2 A"
    tickets = {name: int(ticket) for ticket, name in (what.split()[1:] for what in DID if what.startswith("label"))}
    assert tickets == {"A": 2, "B": 1}
    assert main() == ["2 A", "1 B"]
    assert DID.count("create") == 2
    assert DID.count("label 1 B") == 1


def test_branches_are_recognised_by_what_they_were_given(lab: Lab) -> None:
    @flow
    def many() -> None:
        gather(
            partial(branch, "A"),
            partial(branch, name="A"),
            partial(branch, "A"),
            *[lambda n=n: branch(n) for n in "BC"],
        )

    many()
    assert many.last is not None
    branches = set(many.last.attempts()["branch"])
    assert len(branches) == 5
    assert sorted(name[-2:] for name in branches) == [".0", ".0", ".0", ".0", ".1"]


def test_the_first_failure_is_raised_when_all_have_ended(lab: Lab) -> None:
    def late() -> None:
        time.sleep(0.1)
        download("late")
        raise KeyError("late")

    def early() -> None:
        raise ValueError("early")

    @flow
    def failing() -> None:
        gather(late, early)

    with pytest.raises(ValueError, match="early"):
        failing()
    assert DID == ["download late"]
    assert failing.last is not None
    assert failing.last.events()["type"].tolist()[-1] == "RunFailed"


def test_a_failure_that_the_flow_lived_with_is_not_tried_again(lab: Lab) -> None:
    @step
    def fails() -> None:
        DID.append("fails")
        raise KeyError("fails")

    fate = ["fail", "succeed"]

    class Fate:
        def __ironflow_digest__(self) -> bytes:
            return b"fate"

        def next(self) -> str:
            return fate.pop(0)

    own = Fate()

    @flow
    def lives() -> str:
        try:
            gather(fails, partial(download, "A"))
        except KeyError:
            download("instead")
        if own.next() == "fail":
            raise RuntimeError
        return "lived"

    with pytest.raises(RuntimeError):
        lives()
    lab.cell()
    assert lives() == "lived"
    assert sorted(DID) == ["download A", "download instead", "fails"]


def test_futures_can_be_gathered_too(lab: Lab) -> None:
    @flow
    def mixed() -> list[Any]:
        return gather(download.submit("A"), partial(download, "B"), download.submit("C"))

    assert mixed() == ["A", "B", "C"]


def test_branches_may_have_branches_and_maps_and_children(lab: Lab) -> None:
    @flow
    def child(name: str) -> str:
        return download(name)

    def deep(name: str) -> list[Any]:
        return [*gather(partial(branch, name), partial(child, name)), *download.map([f"{name}1", f"{name}2"])]

    @flow
    def tree() -> list[Any]:
        return gather(partial(deep, "A"), partial(deep, "B"))

    a, b = tree()
    assert a[1:] == ["A", "A1", "A2"]
    assert b[1:] == ["B", "B1", "B2"]
    assert set(iron.runs()["status"]) == {"completed"}
    assert len(iron.runs()) == 3


def test_a_cancelled_run_ends_after_the_bodies_of_its_branches(lab: Lab) -> None:
    gate = threading.Event()

    @step
    def held(name: str) -> str:
        GATES[name].set()
        gate.wait(20)
        return name

    class Named:
        def __ironflow_digest__(self) -> bytes:
            return b"held"

    for name in "AB":
        GATES[name] = threading.Event()

    def two(name: str) -> None:
        step_of[name](name)
        download(name)

    step_of = dict.fromkeys("AB", held)

    @flow
    def slow() -> None:
        gather(partial(two, "A"), partial(two, "B"))

    run = slow.start()
    for name in "AB":
        assert GATES[name].wait(20)
    run.cancel()
    gate.set()
    run.wait()
    assert run.status == "cancelled"
    assert run.events()["type"].tolist()[-1] == "RunCancelled"
    assert run.steps()["status"].tolist() == ["completed", "completed"]
    assert DID == []


def test_without_a_flow_functions_are_called_one_after_the_other() -> None:
    assert gather(partial(branch, "A"), partial(branch, "B")) == ["1 A", "2 B"]
    assert DID[0] == "download A"


def test_inside_a_step_functions_are_called_one_after_the_other(lab: Lab) -> None:
    @step
    def outer() -> list[str]:
        return gather(partial(branch, "A"), partial(branch, "B"))

    @flow
    def holds() -> list[str]:
        return outer()

    assert holds() == ["1 A", "2 B"]
    assert len(iron.steps()) == 1


def test_in_an_async_flow_the_error_names_what_to_use(lab: Lab) -> None:
    @flow
    async def colourful() -> None:
        gather(partial(branch, "A"))

    with pytest.raises(AsyncMismatch, match=r"await iron\.aio\.gather"):
        colourful.start().result()


def test_what_is_no_function_is_refused(lab: Lab) -> None:
    @flow
    def wrong() -> None:
        gather(branch("A"))  # type: ignore[arg-type]

    with pytest.raises(TypeError, match=r"functools\.partial"):
        wrong()


def test_gathering_nothing_is_an_empty_list(lab: Lab) -> None:
    @flow
    def nothing() -> list[int]:
        return gather()

    assert nothing() == []


def test_a_run_waits_for_the_functions_that_a_graph_runs_beside_it(lab: Lab) -> None:
    door = threading.Event()

    @flow
    def main() -> None:
        scope = SCOPE.get()
        assert scope is not None
        run_beside(scope, lambda: DID.append("beside") if door.wait(LIMIT_S) else None, lambda *_: None)

    run = main.start()
    with pytest.raises(ResultTimeout):
        run.result(timeout_s=0.1)
    door.set()
    run.result(timeout_s=LIMIT_S)
    assert DID == ["beside"]
