"""Rows that are not what was written: the run that has them says so, and everything else goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.history.lookup import skip_damaged, undamaged_tallies
from ironflow_nb.journal.ports import Select
from tests.cells import World
from tests.conftest import Lab

NewLab = Callable[[Path], Lab]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def lab(path: Path, new_lab: NewLab) -> Lab:
    return new_lab(path)


@pytest.fixture
def world(lab: Lab) -> World:
    return World(lab.die_in_flow)


@step
def work(world: World, n: int) -> list[int]:
    world.did(n)
    if n == 2 and world.is_broken:
        raise RuntimeError
    return [n]


@flow
def sound(world: World) -> int:
    return len(work(world, 0))


@flow
def hurt(world: World) -> int:
    return sum(len(work(world, n)) for n in range(4))


@pytest.fixture
def run(lab: Lab, world: World) -> iron.Run:
    """A failed run, after a sound one."""
    sound(world)
    with pytest.raises(RuntimeError):
        hurt(world)
    world.is_broken = False
    world.log.clear()
    assert hurt.last is not None
    return hurt.last


def spoil(path: Path, statement: str, *values: object) -> None:
    """Change the file behind the back of everybody, past the triggers."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER events_refuse_update")
        connection.execute("DROP TRIGGER events_refuse_delete")
        assert connection.execute(statement, values).rowcount


def trouble(ask: Callable[[], object]) -> str | None:
    """Return what the package says is wrong, if it is asked that; no other error may come out of it."""
    try:
        ask()
    except iron.IronflowError as error:
        return "\n".join([str(error), *getattr(error, "__notes__", ())])
    return None


GARBAGE = ["", "no json", "[1, 2]", "{", '{"duration_s": 1}', '{"output": 7}']


@pytest.mark.parametrize("garbage", GARBAGE)
def test_an_event_of_garbage_is_named_and_blocks_nothing_else(garbage: str, path: Path, run: iron.Run) -> None:
    spoil(
        path, "UPDATE events SET data = ? WHERE run_id = ? AND type = 'StepCompleted' AND version = 3", garbage, run.id
    )
    assert iron.runs()["status"].tolist() == ["failed", "completed"]
    assert len(iron.steps()) == len(iron.attempts()) == 4
    events = iron.events()
    assert len(events) == len(iron.events(run=run.id)) + len(iron.events(sound))
    assert events["data"].isna().sum() == (garbage in {"", "no json", "[1, 2]", "{"})
    assert run.value("work[0]") == [0]


def test_an_event_of_bytes_that_are_no_text_blocks_nothing_else(path: Path, run: iron.Run) -> None:
    spoil(path, "UPDATE events SET data = x'ff00fe' WHERE run_id = ? AND version = 3", run.id)
    assert len(iron.runs()) == 2
    assert len(iron.steps()) == 4
    assert len(iron.events(sound)) > 0
    assert len(iron.events()) > 0


@pytest.mark.parametrize("table", ["runs", "steps"])
def test_an_unknown_status_is_named_and_blocks_no_listing(
    table: str, path: Path, run: iron.Run, world: World, lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(path, f"UPDATE {table} SET status = 'sleeping' WHERE run_id = ?", run.id)
    assert sound.last is not None
    assert sound.last.result() == 1
    assert len(sound.last.steps()) == 1
    assert sound.options(fresh=True)(world) == 1
    listed = iron.runs()
    assert len(listed) == (2 if table == "runs" else 3)
    assert f"run {run.id} has" in caplog.text
    assert set(iron.steps()["run_id"]) == set(iron.attempts()["run_id"]) == set(iron.runs(sound)["run_id"])
    for ask in (run.steps, lambda: iron.steps(run=run.id), lambda: hurt(world)):
        lab.cell()
        with pytest.raises(iron.errors.JournalCorrupt, match=rf"{run.id} .*sleeping"):
            ask()


@pytest.mark.parametrize("table", ["runs", "steps"])
def test_many_damaged_runs_are_left_out_after_one_answer(
    table: str, path: Path, lab: Lab, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    ids = [(sound.options(fresh=True)(world), sound.last)[1].id for _ in range(12)]
    spoil(
        path, f"UPDATE {table} SET status = 'sleeping' WHERE run_id IN (SELECT run_id FROM runs ORDER BY rowid LIMIT 9)"
    )
    asked: list[Select] = []

    def ask(select: Select) -> list[Any]:
        asked.append(select)
        return list(getattr(reader, table)(select))

    with lab.engine.reading() as reader:
        assert [row.run_id for row in skip_damaged(ask, Select())] == ids[:8:-1]
        tallies = undamaged_tallies(reader, ids)
    assert len(asked) == 2
    assert len(tallies) == (12 if table == "runs" else 3)
    assert all(caplog.text.count(f"run {run_id} has") == (1 if table == "runs" else 2) for run_id in ids[:9])
    assert set(iron.steps()["run_id"]) == set(iron.runs()["run_id"]) - set(ids[:9] if table == "steps" else ())


@pytest.mark.parametrize("column", ["output_id", "inputs_id", "identity", "code", "started_at", "duration_s", "branch"])
def test_a_column_of_garbage_never_gives_another_value(
    column: str, path: Path, run: iron.Run, lab: Lab, world: World
) -> None:
    spoil(path, f"UPDATE steps SET {column} = x'ff00' WHERE run_id = ? AND \"index\" = 0", run.id)
    for listing in (iron.runs, iron.steps, iron.attempts, iron.events):
        told = trouble(listing)
        assert told is None or f"column {column}" in told
    assert sound.last is not None
    assert sound.last.result() == 1
    lab.cell()
    found: list[int] = []
    told = trouble(lambda: found.append(hurt(world)))
    assert (found, told) == ([4], None) or (found == [] and told is not None)


def test_a_value_whose_row_is_missing_is_named(path: Path, run: iron.Run) -> None:
    spoil(path, 'UPDATE steps SET output = NULL WHERE run_id = ? AND "index" = 1', run.id)
    with pytest.raises(iron.errors.ValueUnreadable, match=rf"work\[1\] of run {run.id} is missing"):
        run.value("work[1]")
    assert run.value("work[0]") == [0]
    assert len(iron.steps()) == 4


@pytest.mark.parametrize("page", range(1, 12))
def test_a_page_of_garbage_is_a_damaged_journal_or_hurts_nothing_that_is_read(
    page: int, path: Path, run: iron.Run, lab: Lab, world: World
) -> None:
    expected = iron.steps()["step"].tolist()
    lab.engine.close()
    content = bytearray(path.read_bytes())
    size = int.from_bytes(content[16:18], "big")
    if page * size >= len(content):
        return
    content[page * size : (page + 1) * size] = b"\xa5" * size
    path.write_bytes(content)
    with iron.open(path):
        for ask in (iron.runs, iron.events, lambda: hurt(world)):
            told = trouble(ask)
            assert told is None or str(path) in told or run.id in told
        steps: list[str] = []
        if trouble(lambda: steps.extend(iron.steps()["step"])) is None:
            assert {*steps} <= {*expected, f"{work.name}[3]"}
