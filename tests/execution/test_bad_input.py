"""What can't be: each is refused with an error that says what to do, nothing is lost, and the journal still opens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.cells import World, run_cell
from tests.conftest import Lab


class Unstorable:
    """A thing that neither JSON nor a pickle keeps."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class LockedBox:
    """A client of some service: no pickle, no identity."""

    def __init__(self) -> None:
        self.connection = threading.Lock()

    def ask(self) -> str:
        return "answer"


def an_open_file(tmp_path: Path) -> object:
    return (tmp_path / "some.txt").open("w")


ONCE_ONLY: list[Callable[[Path], object]] = [
    lambda _path: (n for n in range(3)),
    lambda _path: iter([1, 2]),
    lambda _path: map(str, [1]),
    lambda _path: enumerate("ab"),
    an_open_file,
]


@pytest.mark.parametrize("make", ONCE_ONLY, ids=["generator", "iterator", "map", "enumerate", "open file"])
def test_what_can_be_read_only_once_is_no_argument_of_a_step(
    lab: Lab, world: World, tmp_path: Path, make: Callable[[Path], object]
) -> None:
    @step
    def first() -> str:
        world.did("first")
        return "first"

    @step
    def total(numbers: object) -> int:
        world.did("total")
        return 0

    @flow
    def main() -> int:
        first()
        argument = make(tmp_path)
        try:
            return total(argument if world.is_broken else [1, 2])
        finally:
            getattr(argument, "close", lambda: None)()

    with pytest.raises(iron.errors.ValueNotStorable, match="pass"):
        main()
    assert iron.runs()["status"][0] == "failed"
    world.is_broken = False
    lab.cell()
    assert main() == 0
    assert world.log == ["first", "total"]


def test_the_error_about_an_argument_is_shown_without_itself_before_it(lab: Lab) -> None:
    @step
    def total(numbers: object) -> int:
        return 0

    @flow
    def main() -> int:
        return total(iter([1, 2]))

    with pytest.raises(iron.errors.ValueNotStorable) as refused:
        main()
    assert refused.value.__suppress_context__
    assert refused.value.__cause__ is None


def test_a_coroutine_that_nobody_awaited_is_named_as_such(lab: Lab) -> None:
    @step
    async def fetch() -> int:
        return 1

    @step
    def total(number: object) -> int:
        return 0

    made: list[Any] = []

    def forgotten() -> object:
        made.append(fetch())
        return made[-1]

    @flow
    async def returned() -> object:
        return forgotten()

    @flow
    async def passed() -> int:
        return total(forgotten())

    for each in (returned, passed):
        with pytest.raises(iron.errors.ValueNotStorable, match="write await before the call"):
            asyncio.run(each())
    for coroutine in made:
        coroutine.close()  # else Python warns of it later, in another test


GATE = threading.Event()


@pytest.mark.parametrize("make", [list, bytearray])
def test_an_argument_that_changes_before_the_body_begins_is_refused(lab: Lab, make: Callable[..., Any]) -> None:
    GATE.clear()

    @step(lane="one at a time")
    def total(numbers: Any) -> int:
        GATE.wait(20)
        return int(sum(numbers))

    @flow
    def main(is_copied: bool) -> list[int]:
        chunk, futures = make([0, 0]), []
        for number in range(3):
            chunk[0] = number
            futures.append(total.submit(copy(chunk) if is_copied else chunk))
        GATE.set()
        return [future.result() for future in futures]

    assert main(True) == [0, 1, 2]
    GATE.clear()
    with pytest.raises(iron.errors.ValueNotStorable, match="numbers, which changed before its body began"):
        main(False)


def test_bodies_may_keep_notes_in_what_their_step_closes_over(lab: Lab) -> None:
    @flow
    def main() -> list[int]:
        seen: list[int] = []

        @step(lane="one at a time")
        def note(number: int, also: list[int]) -> int:
            seen.append(number)
            return number

        return [future.result() for future in [note.submit(number, [number]) for number in range(3)]]

    assert main() == [0, 1, 2]


def test_arguments_that_change_before_a_task_begins_are_refused(lab: Lab) -> None:
    @step
    async def total(numbers: list[int], client: dict[str, int]) -> int:
        return sum(numbers)

    @flow
    async def main(is_copied: bool) -> int:
        batch = [1, 2]
        task = asyncio.create_task(total(batch[:] if is_copied else batch, {}))
        batch.clear()
        return await task

    assert asyncio.run(main(True)) == 3
    with pytest.raises(iron.errors.ValueNotStorable, match="pass a copy"):
        asyncio.run(main(False))


def test_what_can_be_read_only_once_is_no_argument_of_a_flow_either(lab: Lab) -> None:
    @flow
    def main(lines: Iterator[str]) -> int:
        return len(list(lines))

    with pytest.raises(iron.errors.ValueNotStorable, match="list"):
        main(iter("ab"))
    assert iron.runs().empty


def test_an_argument_that_no_pickle_takes_works_and_is_named_once(
    lab: Lab, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ironflow_nb")

    @step
    def ask(client: LockedBox, n: int) -> str:
        world.did(n)
        return client.ask()

    @flow
    def main(n_calls: int) -> list[str]:
        client = LockedBox()
        return [ask(client, n) for n in range(n_calls)]

    assert main(3) == ["answer"] * 3
    said = [line for line in caplog.messages if "iron.resource(client)" in line]
    assert len(said) == 1
    assert "LockedBox" in said[0]


def test_a_resource_is_recognised_in_the_next_process(lab: Lab, world: World) -> None:
    @step
    def ask(client: LockedBox, n: int) -> str:
        world.did(n)
        return client.ask()

    @flow
    def main() -> list[str]:
        client = iron.resource(LockedBox())
        answers = [ask(client, n) for n in range(2)]
        if world.is_broken:
            world.is_broken = False
            world.die()
        return answers

    with pytest.raises(SystemExit):
        main()
    assert main() == ["answer"] * 2
    assert world.log == [0, 1]


def test_a_result_that_nothing_stores_fails_its_step_and_keeps_the_others(lab: Lab, world: World) -> None:
    @step
    def make(n: int) -> object:
        world.did(n)
        return Unstorable() if n == 2 and world.is_broken else n

    @flow
    def main() -> list[object]:
        return [make(n) for n in range(4)]

    with pytest.raises(iron.errors.ValueNotStorable, match="Unstorable"):
        main()
    assert list(iron.steps()["status"]) == ["completed", "completed", "failed"]
    world.is_broken = False
    lab.cell()
    assert main() == [0, 1, 2, 3]
    assert world.log == [0, 1, 2, 2, 3]


def test_a_value_of_a_flow_that_nothing_stores_fails_the_run_and_keeps_its_steps(lab: Lab, world: World) -> None:
    @step
    def work() -> int:
        world.did("work")
        return 1

    @flow
    def main() -> object:
        work()
        return Unstorable() if world.is_broken else "fine"

    with pytest.raises(iron.errors.ValueNotStorable, match="Unstorable"):
        main()
    assert iron.runs()["status"][0] == "failed"
    world.is_broken = False
    lab.cell()
    assert main() == "fine"
    assert world.log == ["work"]


def test_the_result_of_a_failed_run_is_its_own_exception_with_a_note(lab: Lab) -> None:
    @step
    def divide(n: int) -> float:
        return 1 / n

    @flow
    def main() -> float:
        return divide(0)

    with pytest.raises(ZeroDivisionError) as caught:
        main()
    assert [note for note in caught.value.__notes__ if "divide[0]; 0 finished steps are kept" in note]
    run = iron.get_run(iron.runs()["run_id"][0])
    with pytest.raises(ZeroDivisionError) as caught:
        run.result()
    assert [note for note in caught.value.__notes__ if run.id in note]
    assert isinstance(run.error, ZeroDivisionError)


def test_the_result_of_a_run_whose_error_has_no_class_any_more_says_so(lab: Lab) -> None:
    names = {"iron": iron, "__name__": "__main__"}
    run_cell("class Odd(Exception): pass\n\n@iron.flow\ndef main():\n    raise Odd('strange')\n", names)
    main: iron.Flow[[], None] = names["main"]  # type: ignore[assignment]
    with pytest.raises(Exception, match="strange"):
        main()
    run = iron.get_run(main.last.id)  # type: ignore[union-attr]
    with pytest.raises(iron.RunFailed, match="Odd: strange"):
        run.result()


def test_the_result_of_an_interrupted_run_says_how_to_continue(lab: Lab, world: World) -> None:
    @flow
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        main()
    run = main.last
    assert run is not None
    assert run.status == "interrupted"
    with pytest.raises(iron.RunInterrupted, match="resume"):
        run.result()


def test_the_result_of_a_run_that_goes_on_can_be_waited_for_in_vain(lab: Lab) -> None:
    gate = threading.Event()

    @flow
    def main() -> bool:
        return gate.wait(20)

    run = main.start()
    with pytest.raises(iron.ResultTimeout, match=run.id):
        run.result(timeout_s=0.05)
    gate.set()
    assert run.result(timeout_s=20) is True


def test_a_call_that_does_not_fit_is_a_type_error_before_any_run(lab: Lab) -> None:
    @flow
    def main(path: str) -> str:
        return path

    with pytest.raises(TypeError, match="path"):
        main()  # type: ignore[call-arg]
    assert iron.runs().empty


@pytest.mark.parametrize("thing", [3, "work"])
def test_only_functions_become_steps_and_flows(thing: object) -> None:
    with pytest.raises(iron.errors.DefinitionError, match="function"):
        step(thing)  # type: ignore[call-overload]
    with pytest.raises(iron.errors.DefinitionError, match="function"):
        flow(thing)  # type: ignore[call-overload]


def test_one_key_for_two_different_calls_is_refused(lab: Lab) -> None:
    @step(key="{name}")
    def save(name: str, text: str) -> str:
        return text

    @flow
    def main() -> None:
        save("a", "one")
        save("a", "two")

    with pytest.raises(iron.errors.DuplicateKey, match="make the key say what differs"):
        main()


def test_options_that_do_not_exist_name_those_that_do(lab: Lab) -> None:
    with pytest.raises(ValueError, match=r"guard.*refresh.*keep.*strict"):
        flow(on_change="sometimes")(lambda: None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"power.*process"):
        flow(durability="ram")(lambda: None)  # type: ignore[arg-type]
