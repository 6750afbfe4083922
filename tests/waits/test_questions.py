"""Questions to people: the first answer that fits is taken, from any process, and a replay finds it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.handles.run_picture import picture_of
from ironflow_nb.journal.ports import QueueSelect
from tests.cells import World
from tests.conftest import Lab
from tests.waits.conftest import LIMIT_S, until


def is_asking(run: Any, n: int = 1) -> bool:
    return list(run.steps()["status"]).count(StepStatus.WAITING) == n


@flow
def publish(notes: list[str]) -> Any:
    return iron.approve("Publish?", notes), iron.ask("Who?", choices=["ann", "bob"])


@flow
async def publish_async(notes: list[str]) -> Any:
    return await iron.aio.approve("Publish?", notes), await iron.aio.ask("Who?", choices=["ann", "bob"])


BOTH = pytest.mark.parametrize("asking", [publish, publish_async], ids=["def", "async"])


@BOTH
def test_a_run_waits_for_answers_and_goes_on_with_them(lab: Lab, asking: Any) -> None:
    run = asking.start(["a", "b"])
    until(lambda: is_asking(run))
    assert run.answer(False) is run
    until(lambda: is_asking(run) and len(run.steps()) == 2)
    run.answer("bob")
    assert run.result(LIMIT_S) == (False, "bob")
    assert run.value("iron.approve") is False
    with lab.engine.reading() as reader:
        assert reader.work(QueueSelect()) == []


def test_the_open_questions_are_a_frame_that_says_how_to_answer(lab: Lab) -> None:
    run = publish.start(["a", "b"])
    until(lambda: run.status is RunStatus.WAITING)
    [row] = iron.waiting().to_dict("records")
    assert row["run_id"] == run.id
    assert row["question"] == "Publish?"
    assert row["payload"] == "['a', 'b']"
    assert (row["step"], row["fits"], row["choices"], row["status"]) == (
        "iron.approve[0]", "True or False", None, "waiting",
    )  # fmt: skip
    assert pd.isna(row["expires_at"])
    eval(row["expression"], {"iron": iron})
    until(lambda: list(iron.waiting()["step"]) == ["iron.ask[0]"])
    [row] = iron.waiting().to_dict("records")
    assert row["choices"] == ["ann", "bob"]
    eval(row["expression"], {"iron": iron})
    assert run.result(LIMIT_S) == (True, "ann")
    assert iron.waiting().empty


@dataclass
class Point:
    x: int
    on: date


KINDS: list[Any] = [
    (str, "because", 3),
    (int, 5, "5"),
    (float, 2.5, "much"),
    (date, date(2026, 1, 31), "31 January"),
    (bool, True, 1),
    (Literal["a", "b"], "b", "c"),
    (Point, Point(1, date(2026, 1, 1)), Point("one", 2)),  # type: ignore[arg-type]
    (list[int], [1, 2], [1, "2"]),
    (int | None, None, "none"),
]


@pytest.mark.parametrize(("kind", "good", "bad"), KINDS)
def test_an_answer_that_does_not_fit_the_type_is_refused_and_the_wait_goes_on(
    lab: Lab, kind: Any, good: object, bad: object
) -> None:
    @flow(name="typed")
    def typed() -> Any:
        return iron.ask("Which?", type=kind)

    run = typed.start()
    until(lambda: is_asking(run))
    with pytest.raises(iron.errors.InputInvalid, match=r'iron.ask\[0\] "Which\?" of run .* takes .*, not .*; it waits'):
        run.answer(bad)
    assert is_asking(run)
    run.answer(good)
    got = run.result(LIMIT_S)
    assert (got, type(got)) == (good, type(good))


def test_scalars_of_numpy_are_numbers(lab: Lab) -> None:
    @flow
    def numeric() -> Any:
        return iron.ask("How many?", type=int), iron.ask("How much?", type=float)

    run = numeric.start()
    until(lambda: is_asking(run))
    run.answer(np.int64(3))
    until(lambda: len(run.steps()) == 2)
    run.answer(np.float64(0.5))
    assert run.result(LIMIT_S) == (3, 0.5)


def test_a_frame_is_edited_and_keeps_its_columns(lab: Lab) -> None:
    @flow
    def edited(frame: pd.DataFrame) -> Any:
        return iron.ask("Which rows?", frame, type=pd.DataFrame)

    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    run = edited.start(frame)
    until(lambda: is_asking(run))
    for bad, why in ((frame[["a"]], "misses the columns b"), (frame.assign(c=1), "more columns: c"), ([1], "no Data")):
        with pytest.raises(iron.errors.InputInvalid, match=why):
            run.answer(bad)
    run.answer(frame[:1])
    pd.testing.assert_frame_equal(run.result(LIMIT_S), frame[:1])


def test_of_several_open_questions_the_answer_names_one(lab: Lab) -> None:
    @flow
    def several() -> Any:
        return iron.gather(*(partial(iron.ask, f"Number {n}?", type=int) for n in range(3)))

    run = several.start()
    until(lambda: is_asking(run, 3))
    with pytest.raises(iron.errors.AmbiguousStep, match=r'iron.ask\[0\] "Number .\?".*; name one: .answer\(..., step='):
        run.answer(1)
    with pytest.raises(iron.errors.StepNotFound):
        run.answer(1, step="iron.ask[7]")
    asked = iron.waiting().set_index("step")["question"].to_dict()
    for ref, question in asked.items():
        run.answer(int(question[-2]), step=ref)
    assert run.result(LIMIT_S) == [0, 1, 2]


def test_a_question_of_a_child_is_answered_by_the_handle_of_its_parent(lab: Lab) -> None:
    @flow
    def parent() -> Any:
        return publish(["a"])

    run = parent.start()
    until(lambda: len(iron.waiting()) == 1)
    run.answer(True)
    until(lambda: list(iron.waiting()["step"]) == ["iron.ask[0]"])
    run.answer("ann")
    assert run.result(LIMIT_S) == (True, "ann")


@BOTH
def test_an_answer_that_is_given_twice_does_not_answer_the_child_that_asks_next(lab: Lab, asking: Any) -> None:
    @flow
    def parent() -> Any:
        return iron.approve("First?"), publish(["a"])

    @flow
    async def parent_async() -> Any:
        return await iron.aio.approve("First?"), await publish_async(["a"])

    run = (parent if asking is publish else parent_async).start()
    until(lambda: is_asking(run))
    run.answer(True, step="iron.approve[0]")
    until(lambda: len(asked := iron.waiting()) == 1 and asked["run_id"][0] != run.id)
    with pytest.raises(iron.errors.NothingToDo, match=rf"iron.approve\[0\] of run {run.id} was answered"):
        run.answer(False, step="iron.approve[0]")
    run.answer(True)
    until(lambda: list(iron.waiting()["step"]) == ["iron.ask[0]"])
    with pytest.raises(iron.errors.StepNotFound, match=f"run {run.id} has no step"):
        run.answer(False, step="iron.approve[7]")
    run.answer("ann", step="iron.ask[0]")  # no step of the run itself
    assert run.result(LIMIT_S) == (True, (True, "ann"))


def test_a_question_that_nobody_answers_times_out_and_a_later_answer_is_refused(lab: Lab) -> None:
    lab.simulate_time()

    @flow
    def timing() -> Any:
        try:
            return iron.approve("Still?", timeout_s="1d")
        except iron.WaitTimeout as error:
            return str(error)

    run = timing.start()
    assert 'waited for an answer to "Still?" until 2030-' in run.result()
    with pytest.raises(iron.errors.RunFinished, match="completed, so it waits for no answer any more"):
        run.answer(True)


def test_silence_is_no_approval_and_the_run_that_fails_by_it_asks_again(lab: Lab) -> None:
    lab.simulate_time()

    @flow
    def timing() -> Any:
        return iron.approve("Still?", timeout_s="1d")

    run = timing.start()
    with pytest.raises(iron.WaitTimeout):
        run.result()
    with pytest.raises(iron.errors.NothingToDo, match="asks nothing now"):
        run.answer(True)
    with pytest.raises(iron.WaitTimeout):
        run.resume().result()
    assert list(run.attempts()["status"]) == [StepStatus.TIMED_OUT] * 2


def test_an_answer_survives_the_death_of_the_process_that_asked(lab: Lab) -> None:
    run = publish.start(["a"])
    until(lambda: is_asking(run))
    lab.die()
    again = iron.get_run(run.id)
    again.answer(True)
    until(lambda: again.status in {RunStatus.INTERRUPTED, RunStatus.WAITING, RunStatus.RUNNING})
    again.resume()
    until(lambda: list(iron.waiting()["step"]) == ["iron.ask[0]"])
    again.answer("bob")
    assert again.result(LIMIT_S) == (True, "bob")


def test_the_question_and_its_payload_identify_it_and_its_time_does_not(lab: Lab, world: World) -> None:
    @step
    def trip() -> None:
        if world.is_broken:
            raise ConnectionError

    def make(question: str, payload: object, **options: Any) -> Any:
        @flow(name="edited")
        def edited() -> Any:
            got = iron.approve(question, payload, **options)
            trip()
            return got

        return edited

    run = make("Publish?", [1]).start()
    until(lambda: is_asking(run))
    run.answer(False)
    with pytest.raises(ConnectionError):
        run.result(LIMIT_S)
    make("Publish?", [1], timeout_s=60)
    with pytest.raises(ConnectionError):
        run.resume().result(LIMIT_S)
    make("Publish?", [1, 2])
    again = run.resume()
    until(lambda: is_asking(again))
    world.is_broken = False
    again.answer(True)
    assert again.result(LIMIT_S) is True


def test_an_answer_that_the_type_itself_refuses_is_taken_back_and_the_run_waits_on(lab: Lab) -> None:
    @dataclass
    class Even:
        n: int

        def __post_init__(self) -> None:
            if self.n % 2:
                raise ValueError("it is odd")

    @flow
    def even() -> Any:
        return iron.ask("Which?", type=Even)

    run = even.start()
    until(lambda: is_asking(run))
    with pytest.raises(iron.errors.InputInvalid, match="odd"):
        run.answer({"n": 3})
    with lab.engine.reading() as reader:
        [row] = reader.steps(iron_select(run.id))
    from ironflow_nb.execution.session.answers import send_answer

    send_answer(
        lab.engine.access, lab.engine.codecs, row, {"n": 5}
    )  # as another process sends it, which does not know the class
    run.signal("look")
    until(lambda: list(run.events()["type"]).count("SignalReceived") == 1)
    assert is_asking(run)
    assert run.events().query("type == 'SignalReceived'")["data"].iloc[0]["is_refused"]
    run.answer({"n": 4})
    assert run.result(LIMIT_S) == Even(4)


def iron_select(run_id: str) -> Any:
    from ironflow_nb.journal.ports import Select

    return Select(run_ids=[run_id])


def test_what_is_asked_is_checked_before_anything_is_recorded(lab: Lab) -> None:
    calls: list[Any] = [
        partial(iron.ask, ""), partial(iron.ask, 5), partial(iron.ask, "a?", choices=[]),
        partial(iron.ask, "a?", choices="abc"), partial(iron.ask, "a?", choices=[1], type=int),
        partial(iron.ask, "a?", type=lambda: 1), partial(iron.ask, "a?", type=object),
        partial(iron.approve, "a?", timeout_s=-1), partial(iron.approve, "a?", timeout_s=float("nan")),
    ]  # fmt: skip

    @flow
    def wrong(n: int) -> Any:
        with pytest.raises((TypeError, ValueError)):
            calls[n]()
        return n

    for n in range(len(calls)):
        run = wrong.start(n)
        assert run.result(LIMIT_S) == n
        assert run.steps().empty


def test_where_nobody_could_be_asked_says_so(lab: Lab) -> None:
    @step
    def inside() -> Any:
        return iron.approve("Publish?")

    @flow
    def steps() -> Any:
        return inside()

    @flow
    async def wrong_colour() -> Any:
        return iron.approve("Publish?")

    with pytest.raises(iron.errors.NotInRun, match="a run that waits for an answer"):
        iron.approve("Publish?")
    with pytest.raises(iron.errors.NotAllowedInStep):
        steps()
    with pytest.raises(iron.errors.AsyncMismatch, match=r"iron\.aio\.approve"):
        asyncio.run(_awaited(wrong_colour))


async def _awaited(flow: Any) -> Any:
    return await flow()


def test_an_answer_without_a_question_says_so(lab: Lab) -> None:
    @flow
    def waits() -> Any:
        return iron.wait_for("go")

    run = waits.start()
    until(lambda: is_asking(run))
    with pytest.raises(iron.errors.NothingToDo, match=r"asks nothing now; iron.waiting\(\) lists"):
        run.answer(True)
    run.cancel()


PROGRAM = """
import sys
import ironflow_nb as iron
iron.use(sys.argv[1])
sys.stdin.readline()
try:
    iron.get_run(sys.argv[2]).answer(sys.argv[3] == "True", "iron.approve")
    print("taken", flush=True)
except iron.errors.NothingToDo as error:
    print(error, flush=True)
"""


@pytest.mark.crash
@BOTH
def test_of_two_processes_that_answer_at_once_one_wins_and_the_other_is_told_by_whom(
    tmp_path: Path, asking: Any
) -> None:
    with iron.open(tmp_path / "journal.db"):
        run = asking.start(["a"])
        until(lambda: len(iron.waiting()) == 1)
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "journal.db"), run.id]
        both = [
            subprocess.Popen([*command, word], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for word in ("True", "False")
        ]
        for each in both:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        said = [each.communicate(timeout=LIMIT_S)[0].strip() for each in both]
        assert said.count("taken") == 1
        [other] = [text for text in said if text != "taken"]
        assert "iron.approve[0] of run" in other
        assert "was answered by " in other
        until(lambda: list(iron.waiting()["step"]) == ["iron.ask[0]"])
        run.answer("ann")
        assert run.result(LIMIT_S) == (said[0] == "taken", "ann")
        received = run.events().query("type == 'SignalReceived'")["data"]
        assert all("@" in data["sent_by"] and data["sent_at"] for data in received)


def test_who_only_reads_sees_the_open_questions(tmp_path: Path) -> None:
    with iron.open(tmp_path / "journal.db"):
        run = publish.start(["a"])
        until(lambda: len(iron.waiting()) == 1)
        with iron.open(tmp_path / "journal.db", read_only=True):
            assert list(iron.waiting()["question"]) == ["Publish?"]
        run.cancel()


@BOTH
def test_the_picture_the_plan_and_the_explanation_show_the_question(lab: Lab, asking: Any) -> None:
    run = asking.start(["a"])
    until(lambda: run.status is RunStatus.WAITING)
    picture = run.diagram()
    expression = f'iron.get_run("{run.id}").answer(True, "iron.approve[0]")'
    assert f'it asks "Publish?": {expression}' in picture.text
    assert "Publish?" in (picture.html or "").rpartition("</object>")[2]
    assert any('"Publish?"' in tooltip.text for tooltip in picture.tooltips)
    [planned] = run.plan().itertuples()
    assert (planned.step, planned.reason) == ("iron.approve[0]", "waits on, for an answer")
    run.answer(True)
    until(lambda: list(iron.waiting()["step"]) == ["iron.ask[0]"])
    explained = str(run.explain("iron.approve"))
    assert "it asked 'Publish?'" in explained
    assert "answered by " in explained
    run.answer("ann")
    assert run.result(LIMIT_S) == (True, "ann")
    assert "it asks" not in run.diagram().text


def test_what_waited_until_the_run_was_continued_is_not_shown_as_reused(lab: Lab) -> None:
    run = publish.start(["a"])
    until(lambda: is_asking(run))
    lab.die()
    again = iron.get_run(run.id).resume()
    until(lambda: is_asking(again))
    again.answer(False)
    until(lambda: list(iron.waiting()["step"]) == ["iron.ask[0]"])
    again.answer("bob")
    assert again.result(LIMIT_S) == (False, "bob")
    assert "reused" not in picture_of(lab.engine, run.id).text
