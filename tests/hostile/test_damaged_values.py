"""Value files that were cut, removed or changed: never wrong data, and a run that goes on or says what it lacks."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.values import classes
from ironflow_nb.values.stored_value import INLINE_LIMIT
from tests.cells import World
from tests.conftest import Lab

SIZE = INLINE_LIMIT + 1000
NewLab = Callable[[Path], Lab]


@pytest.fixture
def lab(tmp_path: Path, new_lab: NewLab) -> Lab:
    return new_lab(tmp_path / "journal.db")


@pytest.fixture
def world(lab: Lab) -> World:
    return World(lab.die_in_flow)


def only_file(folder: Path) -> Path:
    (found,) = [path for path in (folder / "values").rglob("*") if path.is_file()]
    return found


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (Path.unlink, "is missing"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes and was written with"),
    "empty": (lambda path: path.write_bytes(b""), "has 0 bytes"),
    "a flipped bit": (flip, "has other bytes than were written"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "can't be read"),
}
every_damage = pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)


@step
def large(world: World) -> bytes:
    world.did("large")
    return bytes(range(250)) * (SIZE // 250)


@step
def last(world: World, n: int) -> int:
    if world.is_broken:
        raise RuntimeError
    return n


@flow
def main(world: World) -> int:
    return last(world, len(large(world)))


def failed(world: World) -> None:
    with pytest.raises(RuntimeError):
        main(world)
    world.is_broken = False


@every_damage
def test_reading_a_damaged_value_names_its_file_and_what_is_wrong(
    damage: Callable[[Path], Any], words: str, tmp_path: Path, lab: Lab, world: World
) -> None:
    failed(world)
    file = only_file(tmp_path)
    damage(file)
    assert main.last is not None
    with pytest.raises(iron.errors.ValueUnreadable, match=words) as caught:
        main.last.value(large)
    assert str(file) in str(caught.value)
    assert main.last.id in caught.value.__notes__[0]
    assert iron.steps()["status"].tolist() == ["completed", "failed"]
    assert iron.runs()["status"].tolist() == ["failed"]


@every_damage
def test_a_cheap_step_whose_result_is_lost_runs_again_and_its_file_is_mended(
    damage: Callable[[Path], Any], words: str, tmp_path: Path, lab: Lab, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    failed(world)
    damage(only_file(tmp_path))
    lab.cell()
    if words == "can't be read":  # what stands in the place of the file is not ours to remove
        with pytest.raises(iron.JournalError):
            main(world)
        return
    with caplog.at_level(logging.INFO, "ironflow_nb"):
        assert main(world) == SIZE - SIZE % 250
    assert f"the recorded result of {large.name}[0] can't be read" in caplog.text
    assert words in caplog.text
    assert world.log == ["large", "large"]
    attempts = iron.attempts()
    assert attempts[attempts["name"] == large.name]["reason"].tolist() == ["new", "result lost"]
    assert main.last is not None
    assert main.last.value(large) == bytes(range(250)) * (SIZE // 250)


def test_a_costly_step_whose_result_is_lost_is_not_run_again_unasked(tmp_path: Path, lab: Lab, world: World) -> None:
    world.plan.append(lab.simulate_time())

    @step
    def train(world: World) -> bytes:
        world.did("train")
        world.plan[0].advance(3600)
        return b"x" * SIZE

    @flow
    def costly(world: World) -> int:
        return last(world, len(train(world)))

    with pytest.raises(RuntimeError):
        costly(world)
    world.is_broken = False
    content = only_file(tmp_path).read_bytes()
    only_file(tmp_path).unlink()
    lab.cell()
    with pytest.raises(iron.errors.ValueUnreadable, match=r"put it back .*(?s:.)*on_change=\"refresh\"") as caught:
        costly(world)
    assert caught.value.step == f"{train.name}[0]"
    assert world.log == ["train"]
    # Put back, it is taken as if nothing had been.
    place = lab.engine.journal.files.path(lab.engine.codecs.encode(b"x" * SIZE).value_id)
    place.write_bytes(content)
    lab.cell()
    assert costly(world) == SIZE
    assert world.log == ["train"]


def test_a_costly_step_whose_result_is_lost_runs_again_when_it_is_asked_to(
    tmp_path: Path, lab: Lab, world: World
) -> None:
    world.plan.append(lab.simulate_time())

    @step
    def train(world: World) -> bytes:
        world.did("train")
        world.plan[0].advance(3600)
        return b"x" * SIZE

    @flow(on_change="refresh")
    def costly(world: World) -> int:
        return last(world, len(train(world)))

    with pytest.raises(RuntimeError):
        costly(world)
    world.is_broken = False
    only_file(tmp_path).unlink()
    lab.cell()
    assert costly(world) == SIZE
    assert world.log == ["train", "train"]


@pytest.mark.parametrize(
    "damage",
    ["UPDATE steps SET output = NULL WHERE output = '12'", "UPDATE steps SET output = '7' WHERE output = '12'"],
    ids=["no value", "other bytes"],
)
def test_a_small_value_that_is_lost_is_no_other_value(damage: str, tmp_path: Path, lab: Lab, world: World) -> None:
    @step
    def count(world: World) -> int:
        world.did("count")
        return 12

    @flow
    def counting(world: World) -> int:
        return last(world, count(world))

    with pytest.raises(RuntimeError):
        counting(world)
    world.is_broken = False
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection, connection:
        assert connection.execute(damage).rowcount == 1
    assert counting.last is not None
    with pytest.raises(iron.errors.ValueUnreadable, match="missing"):
        counting.last.value(count)
    assert len(iron.steps()) == 2
    lab.cell()
    assert counting(world) == 12
    assert world.log == ["count", "count"]
    assert counting.last.value(count) == 12


def test_equal_results_of_two_steps_mend_the_file_that_they_share(tmp_path: Path, lab: Lab, world: World) -> None:
    @step
    def one(world: World) -> bytes:
        return b"x" * SIZE

    @step
    def two(world: World) -> bytes:
        flip(only_file(tmp_path))
        return b"x" * SIZE

    @flow
    def both(world: World) -> int:
        return len(one(world)) + len(two(world))

    assert both(world) == 2 * SIZE
    assert both.last is not None
    assert both.last.value(one) == both.last.value(two) == b"x" * SIZE


def test_the_lost_result_of_a_run_is_told_of(tmp_path: Path, lab: Lab) -> None:
    @flow
    def whole() -> bytes:
        return b"x" * SIZE

    whole()
    only_file(tmp_path).unlink()
    lab.die()
    assert whole.last is not None
    with pytest.raises(iron.errors.ValueUnreadable, match="is missing"):
        whole.last.result()
    assert iron.runs()["status"].tolist() == ["completed"]


def test_a_run_whose_arguments_are_lost_asks_for_them(tmp_path: Path, lab: Lab, world: World) -> None:
    @flow
    def with_text(text: str) -> int:
        if world.is_broken:
            raise RuntimeError
        return len(text)

    with pytest.raises(RuntimeError):
        with_text("x" * SIZE)
    world.is_broken = False
    only_file(tmp_path).unlink()
    lab.cell()
    with pytest.raises(iron.errors.InputsNotStored, match=r"calling .*with_text again"):
        with_text.resume()
    assert with_text("x" * SIZE) == SIZE
    assert iron.runs()["n_sessions"].tolist() == [2]


PAID: list[str] = []


@step(once=True)
def pay() -> bytes:
    PAID.append("once")
    return b"x" * SIZE


@step
def ship(size: int) -> int:
    if PAID == ["once"]:
        raise RuntimeError
    return size


@flow
def paying() -> int:
    return ship(len(pay()))


def test_a_step_that_runs_once_does_not_run_again_because_its_result_is_lost(tmp_path: Path, lab: Lab) -> None:
    PAID.clear()
    with pytest.raises(RuntimeError):
        paying()
    only_file(tmp_path).unlink()
    lab.cell()
    with pytest.raises(iron.errors.ValueUnreadable, match="rerun=") as caught:
        paying()
    assert caught.value.step == f"{pay.name}[0]"
    assert PAID == ["once"]
    assert paying.last is not None
    assert paying.last.resume(rerun=[f"{pay.name}[0]"]).result() == SIZE
    assert PAID == ["once", "once"]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_step_whose_result_has_code_of_another_python_runs_again(
    is_async: bool, lab: Lab, world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    @step
    def rule(world: World) -> Any:
        world.did("rule")
        return lambda x: x + 1

    @flow
    def ruled(world: World) -> Any:
        found = rule(world)
        return last(world, found(1))

    @flow
    async def ruled_async(world: World) -> Any:
        found = rule(world)
        return last(world, found(1))

    def call() -> Any:
        return asyncio.run(ruled_async(world)) if is_async else ruled(world)

    with monkeypatch.context() as there:
        there.setattr(classes, "PYTHON", "cpython 3.9")
        with pytest.raises(RuntimeError):
            call()
    world.is_broken = False
    lab.cell()
    with caplog.at_level(logging.INFO, "ironflow_nb"):
        assert call() == 2
    assert "was compiled by cpython 3.9" in caplog.text
    assert world.log == ["rule", "rule"]
