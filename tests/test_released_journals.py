"""Journals of every released schema: they open, show their history, and their unfinished runs continue."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.journal.schema import SCHEMA_VERSION
from tests.journals import make

KEPT = sorted((Path(__file__).parent / "journals").glob("schema_*.db"))


def test_there_is_a_journal_of_the_current_schema() -> None:
    assert f"schema_{SCHEMA_VERSION}" in {path.stem for path in KEPT}


@pytest.fixture(params=KEPT, ids=lambda path: path.stem)
def journal(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IRONFLOW_KEY", make.KEY)
    return Path(shutil.copy(request.param, tmp_path / "journal.db"))


def test_a_kept_journal_shows_its_history(journal: Path) -> None:
    with iron.open(journal, read_only=True):
        runs = iron.runs()
        assert list(runs["status"]) == ["cancelled", "completed", "failed", "completed"]
        assert list(runs["key"].fillna("")) == ["cancelled", "", "", ""]
        first = iron.get_run(runs["run_id"][3])
        assert first.result() == 0.375
        assert first.values("fetch")[1] == {"n": 1, "price": Decimal("0.125"), "tags": ("a", 1)}
        assert first.value("fit").weights == [0.0, 0.125, 0.25]
        failed = iron.get_run(runs["run_id"][2])
        assert isinstance(failed.error, ConnectionError)
        assert list(failed.attempts().query("name.str.endswith('publish')")["status"]) == ["failed", "failed"]
        assert "SVG" in failed._repr_mimebundle_()["image/svg+xml"].upper()
        assert len(iron.events()) == int(iron.events()["position"].iloc[-1])


def test_an_unfinished_run_of_a_kept_journal_continues(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    performed: list[int] = []
    for step in (make.fetch, make.fit):
        assert step.spec.code
        monkeypatch.setattr(step.spec, "function", performed.append)
    REGISTRY.define(make.survey)
    with iron.open(journal):
        failed = iron.runs(status="failed")["run_id"][0]
        if journal.read_bytes().count(b"signed run") == 0:
            with pytest.raises(iron.errors.UntrustedRun, match=r"before runs were signed.*iron\.trust\("):
                iron.resume(failed)
            assert iron.trust() > 0
        run = iron.resume(failed)
        with pytest.raises(ConnectionError):
            run.result(timeout_s=20)
        assert performed == []
        assert iron.runs(run=failed)["n_reused"][0] == 5
    with closing(sqlite3.connect(journal)) as connection, connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
