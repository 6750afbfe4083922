"""Files and folders that may not be written, or not even looked at, by a user who is not root."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.journal.ports import Durability
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from tests.contracts.histories import A, Author, B, one_run
from tests.hostile.conftest import Disk

pytestmark = pytest.mark.crash

ROOT = Path(__file__).parent.parent.parent
FAST = Durability.PROCESS


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a folder that every user gets to, which those of pytest are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    inner = folder / "inner"
    inner.mkdir()
    yield inner
    inner.chmod(0o777)
    shutil.rmtree(folder)


def written(path: Path) -> SqliteJournal:
    """Return an open journal with one run and one step."""
    author = Author()
    author.start(A)
    author.begin_step(A, "fetch")
    journal = SqliteJournal(path)
    journal.append([author.entry(A)], durability=FAST)
    return journal


def used(path: Path) -> dict[str, Any]:
    """Return what a user without rights is told."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    command = [sys.executable, "-m", "tests.hostile.unprivileged", str(path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=60)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


CASES = {"file": (0o444, 0o777), "file and folder": (0o444, 0o555), "folder": (0o666, 0o555)}


@pytest.mark.parametrize(("file_mode", "folder_mode"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open elsewhere"])
def test_what_may_not_be_written_can_be_read(place: Path, file_mode: int, folder_mode: int, is_open: bool) -> None:
    path = place / "journal.db"
    journal = written(path)
    if not is_open:
        journal.close()
    for file in place.iterdir():
        file.chmod(file_mode)
    place.chmod(folder_mode)
    told = used(path)
    expected = {"statuses": ["interrupted"], "steps": 1, "events": 2}
    if is_open and (file_mode, folder_mode) == CASES["folder"]:
        assert told["write"] == 10  # SQLite needs nothing new in the folder as long as somebody has it open
        assert told["write a file"]["kind"] == "JournalReadOnly"
    else:
        assert told["write"]["kind"] == told["write a file"]["kind"] == "JournalReadOnly"
        assert str(path) in told["write"]["text"]
        assert "permissions" in told["write"]["text"]
        assert told["read again"] == expected
    assert told["read"] == expected
    journal.close()
    place.chmod(0o777)
    path.chmod(0o666)
    with iron.open(path):
        assert iron.runs()["run_id"].tolist()[-1] == A


def test_a_folder_that_may_not_be_entered_is_told_of(place: Path) -> None:
    written(place / "journal.db").close()
    place.chmod(0)
    for answer in used(place / "journal.db").values():
        assert answer["kind"] == "JournalReadOnly"
        assert "permissions" in answer["text"]


def test_a_folder_that_may_not_be_made_is_told_of(place: Path) -> None:
    place.chmod(0o555)
    told = used(place / "new" / "journal.db")
    assert told["read"]["statuses"] == []
    assert told["write"]["kind"] == "JournalReadOnly"
    assert "another path" in told["write"]["text"]
    assert list(place.iterdir()) == []


def test_a_file_system_that_became_read_only_can_be_read_and_is_told_of(disk: Disk) -> None:
    path = disk.folder / "journal.db"
    written(path).close()
    subprocess.run(["mount", "-o", "remount,ro", str(disk.folder)], check=True)
    journal = SqliteJournal(path)
    with journal.reading() as reader:
        assert reader.head(A) is not None
    with pytest.raises(iron.errors.JournalReadOnly, match="permissions"):
        journal.append([one_run(B)], durability=FAST)
    with pytest.raises(iron.errors.JournalReadOnly):
        SqliteJournal(disk.folder / "new" / "journal.db").append([one_run(B)], durability=FAST)
    subprocess.run(["mount", "-o", "remount,rw", str(disk.folder)], check=True)
    journal.append([one_run(B)], durability=FAST)
    journal.close()
