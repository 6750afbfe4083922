"""Naming a file once: where files have second names, and where they have none."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ironflow_nb.core.identity import ValueId
from ironflow_nb.errors import JournalReadOnly
from ironflow_nb.values.private_files import publish, whole_file
from ironflow_nb.values.value_files import ValueFiles


def refuses(number: int) -> Callable[..., Any]:
    def link(*_args: object, **_kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    return link


WITHOUT = {
    "the disk has none": lambda patch: patch.setattr(os, "link", refuses(errno.EPERM)),
    "the system has none": lambda patch: patch.delattr(os, "link"),
    "they work": lambda _patch: None,
}


@pytest.fixture(params=WITHOUT.values(), ids=WITHOUT)
def temporary(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    request.param(monkeypatch)
    file = tmp_path / "temporary"
    file.write_text("new")
    return file


def test_a_file_gets_a_name_that_is_free(temporary: Path, tmp_path: Path) -> None:
    publish(temporary, tmp_path / "key")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("key", "new")]


def test_a_name_that_is_taken_stays_what_it_is(temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("old")
    with pytest.raises(FileExistsError):
        publish(temporary, tmp_path / "key")
    assert (tmp_path / "key").read_text() == "old"


def test_another_trouble_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuses(errno.ENOSPC))
    (tmp_path / "temporary").write_text("new")
    with pytest.raises(OSError, match="space"):
        publish(tmp_path / "temporary", tmp_path / "key")


@pytest.mark.parametrize("is_written", [True, False])
def test_a_value_file_that_can_not_be_replaced_while_somebody_reads_it_is_as_good_if_it_is_the_same(
    is_written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, value_id = ValueFiles(tmp_path), ValueId(bytes(20))

    def replace(self: Path, target: Path) -> None:  # as Windows does where another process was faster, and reads it
        if is_written:
            target.write_bytes(b"content")
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "replace", replace)
    if is_written:
        files.write(value_id, b"content")
        assert files.read(value_id, 7) == b"content"
    else:
        with pytest.raises(JournalReadOnly):
            files.write(value_id, b"content")
    assert len(list(files.path(value_id).parent.iterdir())) == is_written


def test_a_whole_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    with whole_file(tmp_path / "new" / "key") as temporary:
        temporary.write_text("half")
        assert [temporary] == list(tmp_path.rglob("*key*"))
        temporary.write_text("whole")
    assert [path.read_text() for path in tmp_path.rglob("*key*")] == ["whole"]
    with pytest.raises(FileExistsError), whole_file(tmp_path / "new" / "key") as temporary:
        temporary.write_text("another")
    with pytest.raises(ConnectionError), whole_file(tmp_path / "new" / "other") as temporary:
        raise ConnectionError
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["whole"]


@pytest.mark.skipif(os.name != "posix", reason="only there a process can be asked for")
def test_what_a_dead_process_has_left_is_removed_by_the_next(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    machine = os.uname().nodename
    left = tmp_path / f".key.{dead.pid}@{machine}.1f.tmp"
    kept = [
        tmp_path / f".key.{os.getpid()}@{machine}.1f.tmp",
        tmp_path / f".key.{dead.pid}@another.1f.tmp",
        tmp_path / f".other.{dead.pid}@{machine}.1f.tmp",
        tmp_path / ".key.tmp",
    ]
    for path in (left, *kept):
        path.touch()
    with whole_file(tmp_path / "key"):
        pass
    assert sorted(tmp_path.iterdir()) == sorted([*kept, tmp_path / "key"])
