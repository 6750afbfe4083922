"""A process that dies while it deletes: nothing of another run is lost, and the next call does the rest."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.journal.ports import Durability, Journal
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.testing.process_death import MOMENTS, Died, DyingJournal, abandon, process_on
from ironflow_nb.values.value_files import ValueFiles
from tests.retention.flows import call, everything, files_of, rows, values_of, whole

pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a journal of three runs, of which the second is the one to delete."""
    folder = tmp_path_factory.mktemp("template")
    os.environ.setdefault("IRONFLOW_KEY", "a key of the tests")
    with iron.open(folder / "journal.db", durability="process"):
        for n in (1, 2, 1):
            call(whole, n)
    return folder


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file without a row go at once: no other process is about to refer to it."""
    monkeypatch.setattr("ironflow_nb.retention.unused_values.YOUNG_S", -1e9)


def second() -> iron.Run[Any]:
    return iron.get_run(iron.runs(whole)["run_id"].iloc[1])


def state(path: Path) -> tuple[Any, ...]:
    return rows(path), values_of(path), files_of(path)


def deleted_in(journal: Journal) -> bool:
    """Delete the second run and die on the way; return False if it was done before."""
    with process_on(journal, Durability.PROCESS) as engine:
        try:
            second().delete()
        except Died:
            abandon(engine)
            return True
    return False


def check(path: Path, template: Path, expected: tuple[Any, ...]) -> None:
    """Check that a new process reads what is not deleted, and that it ends what the dead one began."""
    with process_on(SqliteJournal(path), Durability.PROCESS):
        runs = set(iron.runs(whole)["run_id"])
        assert len(runs) in {2, 3}
        everything()
        iron.prune("child", older_than=0, dry_run=False)  # nothing fits: a child goes with its parent
        if len(runs) == 3:
            second().delete()
        everything()
    assert state(path) == expected


def copied(template: Path, folder: Path) -> Path:
    shutil.copytree(template, folder)
    return folder / "journal.db"


@pytest.fixture
def expected(template: Path, tmp_path: Path) -> tuple[Any, ...]:
    path = copied(template, tmp_path / "undisturbed")
    with iron.open(path, durability="process"):
        second().delete()
        everything()
    return state(path)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_it_dies_well_at_every_commit(template: Path, tmp_path: Path, moment: str, expected: tuple[Any, ...]) -> None:
    commit = 0
    is_dead = True
    while is_dead:
        commit += 1
        path = copied(template, tmp_path / str(commit))
        journal = SqliteJournal(path)
        is_dead = deleted_in(DyingJournal(journal, at_commit=commit, moment=moment))
        journal.close()
        check(path, template, expected)
    assert commit >= 5


@pytest.mark.parametrize("moment", MOMENTS)
def test_it_dies_well_at_every_file(
    template: Path, tmp_path: Path, moment: str, expected: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = ValueFiles.remove

    def dying(at: int) -> Callable[[ValueFiles, Any], None]:
        left = [at]

        def die(self: ValueFiles, value_id: Any) -> None:
            left[0] -= 1
            if left[0] == 0 and moment == "before":
                raise Died
            remove(self, value_id)
            if left[0] == 0:
                raise Died

        return die

    n_file = 0
    is_dead = True
    while is_dead:
        n_file += 1
        path = copied(template, tmp_path / f"file{n_file}")
        journal = SqliteJournal(path)
        with monkeypatch.context() as patched:
            patched.setattr(ValueFiles, "remove", dying(n_file))
            is_dead = deleted_in(journal)
        journal.close()
        check(path, template, expected)
    assert n_file >= 2


PRUNES = """
import ironflow_nb as iron
iron.use({path!r}, durability="process")
print("begins", flush=True)
iron.prune("busy", older_than=0, dry_run=False)
"""


@iron.step
def item(n: int) -> str:
    return f"{n} " * 1000


@iron.flow(name="busy")
def busy(n: int) -> int:
    return sum(map(len, item.map(range(n, n + 3))))


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_prunes_leaves_whole_runs(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with iron.open(path, durability="process"):
        for n in range(60):
            busy(n)
        kept = call(whole, 1)
    before = 61
    for wait_s in (0.02, 0.2):
        process = subprocess.Popen(
            [sys.executable, "-c", PRUNES.format(path=str(path))], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(wait_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.wait(60)
        process.stdout.close()
        with iron.open(path, durability="process"):
            n_runs = len(iron.runs()) - 1
            assert n_runs <= before
            before = n_runs
            everything()
    with iron.open(path, durability="process"):
        iron.prune("busy", older_than=0, dry_run=False)
        assert set(iron.runs()["run_id"]) == {kept.id, *iron.runs("child")["run_id"]}
        assert set(iron.steps()["run_id"]) == set(iron.runs()["run_id"])
        everything()
