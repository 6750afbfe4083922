"""Every byte is counted once, and what is free can be given back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import JournalBusy, JournalError, JournalFull
from tests.retention import flows
from tests.retention.flows import call, files_of

PAGES = ("page_count", "page_size")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def engine(path: Path) -> Iterator[iron.Engine]:
    with iron.open(path, durability="process") as engine:
        yield engine


def test_the_sizes_of_all_rows_are_that_of_the_journal(engine: iron.Engine, path: Path) -> None:
    for n in (1, 2, 1):
        call(flows.whole, n)
    found = iron.usage()
    with engine.reading() as reader:
        size = reader.extension(lambda each: [each.execute(f"PRAGMA {name}").fetchone()[0] for name in PAGES])
    assert found["journal_bytes"].sum() == size[0] * size[1]
    on_disk = sum((path.parent / "values" / name[2:4] / name).stat().st_size for name in files_of(path))
    assert found["file_bytes"].sum() == on_disk == 200_000
    assert found["n_events"].sum() == len(iron.events())
    assert found["n_attempts"].sum() == len(iron.attempts())
    assert list(found["step"].tail(2).sort_values()) == ["free", "others"]


def test_a_value_that_is_stored_once_is_counted_once(engine: iron.Engine) -> None:
    for _ in range(3):
        call(flows.whole, 1)
    large = iron.usage().query("step.str.endswith('large')").iloc[0]
    assert (large["file_bytes"], large["shared_bytes"], large["n_values"]) == (100_000, 200_000, 1)


def test_of_a_journal_that_does_not_exist_nothing_is_used(engine: iron.Engine) -> None:
    assert iron.usage()["n_runs"].sum() == 0


def test_what_was_deleted_is_free_and_can_be_given_back(engine: iron.Engine, path: Path) -> None:
    for n in range(12):
        call(flows.whole, n)
    kept = list(iron.runs()["run_id"][:4])
    iron.prune(flows.whole, keep=2, dry_run=False)
    free = iron.usage().query("step == 'free'")["journal_bytes"].iloc[0]
    assert free > 0
    assert iron.vacuum() >= free
    assert iron.usage().query("step == 'free'")["journal_bytes"].iloc[0] == 0
    assert list(iron.runs()["run_id"]) == kept
    newer = call(flows.whole, 99)
    assert newer.id in set(iron.runs()["run_id"][:2])


def test_while_a_run_goes_on_the_journal_is_not_written_anew(engine: iron.Engine) -> None:
    @iron.flow
    def patient() -> None:
        iron.wait_for("go")

    run = patient.start()
    with pytest.raises(JournalBusy, match="a run of this process"):
        iron.vacuum()
    run.cancel().wait(timeout_s=60)
    iron.vacuum()


OTHER = """
import ironflow_nb as iron
iron.use({path!r})

@iron.flow
def waits():
    print("begun", flush=True)
    input()

waits()
"""


@pytest.mark.slow
def test_another_process_on_the_journal_is_named(engine: iron.Engine, path: Path) -> None:
    call(flows.child, 1)
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER.format(path=str(path))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "begun"
    try:
        while len(iron.runs(status="running")) == 0:  # its lease comes with its first event
            assert process.poll() is None
        with pytest.raises(JournalBusy) as caught:
            iron.vacuum()
        assert caught.value.pids == [process.pid]
    finally:
        process.communicate("\n")


def test_a_full_disk_is_told_before(engine: iron.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    call(flows.child, 1)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(JournalFull, match="10 are free"):
        iron.vacuum()


def test_a_journal_in_memory_has_nothing_to_give_back() -> None:
    with iron.open(":memory:"), pytest.raises(JournalError, match="is no file"):
        iron.vacuum()
