"""A def flow called directly: recorded, answered, failed, continued."""

from __future__ import annotations

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.cells import World, run_cell
from tests.conftest import Lab


def test_a_flow_returns_what_its_function_returns(lab: Lab) -> None:
    @step
    def double(n: int) -> int:
        return 2 * n

    @flow
    def main(n: int) -> list[int]:
        return [double(i) for i in range(n)]

    assert main(4) == [0, 2, 4, 6]
    assert main.last is not None
    assert main.last.status == "completed"
    assert main.last.values(double) == [0, 2, 4, 6]


def test_a_step_outside_a_flow_and_inside_a_step_is_a_plain_call(lab: Lab, world: World) -> None:
    @step
    def inner(n: int) -> int:
        world.did(n)
        return n

    @step
    def outer(n: int) -> int:
        return inner(n) + inner(n)

    @flow
    def main() -> int:
        return outer(3)

    assert inner(1) == 1
    assert main() == 6
    assert list(main.last.steps()["name"]) == [outer.name]


def test_a_failed_run_continues_in_the_next_cell_and_keeps_what_is_finished(lab: Lab, world: World) -> None:
    @step
    def work(n: int) -> int:
        world.did(n)
        if n == 2 and world.is_broken:
            raise ValueError("two")
        return n * 10

    @flow
    def main() -> list[int]:
        return [work(n) for n in range(4)]

    with pytest.raises(ValueError, match="two") as caught:
        main()
    assert any("2 finished steps are kept" in note for note in caught.value.__notes__)
    world.is_broken = False
    lab.cell()
    assert main() == [0, 10, 20, 30]
    assert world.log == [0, 1, 2, 2, 3]
    runs = iron.runs()
    assert list(runs["status"]) == ["completed"]
    assert runs["n_sessions"][0] == 2
    assert runs["n_reused"][0] == 2
    steps = main.last.steps()
    assert list(steps["attempt"]) == [1, 1, 2, 1]
    assert list(steps["reused"]) == [True, True, False, False]


def test_a_killed_run_continues_in_the_next_process(lab: Lab, world: World) -> None:
    @step
    def work(n: int) -> int:
        world.did(n)
        return n

    @flow
    def main() -> list[int]:
        done = [work(n) for n in range(3)]
        if world.is_broken:
            world.die()
        return [*done, work(3), work(4)]

    with pytest.raises(SystemExit):
        main()
    world.is_broken = False
    assert main() == [0, 1, 2, 3, 4]
    assert world.log == [0, 1, 2, 3, 4]


def test_equal_calls_in_a_flow_are_told_apart_by_their_number(lab: Lab, world: World) -> None:
    @step
    def draw() -> int:
        world.did("draw")
        return len(world.log)

    @step
    def stop() -> None:
        if world.is_broken:
            raise RuntimeError

    @flow
    def main() -> list[int]:
        first = [draw(), draw(), draw()]
        stop()
        return [*first, draw()]

    with pytest.raises(RuntimeError):
        main()
    world.is_broken = False
    lab.cell()
    assert main() == [1, 2, 3, 4]


def test_steps_that_are_inserted_removed_or_reordered_mix_nothing_up(lab: Lab, world: World) -> None:
    world.plan = ["a", "b", "c", "stop"]

    @step
    def work(name: str) -> str:
        if name == "stop":
            raise RuntimeError
        world.did(name)
        return f"did {name}"

    @flow
    def main() -> list[str]:
        return [work(name) for name in world.plan]

    with pytest.raises(RuntimeError):
        main()
    world.plan = ["new", "c", "a"]
    lab.cell()
    assert main() == ["did new", "did c", "did a"]
    assert world.log == ["a", "b", "c", "new"]


def test_a_failure_that_the_flow_lived_with_is_replayed_as_that_failure(lab: Lab, world: World) -> None:
    @step
    def fetch(n: int) -> int:
        world.did(("fetch", n))
        raise KeyError(n)

    @step
    def other(n: int) -> int:
        world.did(("other", n))
        if n == 2 and world.is_broken:
            raise RuntimeError
        return n

    @flow
    def main() -> list[tuple[object, int]]:
        done = []
        for n in (1, 2):
            try:
                fetch(n)
            except KeyError as error:
                done.append((error.args, other(n)))
        return done

    with pytest.raises(RuntimeError):
        main()
    world.is_broken = False
    lab.cell()
    assert main() == [((1,), 1), ((2,), 2)]
    # The first failure was lived with; the second is in the chain of the run's own error and is tried again.
    assert world.log == [("fetch", 1), ("other", 1), ("fetch", 2), ("other", 2), ("fetch", 2), ("other", 2)]


def test_an_error_that_is_raised_on_as_another_one_is_tried_again(lab: Lab, world: World) -> None:
    class PipelineError(Exception):
        pass

    @step
    def fetch() -> int:
        world.did("fetch")
        if world.is_broken:
            raise KeyError("gone")
        return 1

    @step
    def clean_up() -> None:
        world.did("clean up")

    @flow
    def main() -> int:
        try:
            return fetch()
        except KeyError as error:
            clean_up()
            raise PipelineError from error

    with pytest.raises(PipelineError):
        main()
    world.is_broken = False
    lab.cell()
    assert main() == 1
    assert world.log == ["fetch", "clean up", "fetch"]


def test_code_that_changed_is_run_again_and_a_comment_changes_nothing(lab: Lab, world: World) -> None:
    namespace: dict[str, object] = {"step": step, "flow": flow, "world": world}
    program = """
@step
def work(n):
    {body}

@flow
def main():
    result = [work(n) for n in range(3)]
    assert not world.is_broken
    return result
"""
    run_cell(program.format(body="world.did(n); return n"), namespace)
    with pytest.raises(AssertionError):
        namespace["main"]()
    lab.cell()
    run_cell(program.format(body="'''Words.'''\n    world.did(n)  # a comment\n    return n"), namespace)
    with pytest.raises(AssertionError):
        namespace["main"]()
    assert world.log == [0, 1, 2]
    lab.cell()
    run_cell(program.format(body="world.did(n); return n + 1"), namespace)
    with pytest.raises(AssertionError):
        namespace["main"]()
    assert world.log == [0, 1, 2, 0, 1, 2]
    lab.cell()
    world.is_broken = False
    run_cell(program.format(body="world.did(n); return n"), namespace)
    assert namespace["main"]() == [0, 1, 2]
    assert world.log == [0, 1, 2, 0, 1, 2]
