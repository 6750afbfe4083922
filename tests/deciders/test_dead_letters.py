"""Dead letters: what is listed, in what order, what is tried again, and what was damaged."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from ast import literal_eval
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.testing.clock import SimClock
from tests.conftest import Lab
from tests.deciders.counters import Ask, Call, Remind, counters

ROOT = Path(__file__).parents[2]


def failing(lab: Lab, n_effects: int = 3) -> Any:
    """Return a counter with dead effects, one a second: c-0 to c-2 in turn."""
    clock = lab.simulate_time()
    counter = counters()

    @counter.perform(Call, attempts=1)
    def call(effect: Call) -> None:
        raise ConnectionError(effect.what)

    for n in range(n_effects):
        counter.send(Ask(f"c-{n % 3}", str(n)))
        counter.run_until_idle()
        clock.advance(1)
    return counter


def test_dead_letters_are_listed_newest_first_by_instance_and_up_to_a_limit(lab: Lab) -> None:
    counter = failing(lab, 5)
    assert [data["what"] for data in counter.dead_letters()["data"]] == ["4", "3", "2", "1", "0"]
    assert [data["what"] for data in counter.dead_letters(instance="c-1")["data"]] == ["4", "1"]
    assert [data["what"] for data in counter.dead_letters(limit=2)["data"]] == ["4", "3"]
    assert len(counter.dead_letters(instance="nobody")) == len(counters("other").dead_letters()) == 0
    assert list(counter.instances()["n_dead"].sort_values()) == [1, 2, 2]
    assert list(counter.instances()["n_pending"]) == [0, 0, 0]


def test_a_hundred_dead_letters_are_listed_by_default(lab: Lab) -> None:
    counter = failing(lab, 101)
    assert len(counter.dead_letters()) == 100
    assert len(counter.dead_letters(limit=None)) == 101


def test_dead_letters_are_not_tried_again_until_they_are_requeued(lab: Lab) -> None:
    counter, log = failing(lab), []
    counter.perform(Call)(lambda effect: log.append(effect.what))
    assert counter.run_until_idle(wait="1h") == 0
    key = counter.dead_letters(instance="c-2")["key"][0]
    assert counter.requeue(key=key) == 1
    assert counter.requeue(key=key) == 0
    assert counter.requeue(instance="c-1") == 1
    assert counter.run_until_idle() == 2
    assert sorted(log) == ["1", "2"]
    assert counter.requeue(key=key) == counter.requeue(instance="nobody") == 0
    assert counter.requeue() == 1


def test_what_is_requeued_has_all_its_attempts_again(lab: Lab) -> None:
    counter, attempts = counters(), []

    @counter.perform(Call, attempts=2, delay=0)
    def call(effect: Call, context: Any) -> None:
        attempts.append(context.attempt)
        raise ConnectionError

    counter.send(Ask("c", "x"))
    counter.run_until_idle()
    counter.requeue()
    counter.run_until_idle()
    assert attempts == [1, 2, 1, 2]
    assert list(counter.dead_letters()["attempts"]) == [2]


@pytest.mark.parametrize("damage", ["UPDATE \"values\" SET data = x'00'", 'DELETE FROM "values"'])
@pytest.mark.parametrize("kind", ["effect", "timer"])
def test_what_was_damaged_in_the_journal_becomes_a_dead_letter(tmp_path: Path, kind: str, damage: str) -> None:
    path = tmp_path / "damaged.db"
    with iron.open(path, durability="process") as engine:
        engine.access.clock = engine.clock = SimClock()
        counter, log = counters(), []
        counter.perform(Call, attempts=1)(lambda effect: log.append(effect))
        counter.send(Remind("c", 0) if kind == "timer" else Ask("c", "x"))
        engine.journal.close()
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(damage)
        connection.close()
        counter.run_until_idle(wait=0 if kind == "effect" else 20)
        assert log == []
        dead = counter.dead_letters()
        assert list(dead["kind"]) == [kind]
        assert "missing in the journal, or damaged" in dead["error"][0]
        assert list(counter.instances()["n_dead"]) == [1]


DEADLY = """
import os
import ironflow_nb as iron
from tests.deciders.counters import Ask, Call, counters

iron.use("deadly.db")
counter = counters()
counter.perform(Call, attempts=3)(lambda effect: os._exit(7))
if len(counter.instances()) == 0:
    counter.send(Ask("c", "x"))
counter.run_until_idle()
print(counter.dead_letters()[["attempts", "error"]].to_dict("records"))
"""


@pytest.mark.crash
def test_a_handler_that_kills_its_process_is_not_tried_for_ever(tmp_path: Path) -> None:
    codes, text = [], ""
    for _ in range(4):
        done = subprocess.run(
            [sys.executable, "-c", DEADLY], cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "IRONFLOW_KEY": "k"},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        codes.append(done.returncode)
        text = done.stdout
    assert codes == [7, 7, 7, 0]
    (dead,) = literal_eval(text)
    assert dead["attempts"] == 3
    assert dead["error"].startswith("RuntimeError: 3 attempts are used up; the last one was interrupted, lost its")
