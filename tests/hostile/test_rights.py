"""What is kept can be read by its user only, whatever the umask, from the moment on at which it is there."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.journal.ports import Durability
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.values.signed_pickles import KEY_BYTES, Signer, key_path
from ironflow_nb.values.stored_value import INLINE_LIMIT
from tests.contracts.histories import A, B, one_run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="rights are lists there")


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct, autouse=True)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@step
def large(n: int) -> bytes:
    return bytes([n]) * INLINE_LIMIT


@flow
def main(n: int) -> int:
    return sum(len(large(number)) for number in range(n))


def test_what_is_made_is_private_from_the_first_instant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "made" / ".ironflow"
    made: list[tuple[str, int]] = []
    os_open, connect = os.open, sqlite3.connect

    def open_told(path: Any, flags: int, mode: int = 0o777, **given: Any) -> int:
        if flags & os.O_CREAT and str(tmp_path) in str(path):
            made.append((str(path), mode))
        return os_open(path, flags, mode, **given)

    def connect_told(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        made.extend((str(file), rights(file)) for file in place.glob("journal.db*"))
        return connect(*args, **kwargs)

    monkeypatch.setattr(os, "open", open_told)
    monkeypatch.setattr(sqlite3, "connect", connect_told)
    with iron.open(place / "journal.db"):
        main(2)
        beside = {file.name: rights(file) for file in place.glob("journal.db*")}
    assert beside == {"journal.db": 0o600, "journal.db-wal": 0o600, "journal.db-shm": 0o600}
    assert len([path for path, _ in made if "values" in path]) == 2
    assert {mode for _, mode in made} == {0o600}
    folders = [folder for folder in (place.parent, *place.parent.rglob("*")) if folder.is_dir()]
    assert {rights(folder) for folder in folders} == {0o700}
    assert {rights(file) for file in (place / "values").rglob("*") if file.is_file()} == {0o600}


def test_a_journal_with_a_rollback_journal_is_private_too(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db", network=lambda _: "nfs")
    journal.append([one_run(A)], durability=Durability.PROCESS)
    seen: list[int] = []
    assert journal._connection is not None
    journal._connection.execute("BEGIN IMMEDIATE")
    journal._connection.execute("UPDATE runs SET updated_at = 1")
    seen += [rights(file) for file in tmp_path.iterdir()]
    journal.close()
    assert seen == [0o600, 0o600]


def test_a_journal_behind_a_link_is_private_too(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "journal.db").symlink_to(tmp_path / "disk" / "real.db")
    journal = SqliteJournal(tmp_path / "journal.db")
    journal.append([one_run(A)], durability=Durability.PROCESS)
    assert {rights(file) for file in (tmp_path / "disk").iterdir()} == {0o600}
    journal.close()


def test_a_journal_that_others_could_read_is_made_private_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / ".ironflow"
    with iron.open(place / "journal.db"):
        main(1)
    opened = {place: 0o755, place / "journal.db": 0o664, place / "values": 0o755}
    for path, mode in opened.items():
        path.chmod(mode)
    with caplog.at_level("WARNING", "ironflow_nb"), iron.open(place / "journal.db"):
        assert len(iron.runs()) == 1
        assert rights(place / "journal.db") == 0o664  # who only reads changes nothing
        main(2)
    assert {path: rights(path) for path in opened} == {
        place: 0o700,
        place / "journal.db": 0o600,
        place / "values": 0o700,
    }
    assert caplog.text.count("could be read by other users of this machine") == 1
    caplog.clear()
    with caplog.at_level("WARNING", "ironflow_nb"), iron.open(place / "journal.db"):
        main(3)
    assert caplog.text == ""


def test_the_folder_that_somebody_made_for_a_journal_keeps_its_rights(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o755)
    journal = SqliteJournal(folder / "journal.db")
    journal.append([one_run(B)], durability=Durability.PROCESS)
    journal.close()
    assert (rights(folder), rights(folder / "journal.db")) == (0o755, 0o600)


def test_the_signing_key_and_its_folder_are_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IRONFLOW_KEY", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    signed = Signer(os.urandom).sign("pickle", b"content")
    assert Signer(os.urandom).sign("pickle", b"content") == signed
    assert rights(key_path()) == 0o600
    assert rights(key_path().parent) == 0o700
    assert [file.name for file in key_path().parent.iterdir()] == [key_path().name]
    assert len(key_path().read_bytes()) == KEY_BYTES


def test_a_file_that_is_no_journal_keeps_its_rights(tmp_path: Path) -> None:
    text, other = tmp_path / "notes.db", tmp_path / "other.db"
    text.write_text("no database at all, but long enough to be read as one " * 100)
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE mine (n)")
    for path in (text, other):
        path.chmod(0o644)
        with iron.open(path), pytest.raises(iron.errors.NotAJournal):
            main(1)
        assert rights(path) == 0o644
