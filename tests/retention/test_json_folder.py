"""Runs as a folder of JSON: what other programs read of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.errors import JournalError, NotAJournal
from tests.conftest import Lab

WORKS: list[bool] = []


def of(path: Path, run: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / f"{run.id}.json").read_text())
    return found


def test_a_run_is_a_document_with_its_steps(lab: Lab, tmp_path: Path) -> None:
    table = step(lambda n: pd.DataFrame({"n": [n, math.nan]}), name="table")
    count = step(len, name="count")
    made = flow(lambda n: count(table(n)), name="counted")
    run = made.start(1)
    assert run.result() == 2
    found = of(iron.export_folder(run, tmp_path / "json"), run)
    assert found["id"] == run.id
    assert (found["flow_name"], found["status"], found["ctx"]) == ("counted", "success", {"n": 1, "result": 2})
    assert found["started"] <= found["finished"]
    assert found["tasks"]["table[0]"]["output"] == [{"n": 1.0}, {"n": None}]
    assert found["tasks"]["table[0]"]["input"] == {"n": 1}
    assert {"name": "count[0]", "status": "success", "attempt": 1, "output": 2}.items() <= found["tasks"][
        "count[0]"
    ].items()


def test_a_failed_run_tells_why_and_its_file_is_replaced(lab: Lab, tmp_path: Path) -> None:
    WORKS.clear()

    @step(name="work")
    def work(n: int) -> int:
        if not WORKS:
            raise LookupError("no such page")
        return n

    made = flow(lambda n: work(n), name="failing")
    run = made.start(1)
    with pytest.raises(LookupError):
        run.result()
    found = of(iron.export_folder([run], tmp_path), run)
    assert (found["status"], found["tasks"]["work[0]"]["status"]) == ("failed", "failed")
    assert "LookupError: no such page" in found["error"]
    assert "LookupError: no such page" in found["tasks"]["work[0]"]["error"]
    WORKS.append(True)
    run.resume().result()
    found = of(iron.export_folder(iron.runs(), tmp_path), run)
    assert (found["status"], found["tasks"]["work[0]"]["attempt"], "error" in found) == ("success", 2, False)
    assert [path.name for path in tmp_path.glob("*.json")] == [f"{run.id}.json"]


def test_a_folder_that_can_not_be_written_is_told(lab: Lab, tmp_path: Path) -> None:
    run = flow(lambda: 1, name="one").start()
    run.result()
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="can't be written"):
        iron.export_folder(run, tmp_path / "file")
    iron.export_folder(run, tmp_path)
    with pytest.raises(NotAJournal):
        iron.import_(tmp_path / f"{run.id}.json")
