"""`iron.File` in runs: who got a file that changed runs again, and nobody else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.cells import World
from tests.conftest import Lab


@pytest.fixture
def data() -> Path:
    for name in "ab":
        Path(f"{name}.txt").write_text(name)
    return Path("a.txt")


@pytest.fixture
def main(lab: Lab, world: World, data: Path) -> Any:
    """A flow that reads two files and fails in its last step as long as the world is broken."""

    @step
    def load(data: iron.File) -> str:
        world.did("load", str(data))
        return data.read_text()

    @step
    def measure(word: str) -> int:
        world.did("measure", word)
        return len(word)

    @step
    def report(jobs: dict[str, Any], total: int) -> str:
        world.did("report")
        if world.is_broken:
            raise ConnectionError
        return f"{len(jobs['files'])} files, {total} letters"

    @flow
    def main(folder: str = ".") -> str:
        files = [iron.File(path) for path in sorted(Path(folder).glob("*.txt"))]
        total = sum(measure(load(file)) for file in files)
        return report({"files": files}, total)

    with pytest.raises(ConnectionError):
        main()
    world.log.clear()
    lab.cell()
    return main


def test_only_the_steps_that_got_the_changed_file_run_again(main: Any, world: World, data: Path) -> None:
    world.is_broken = False
    data.write_text("apple")
    assert main() == "2 files, 6 letters"
    assert world.log == [("load", "a.txt"), ("measure", "apple"), "report"]
    assert main.last.explain(f"{main.name.rpartition('.')[0]}.load[2]").reasons == (
        "attempt 1 (completed): argument `data` changed: the content of File('a.txt')",
    )


def test_a_file_that_is_touched_is_the_same(lab: Lab, main: Any, world: World, data: Path) -> None:
    os.utime(data, (1, 1))
    data.write_text(data.read_text())
    lab.die()
    world.is_broken = False
    assert main() == "2 files, 2 letters"
    assert world.log == ["report"]


def test_a_change_that_is_undone_runs_nothing_again(lab: Lab, main: Any, world: World, data: Path) -> None:
    data.write_text("apple")
    with pytest.raises(ConnectionError):
        main()
    lab.cell()
    data.write_text("a")
    world.log.clear()
    world.is_broken = False
    assert main() == "2 files, 2 letters"
    assert world.log == ["report"]


def test_a_file_that_is_gone_fails_the_call_that_gets_it(main: Any, world: World, data: Path) -> None:
    @flow
    def alone() -> None:
        step(len, name="length")(iron.File("gone.txt"))

    with pytest.raises(iron.errors.FileUnreadable, match=r"gone\.txt"):
        alone()


def test_a_flow_gets_a_file_as_a_step_does(lab: Lab, world: World, data: Path) -> None:
    @step
    def letters(data: iron.File) -> int:
        world.did("letters")
        return len(data.read_text())

    @step
    def other() -> int:
        world.did("other")
        return 1

    @flow
    def main(data: iron.File) -> int:
        n = other() + letters(data)
        if world.is_broken:
            raise ConnectionError
        return n

    with pytest.raises(ConnectionError):
        main(iron.File(data))
    run: Any = main.last
    world.log.clear()
    world.is_broken = False
    lab.die()
    data.write_text("apple")
    resumed = iron.get_run(run.id).resume()
    assert resumed.result(10) == 6
    assert world.log == ["letters"]
    assert "the content of File('a.txt')" in str(run.explain(f"{letters.name}[1]"))
    data.write_text("another call")
    assert "a new run would begin" in main.plan(iron.File(data)).headline


def test_a_step_may_return_the_file_that_it_wrote(lab: Lab, world: World) -> None:
    @step
    def write(text: str) -> iron.File:
        world.did("write")
        Path("out.txt").write_text(text)
        return iron.File("out.txt")

    @step
    def read(file: iron.File) -> str:
        world.did("read")
        return file.read_text()

    @flow
    def main() -> str:
        text = read(write("hello"))
        if world.is_broken:
            raise ConnectionError
        return text

    with pytest.raises(ConnectionError):
        main()
    lab.cell()
    with pytest.raises(ConnectionError):
        main()
    assert world.log == ["write", "read"]
    lab.cell()
    Path("out.txt").write_text("edited by hand")
    world.is_broken = False
    assert main() == "edited by hand"
    assert world.log == ["write", "read", "read"]
