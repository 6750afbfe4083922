"""Nothing but SQLite opens the files of a journal that is in use: closing them would take its locks away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.identity import ValueId
from ironflow_nb.journal.ports import Durability
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.values.value_files import ValueFiles
from tests.contracts.histories import A, one_run

ENDINGS: Final = ("", "-wal", "-shm")
ALONE: Final = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0)
try:
    connection.execute("PRAGMA journal_mode=DELETE")
except sqlite3.OperationalError as error:
    print(error)
"""


@step
def size(file: iron.File) -> int:
    return len(file.read_bytes())


@flow
def sizes(file: iron.File) -> int:
    return size(file)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """The path of a journal that this process has open."""
    journal = SqliteJournal(tmp_path / "place" / "journal.db")
    journal.append([one_run(A)], durability=Durability.PROCESS)
    with iron.open(tmp_path / "own.db"):
        yield journal.path
    journal.close()


def is_locked(path: Path) -> bool:
    """Tell whether another process finds that somebody has the journal open."""
    told = subprocess.run([sys.executable, "-c", ALONE, path], check=True, capture_output=True, text=True).stdout
    return "database is locked" in told


def linked(file: Path) -> Path:
    other = file.with_name("other.name")
    os.link(file, other)
    return other


def pointed(file: Path) -> Path:
    other = file.with_name("link.name")
    other.symlink_to(file)
    return other


NAMES: dict[str, Callable[[Path], Path]] = {
    "its own": lambda file: file,
    "spelt otherwise": lambda file: Path(f"{file.parent}/../{file.parent.name}//./{file.name}"),
    "a second name": linked,
    "a link": pointed,
    "relative": lambda file: Path(os.path.relpath(file)),
}


def node(kind: str) -> Callable[[Path], Any]:
    def act(file: Path) -> Any:
        place = file.parent.resolve()
        does = kind.replace("IT", str(place / file.name))
        return iron.Graph.from_yaml(f"graph: taken\nallow: {{files: [{place}]}}\nnodes: [{{id: it, {does}}}]")()

    return act


def declared(file: Path) -> Any:
    @step(depends=[file])
    def work() -> int:
        return 1

    return flow(lambda: work(), name="declared")()


WAYS: dict[str, Callable[[Path], Any]] = {
    "digest": lambda file: iron.File(file).digest(),
    "open": lambda file: iron.File(file).open("rb"),
    "open to append": lambda file: iron.File(file).open("ab"),
    "bytes": lambda file: iron.File(file).read_bytes(),
    "text": lambda file: iron.File(file).read_text(),
    "argument": lambda file: sizes(iron.File(file)),
    "declared": declared,
    "yaml": lambda file: iron.Graph.from_yaml(file),
    "read": node("file: {read: IT}"),
    "read bytes": node("file: {read: IT, as: bytes}"),
    "write": node("file: {write: IT, content: x}"),
    "append": node("file: {append: IT, content: x}"),
    "copy": node("file: {copy: IT, to: IT.copy}"),
    "move": node("file: {move: IT, to: IT.moved}"),
    "delete": node("file: {delete: IT}"),
    "sql": node("sql: {database: IT, query: SELECT 1}"),
    "sql that writes": node("sql: {database: IT, write: true, query: DELETE FROM runs}"),
}


@pytest.mark.parametrize("act", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    ("ending", "name"), [*(("", name) for name in NAMES), *((ending, "its own") for ending in ENDINGS[1:])]
)
def test_a_file_of_a_journal_in_use_is_refused_by_whatever_name_and_the_journal_stays_locked(
    name: str, ending: str, act: Callable[[Path], Any], path: Path
) -> None:
    file = path.with_name(f"{path.name}{ending}")
    before = file.stat()
    with pytest.raises(
        (iron.IronflowError, OSError),
        match=r"belongs to the journal .*in use here.*iron\.backup|became a link|a link was put",
    ):
        act(NAMES[name](file))
    assert (file.stat().st_ino, file.stat().st_size) == (before.st_ino, before.st_size)


@pytest.mark.parametrize("does", ["move: place, to: elsewhere", "delete: place, recursive: true"])
def test_a_folder_with_a_journal_in_use_is_neither_moved_nor_deleted(does: str, path: Path, tmp_path: Path) -> None:
    text = f"graph: taken\nallow: {{files: [{tmp_path}]}}\nnodes: [{{id: it, file: {{{does}}}}}]"
    graph = iron.Graph.from_yaml(text.replace("place", str(path.parent)).replace("elsewhere", str(tmp_path / "new")))
    with pytest.raises(iron.NodeFailed, match=r"the journal .*journal\.db, which is in use here, lies in it"):
        graph()
    assert is_locked(path)


def test_what_was_refused_has_left_the_locks_where_they_are(path: Path) -> None:
    for act in WAYS.values():
        for ending in ENDINGS:
            with pytest.raises((iron.IronflowError, OSError)):
                act(path.with_name(f"{path.name}{ending}"))
    iron.doctor()
    assert is_locked(path)
    with path.open("rb"):
        pass
    assert not is_locked(path)  # so this test could see it


def test_a_folder_that_is_declared_does_without_the_journal_in_it(path: Path) -> None:
    path.with_name("model.txt").write_text("1")

    @step(depends=[path.parent])
    def work() -> int:
        return 1

    assert flow(lambda: work(), name="declared")() == 1
    assert is_locked(path)


def test_a_value_file_that_is_a_second_name_of_the_journal_is_not_read(path: Path, tmp_path: Path) -> None:
    files = ValueFiles(tmp_path / "values")
    value_id = ValueId(bytes(20))
    files.path(value_id).parent.mkdir(parents=True)
    os.link(path, files.path(value_id))
    with pytest.raises(iron.errors.ValueUnreadable, match="belongs to the journal"):
        files.read(value_id, path.stat().st_size)
    files.write(value_id, bytes(path.stat().st_size))
    assert is_locked(path)


def test_a_journal_that_nobody_here_uses_any_more_is_a_file_as_any_other(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = SqliteJournal(path)
    journal.append([one_run(A)], durability=Durability.PROCESS)
    journal.close()
    assert iron.File(path).read_bytes().startswith(b"SQLite format 3")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_a_file_that_is_no_ordinary_one_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    place = {"pipe": tmp_path / "pipe", "folder": tmp_path, "device": Path("/dev/zero")}[kind]
    if kind == "pipe":
        os.mkfifo(place)
    word = "it is a folder" if kind == "folder" else "it is no ordinary file, but a pipe, a device or a socket"
    file = iron.File(place)
    for act in (file.digest, file.open, file.read_bytes, file.read_text, lambda: sizes(file)):
        with pytest.raises(iron.errors.FileUnreadable, match=word):
            act()
