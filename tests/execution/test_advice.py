"""What an error says to do is done, and helps."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.cells import World, run_cell
from tests.conftest import Lab

PROGRAM = """
@step({options})
def work(n):
    world.did({version})
    return {version} * 10 + n

@flow(on_change={of_flow!r})
def main():
    found = [work(n) for n in range(3)]
    if world.is_broken:
        raise OSError("off")
    return found
"""


@pytest.mark.parametrize("options", ["", "on_change='strict'"])
@pytest.mark.parametrize(("way", "result"), [(0, [10, 11, 12]), (1, [20, 21, 22])])
def test_what_changed_code_says_to_do_ends_the_run(
    lab: Lab, world: World, options: str, way: int, result: list[int]
) -> None:
    of_flow = "keep" if options else "strict"
    space: dict[str, Any] = {"step": step, "flow": flow, "world": world, "iron": iron, "__name__": "__main__"}
    run_cell(PROGRAM.format(options=options, version=1, of_flow=of_flow), space)
    with pytest.raises(OSError, match="off"):
        space["main"]()
    world.is_broken = False
    lab.cell()
    run_cell(PROGRAM.format(options=options, version=2, of_flow=of_flow), space)
    with pytest.raises(iron.CodeChanged) as stopped:
        space["main"]()
    expressions = re.findall(r"^    (.+?)  #", str(stopped.value), re.MULTILINE)
    assert eval(expressions[way], space).result() == result


def notes_of(error: BaseException) -> str:
    return "\n".join(note for note in getattr(error, "__notes__", ()) if note.startswith("ironflow: "))


@pytest.mark.parametrize("is_child", [False, True])
def test_what_a_failed_run_says_to_do_continues_it(lab: Lab, world: World, is_child: bool) -> None:
    @step
    def work(n: int) -> int:
        world.did(n)
        if n == 2 and world.is_broken:
            raise OSError("off")
        return n

    @flow
    def child() -> list[int]:
        return [work(n) for n in range(3)]

    @flow
    def parent() -> list[int]:
        return child()

    main = parent if is_child else child
    with pytest.raises(OSError, match="off") as failed:
        main()
    said = notes_of(failed.value)
    assert main.last is not None
    assert len(said.splitlines()) == 2
    world.is_broken = False
    expression = re.search(r"iron\.resume\(.+?\)", said)
    assert expression is not None
    run = eval(expression[0], {"iron": iron})
    assert run.id == main.last.id
    assert run.result() == [0, 1, 2]
    assert world.log == [0, 1, 2, 2]


@flow
def broken() -> None:
    raise OSError("off")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "then start the script again, or iron.resume("),
        ({"key": "x"}, "then call it again with the same key, or iron.resume("),
        ({"fresh": True}, "mend what failed, then iron.resume("),
        ({"on_rerun": "new"}, "mend what failed, then iron.resume("),
    ],
)
def test_calling_again_is_advised_where_it_continues(
    lab: Lab, options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ironflow_nb.execution.system.frontend.shell", lambda: None)  # other tests leave one
    monkeypatch.delattr(sys, "ps1", raising=False)  # which IPython sets
    with pytest.raises(OSError, match="off") as failed:
        broken.options(**options)()
    assert said in notes_of(failed.value)
    lab.cell()
    with pytest.raises(OSError, match="off"):
        broken.options(**options)()
    assert len(iron.runs()) == (1 if "again" in said else 2)


def test_under_pytest_only_the_run_itself_is_continued() -> None:
    with iron.open(":memory:"), pytest.raises(OSError, match="off") as failed:
        broken()
    assert re.search(
        r"^ironflow: mend what failed, then iron\.resume\(\S+\): it continues", notes_of(failed.value), re.MULTILINE
    )
