"""Values in frames: a few words each, without running code of theirs; what can't be read hides nothing else."""

from __future__ import annotations

import datetime as dt
import enum
import sqlite3
from collections import namedtuple
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.conftest import Lab


class Colour(enum.Enum):
    RED = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


Pair = namedtuple("Pair", "left right")


@dataclass
class Point:
    x: int
    tags: tuple[str, ...] = ()


@dataclass
class Noisy:
    x: int
    n_shown: list[int] = field(default_factory=list)

    def __repr__(self) -> str:
        raise RuntimeError("the repr of a user")


PLAIN: list[Any] = [
    None, True, 0, -1.5, "text", [], {}, [1, [2]], {"a": {"b": None}}, (), (1,), (1, 2), set(), {1}, {"a"},
    frozenset(), frozenset({1}), {1: 2}, {(1, 2): [b"x"]}, {"~": 1}, b"\0", 1 << 70, float("inf"), 1j, range(3),
    Decimal("1.50"), dt.date(2026, 1, 2), dt.timedelta(days=1, seconds=2), dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    UUID(int=5), bytearray(b"x"),
]  # fmt: skip


def shown(value: object) -> str | None:
    """Return what the frame shows of the output of a step that returned the value."""

    @step
    def make() -> object:
        return value

    @flow
    def main() -> None:
        make()

    main()
    output = iron.steps(limit=1)["output"][0]
    return None if output is pd.NA else str(output)


@pytest.mark.parametrize("lab", ["memory"], indirect=True)
@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_a_plain_value_is_shown_by_its_repr(lab: Lab, value: object) -> None:
    expected = f"{len(value)} bytes" if type(value) is bytes else repr(value)
    assert shown(value) == expected


@pytest.mark.parametrize("lab", ["memory"], indirect=True)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Point(1, ("a",)), "Point(x=1, tags=('a',))"),
        ([Point(1), {"p": Point(2)}], "[Point(x=1, tags=()), {'p': Point(x=2, tags=())}]"),
        (Pair(1, [2]), "Pair(left=1, right=[2])"),
        (Colour.RED, "Colour.RED"),
        ((Colour.RED, {Rights.READ}), "(Colour.RED, {Rights(1)})"),
        (Noisy(3), "Noisy(x=3, n_shown=[])"),
        ([Noisy(3)], "[Noisy(x=3, n_shown=[])]"),
        (np.arange(3), "ndarray int64 (3,)"),
        (pd.DataFrame({"a": [1], "b": [2]}), "DataFrame 1 x 2 (a, b)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_with_a_class_is_shown_without_its_class(lab: Lab, value: object, expected: str) -> None:
    assert shown(value) == expected


def test_a_preview_is_one_short_line(lab: Lab) -> None:
    text = shown("line\nline\n" * 300)
    assert text is not None
    assert len(text) <= 200
    assert "\n" not in text
    assert shown(["x" * 100] * 100) == "list (10301 bytes)"


def test_a_value_whose_class_is_gone_is_still_shown(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(Point(1)) == "Point(x=1, tags=())"
    monkeypatch.delattr("test_previews.Point")
    lab.die()
    assert iron.steps()["output"].tolist() == ["Point(x=1, tags=())"]
    run = iron.get_run(iron.runs()["run_id"][0])
    with pytest.raises(iron.errors.ValueUnreadable):
        run.value("make")


def test_a_pickle_of_somebody_else_is_listed_and_not_loaded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    @step
    def make() -> object:
        return {"f": lambda: 1}

    @flow
    def main() -> None:
        make()

    main()
    monkeypatch.setenv("IRONFLOW_KEY", "the key of somebody else")
    lab.die()
    steps = iron.steps()
    assert steps["status"].tolist() == ["completed"]
    assert "lambda" in steps["output"][0]
    with pytest.raises(iron.errors.UntrustedValue):
        iron.get_run(iron.runs()["run_id"][0]).value("make")


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("n_tags", "damage", "expected"),
    [
        (400, "UPDATE \"values\" SET data = x'00' WHERE codec = 'json'", "test_previews.Point (1677 bytes)"),
        (400, "UPDATE \"values\" SET data = NULL WHERE codec = 'json'", "test_previews.Point (1677 bytes)"),
        (400, 'DELETE FROM "values"', None),
        (0, "UPDATE steps SET output = CAST(output || ' ' AS BLOB)", "test_previews.Point (79 bytes)"),
        (0, "UPDATE steps SET output = '{\"x\": 1}'", "dict (8 bytes)"),
        (0, "UPDATE steps SET output = x'00'", "float (0 bytes)"),
        (0, "UPDATE steps SET output = CAST(x'ff' AS TEXT), inputs = x'ff'", "float (1 bytes)"),
        (0, "UPDATE steps SET output = NULL", None),
    ],
)
def test_damaged_and_lost_values_block_no_listing(
    lab: Lab, tmp_path: Path, n_tags: int, damage: str, expected: str | None
) -> None:
    assert shown(Point(1, ("a",) * n_tags)).startswith("Point(x=1, tags=(")
    lab.engine.journal.close()
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection, connection:
        connection.execute(damage)
    connection.close()
    assert len(iron.runs()) == len(iron.steps()) == len(iron.attempts()) == 1
    assert len(iron.events()) == 4
    steps = iron.steps()
    assert steps["output"].isna()[0] == steps["output_bytes"].isna()[0] == (expected is None)
    assert expected in {None, steps["output"][0]}


def test_a_lost_value_file_blocks_no_listing(lab: Lab, tmp_path: Path) -> None:
    large = "x" * 100_000
    assert shown(large) == "str (100002 bytes)"
    for path in [path for path in (tmp_path / "values").rglob("*") if path.is_file()]:
        path.unlink()
    assert iron.steps()["output"].tolist() == ["str (100002 bytes)"]
    assert iron.steps()["output_bytes"].tolist() == [100_002]


def test_looking_changes_nothing(lab: Lab) -> None:
    shown(Noisy(1))
    before = iron.events()["position"].tolist()
    for frame in (iron.runs, iron.steps, iron.attempts, iron.events):
        frame()
    assert iron.events()["position"].tolist() == before
