"""Writes a journal of the current schema; one of each released schema is kept beside this file.

``python -c 'from tests.journals import make; make.main()'``
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.journal.schema import SCHEMA_VERSION
from ironflow_nb.values import failures

KEY = "the key of the sample journals"


class Model:
    """Something that only a pickle keeps."""

    def __init__(self, weights: list[float]) -> None:
        self.weights = weights


@step
def fetch(n: int) -> dict[str, Any]:
    """Return something that JSON keeps in its tagged form."""
    return {"n": n, "price": Decimal(n) / 8, "tags": ("a", n)}


@step
def fit(pages: list[dict[str, Any]]) -> Model:
    """Return something that is pickled."""
    return Model([float(page["price"]) for page in pages])


@step(retries=1)
def publish(model: Model, *, works: bool) -> float:
    """Fail until it is said to work."""
    if not works:
        raise ConnectionError("nobody listens")
    return sum(model.weights)


@flow
def survey(n: int, works: bool) -> float:
    """Map, fit, publish."""
    model = fit(list(fetch.map(range(n))))
    return publish(model, works=works)


@flow
async def later(n: int) -> int:
    """Do nothing, asynchronously."""
    return n


def main() -> None:
    """Write a completed run, a failed one with retries, an async one, and a cancelled one with a key."""
    path = Path(__file__).parent / f"schema_{SCHEMA_VERSION}.db"
    path.unlink(missing_ok=True)
    os.environ["IRONFLOW_KEY"] = KEY
    failures._format_traceback = lambda _error: "Traceback: left out, for it names the folders of a machine"
    with iron.open(path):
        survey(3, works=True)
        with contextlib.suppress(ConnectionError):
            survey(4, works=False)
        later.start(1).result()
        with contextlib.suppress(ConnectionError):
            survey.options(key="cancelled")(2, works=False)
        iron.get_run(iron.runs(limit=1)["run_id"][0]).cancel()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode=DELETE")
