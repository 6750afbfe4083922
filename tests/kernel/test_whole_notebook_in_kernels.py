"""A notebook of twenty cells that nobody marked, in real kernels: killed, run again, restored at once, edited."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.kernel.kernels import Kernel, Shown

pytestmark = pytest.mark.kernel

CELLS = {
    "on": "%load_ext ironflow_nb\n%ironflow cells on",
    "imports": "import json\nfrom dataclasses import dataclass\nimport numpy as np\nimport pandas as pd",
    "matplotlib": "%matplotlib inline\nimport matplotlib.pyplot as plt",
    "settings": "settings = {'rows': 40, 'seed': 3}\npath = 'data.json'",
    "tools": "def standardised(values):\n    return (values - values.mean()) / values.std()",
    "classes": "@dataclass\nclass Line:\n    slope: float\n    start: float\n\n    def at(self, x):\n"
    "        return self.start + self.slope * x",
    "read": "raw = json.load(open(path))\nprint(len(raw), 'read')",
    "frame": "rng = np.random.default_rng(settings['seed'])\n"
    "df = pd.DataFrame({'x': np.arange(settings['rows']), 'y': rng.normal(size=settings['rows'])})\ndf.head(2)",
    "more": "df['z'] = df['x'] * raw['factor']",
    "alias": "data = df\ndata['scaled'] = standardised(df['z'])",
    "train": "train = df.iloc[:30].copy()",
    "test": "test = df.iloc[30:].copy()",
    "fit": "slope, start = np.polyfit(train['x'], train['scaled'], 1)\nmodel = Line(float(slope), float(start))",
    "score": "error = float((model.at(test['x']) - test['scaled']).abs().mean())\nround(error, 6)",
    "plot": "figure, axes = plt.subplots()\naxes.plot(test['x'], model.at(test['x']))\nplt.show()",
    "stream": "lines = iter(['a', 'b'])",
    "first": "first = next(lines)",
    "loop": "sums = []\nfor column in ['x', 'z']:\n    sums.append(float(df[column].sum()))",
    "await": "import asyncio\nwaited = await asyncio.sleep(0, 'waited')",
    "shell": "!echo from the shell",
    "report": "report = {'error': error, 'sums': sums, 'first': first, 'waited': waited}\nprint(json.dumps(report))",
}
LOGGED = [name for name in CELLS if name not in {"on", "imports", "matplotlib", "tools", "classes"}]
MADE_AGAIN = ["plot", "stream", "first", "report"]
"""A figure and its axes are one thing, an iterator can't be stored, and the report holds the sums."""


def source_of(name: str, cells: dict[str, str]) -> str:
    note = f"print('ran {name}', file=open('bodies.log', 'a'))\n" if name in LOGGED else ""
    return note + cells[name]


def run_all(kernel: Kernel, cells: dict[str, str]) -> dict[str, Shown]:
    shown = {}
    for name in cells:
        shown[name] = kernel.run(source_of(name, cells), cell_id=name)
        assert shown[name].error is None, shown[name].traceback
    return shown


def bodies(folder: Path) -> list[str]:
    log = folder / "bodies.log"
    found = [line.removeprefix("ran ") for line in log.read_text().splitlines()] if log.exists() else []
    log.unlink(missing_ok=True)
    return found


def write(folder: Path, cells: dict[str, str]) -> Path:
    found = [
        {"cell_type": "code", "id": name, "metadata": {}, "source": source_of(name, cells), "outputs": []}
        for name in cells
    ]
    path = folder / "work.ipynb"
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": found}))
    return path


def test_a_notebook_that_nobody_prepared_survives_its_kernel(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"factor": 2}')
    environment = {"JPY_SESSION_NAME": str(write(tmp_path, CELLS))}
    with Kernel(tmp_path, environment) as kernel:
        report = run_all(kernel, CELLS)["report"].text
        assert bodies(tmp_path) == LOGGED
        kernel.kill()
    with Kernel(tmp_path, environment) as kernel:
        shown = run_all(kernel, CELLS)
        assert bodies(tmp_path) == MADE_AGAIN
        assert shown["report"].text.endswith(report)
        assert shown["read"].text.endswith("1 read\n")
        assert "from the shell" in shown["shell"].text
        assert shown["frame"].of("text/html")
        assert shown["plot"].of("image/png")
        assert kernel.run("print(data is df, list(df))").text == "True ['x', 'y', 'z', 'scaled']\n"
        kernel.kill()
    edited = CELLS | {"train": "train = df.iloc[:20].copy()"}
    write(tmp_path, edited)
    with Kernel(tmp_path, environment) as kernel:
        kernel.run(CELLS["on"], cell_id="on")
        told = kernel.run("%ironflow cells restore", cell_id="restore")
        assert told.text.startswith("restored 9 cells")
        assert "not restored: cell 11 (print('ran train'" in told.text
        assert "data:image/svg+xml" in told.of("text/html")[0]
        assert bodies(tmp_path) == ["stream", "first"]
        run_all(kernel, {name: edited[name] for name in ("train", "fit", "score", "report")})
        assert bodies(tmp_path) == ["train", "fit", "score", "report"]
