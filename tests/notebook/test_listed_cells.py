"""``%ironflow cells``: how each durable cell stands, and how they hang together."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.durable_cells.cell import KIND
from ironflow_nb.durable_cells.cell_lookup import RegisteredCell
from ironflow_nb.durable_cells.notebook_file import durable_cells_in, to_python
from ironflow_nb.execution.registry import REGISTRY
from tests.notebook.shells import Shell

CELLS = {
    "load": "import pandas as pd\ndf = pd.DataFrame({'a': [1, 2]})\nn = 3",
    "clean": "cleaned = scale(df, n)",
    "other": "k = n + 1",
    "sum": "total = int(cleaned.a.sum()) + k",
}
HELPER = "def scale(df, n):\n    return df * n"
COLUMNS = ["name", "status", "reason", "ins", "outs", "duration_s", "finished_at", "run_id", "label", "outcome"]


@pytest.fixture
def ready(shell: Shell) -> Shell:
    """A shell in which the four cells were executed."""
    shell.fine("%load_ext ironflow_nb")
    assert iron.cells().empty
    run_all(shell)
    return shell


def run_all(shell: Shell, helper: str = HELPER, **edited: str) -> None:
    shell.fine(helper)
    for name, source in (CELLS | edited).items():
        shell.fine(f"%%step {name}\n{source}")


def statuses(**options: Any) -> dict[str, str]:
    frame = iron.cells(**options)
    return dict(zip(frame["name"], frame["status"], strict=True))


def reasons() -> dict[str, str]:
    frame = iron.cells()
    return {
        name: reason for name, reason in zip(frame["name"], frame["reason"], strict=True) if isinstance(reason, str)
    }


def saved(path: Path, **edited: str) -> Path:
    """Save the cells as a notebook that is newer than what was executed."""
    sources = [HELPER, *(f"%%step {name}\n{source}" for name, source in (CELLS | edited).items() if source)]
    cells = [{"cell_type": "code", "id": f"c{n}", "source": text} for n, text in enumerate(sources)]
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}))
    os.utime(path, (time.time() + 60, time.time() + 60))
    return path


def test_what_was_executed_is_fresh(ready: Shell) -> None:
    frame = ready.fine("%ironflow cells").value
    assert list(frame.columns) == COLUMNS
    assert frame["name"].tolist() == list(CELLS)
    assert set(frame["status"]) == {"fresh"}
    assert frame["ins"].tolist() == ["", "df, n", "n", "cleaned, k"]
    assert frame["outs"].tolist() == ["df, n", "cleaned", "k", "total"]
    assert frame["run_id"].tolist() == iron.runs()["run_id"].tolist()[::-1]
    assert str(frame["finished_at"].dtype) == "datetime64[us, UTC]"
    assert (frame["duration_s"] >= 0).all()


def test_an_edited_helper_makes_stale_what_uses_it_and_what_follows(ready: Shell) -> None:
    ready.fine(HELPER + " + 1")
    assert statuses() == {"load": "fresh", "clean": "stale", "other": "fresh", "sum": "stale"}
    assert reasons() == {"clean": "edited line 2 of `scale`", "sum": "input cleaned comes from clean, which is stale"}
    ready.fine(HELPER)
    assert set(statuses().values()) == {"fresh"}


def test_looking_writes_and_executes_nothing(ready: Shell) -> None:
    before = len(iron.events())
    names = dict(ready.space)
    iron.cells()
    repr(iron.cells_diagram())
    assert len(iron.events()) == before
    assert dict(ready.space) == names


def test_a_failed_cell_is_failed_and_a_new_one_was_never_run(ready: Shell, tmp_path: Path) -> None:
    ready.run("%%step other\n1 / 0")
    assert statuses()["other"] == "failed"
    assert reasons()["sum"] == "input k comes from other, which is failed"


def test_the_notebook_file_tells_the_order_what_is_gone_and_what_was_never_run(ready: Shell, tmp_path: Path) -> None:
    path = saved(tmp_path / "folder" / "a.ipynb", load="", last="total = total")
    ready.space["__vsc_ipynb_file__"] = str(path)
    run_all(ready, last="total = total")
    saved(path, load="", new="x = 1")
    assert statuses() == {
        "clean": "fresh", "other": "fresh", "sum": "fresh", "new": "never run", "load": "gone", "last": "gone",
    }  # fmt: skip
    saved(path, other="k = n + 2")
    assert statuses()["other"] == "stale"
    assert statuses()["sum"] == "stale"


def test_in_a_new_process_it_is_known_from_the_journal_before_anything_is_executed(ready: Shell) -> None:
    for name in ("df", "n", "k", "cleaned", "total", "scale"):
        del ready.space[name]
    for name in CELLS:
        REGISTRY.forget("cell", name)
    assert statuses() == dict.fromkeys(CELLS, "fresh")


def test_the_picture_joins_what_leaves_a_name_behind_with_who_takes_it_in(ready: Shell) -> None:
    drawn = iron.cells_diagram()
    edges = {(edge.source, edge.target): edge.label for edge in drawn.diagram.edges}
    assert edges == {
        ("load", "clean"): "df, n", ("load", "other"): "n", ("clean", "sum"): "cleaned", ("other", "sum"): "k",
    }  # fmt: skip
    assert {name: str(state.status) for name, state in drawn.states.items()} == dict.fromkeys(CELLS, "completed")
    ready.fine(HELPER + " + 1")
    states = {name: str(state.status) for name, state in iron.cells_diagram().states.items()}
    assert states == {"load": "completed", "clean": "pending", "other": "completed", "sum": "pending"}
    bundle = drawn._repr_mimebundle_()
    assert bundle["image/svg+xml"].startswith("<svg")
    assert "clean" in bundle["text/plain"]


def test_a_cell_with_blank_lines_above_its_magic_is_the_one_that_was_executed(ready: Shell, tmp_path: Path) -> None:
    ready.fine("\n  \n%%step load\n" + CELLS["load"])
    path = saved(tmp_path / "own.ipynb")
    found = json.loads(path.read_text())
    found["cells"][1]["source"] = "\n  \n" + found["cells"][1]["source"]
    path.write_text(json.dumps(found))
    cells = list(durable_cells_in(path, to_python))
    assert [cell.name for cell in cells] == list(CELLS)
    known = REGISTRY.find(KIND, "load")
    assert isinstance(known, RegisteredCell)
    assert (cells[0].text, cells[0].source.rstrip()) == (known.cell.text.rstrip(), known.cell.source.rstrip())


def test_the_frame_of_cells_shows_their_picture(ready: Shell) -> None:
    ready.fine(HELPER + " + 1")
    shown = ready.fine("import ironflow_nb as iron\niron.cells()").value
    drawn = iron.cells_diagram()
    assert "clean: stale" in repr(drawn)
    assert "load: fresh" in repr(drawn)
    assert drawn.picture().html in shown._repr_html_()
    assert "<object" not in shown[shown["status"] == "stale"]._repr_html_()


def test_a_cell_that_is_executed_again_keeps_its_place(shell: Shell) -> None:
    shell.fine("%load_ext ironflow_nb")
    for name, n in (("load", 1), ("clean", 2), ("load", 3)):
        shell.ipython.run_cell(f"%%step {name}\n{name}_ = {n}", store_history=True, cell_id=name)
    assert iron.cells()["name"].tolist() == ["load", "clean"]
