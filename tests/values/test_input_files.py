"""`iron.File`: a path whose content counts."""

from __future__ import annotations

import dataclasses
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.values import argument_types
from tests.values.workshop import new_values


@dataclasses.dataclass(frozen=True)
class Job:
    data: iron.File
    n: int = 1


@pytest.fixture
def data() -> iron.File:
    Path("data.csv").write_text("a,b\n1,2\n")
    return iron.File("data.csv")


def digest(value: object) -> bytes:
    return new_values().digester.digest(value).digest


def holders(file: iron.File) -> list[Any]:
    return [file, [file], {"data": file}, (1, file), Job(file), [Job(file)], {"jobs": {file}}]


def test_it_is_a_path(data: iron.File) -> None:
    assert data.path == Path("data.csv")
    assert os.fspath(data) == str(data) == f"{data}" == "data.csv"
    assert data.read_text() == "a,b\n1,2\n"
    assert data.read_bytes() == b"a,b\n1,2\n"
    with data.open() as lines, open(data, "rb") as raw:  # noqa: PTH123 -- it is what takes a path
        assert next(lines) == "a,b\n"
        assert raw.read(1) == b"a"
    assert repr(data) == "File('data.csv')"


def test_equal_paths_are_equal_files(data: iron.File) -> None:
    assert data == iron.File(Path("data.csv")) == iron.File("./data.csv")
    assert data != iron.File("other.csv")
    assert data != Path("data.csv")
    assert len({data, iron.File("data.csv"), Path("data.csv")}) == 2
    assert pickle.loads(pickle.dumps(data)) == data


def test_the_content_identifies_wherever_the_file_is_held(data: iron.File) -> None:
    before = list(map(digest, holders(data)))
    assert list(map(digest, holders(data))) == before
    os.utime(data, (1, 1))
    assert list(map(digest, holders(data))) == before
    data.path.write_text("a,b\n1,3\n")
    assert not set(map(digest, holders(data))) & set(before)


@pytest.mark.parametrize("path", [3, None, b"data.csv", ["data.csv"]])
def test_what_is_no_path_is_refused_with_words(path: Any) -> None:
    with pytest.raises(TypeError, match=r'iron.File takes the path of a file, such as iron.File\("data.csv"\), not '):
        iron.File(path)


def test_the_path_identifies_too(data: iron.File) -> None:
    Path("copy.csv").write_bytes(data.read_bytes())
    assert digest(iron.File("copy.csv")) != digest(data)
    assert digest("data.csv") != digest(Path("data.csv")) != digest(data)


def test_it_is_stored_in_a_few_bytes_and_comes_back_equal(data: iron.File) -> None:
    values = new_values()
    data.path.write_bytes(bytes(200_000))
    for value in holders(data):
        stored = values.encode(value)
        assert stored.codec == "json"
        assert stored.size < 300
        found = values.decode(stored)
        assert found == value
        assert digest(found) == digest(value)


def test_a_large_file_is_read_once_for_each_of_its_states(data: iron.File, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    really = argument_types.content_digest
    monkeypatch.setattr(argument_types, "content_digest", lambda path: read.append(path) or really(path))
    data.path.write_bytes(bytes(100_000))
    first = data.digest()
    assert [data.digest() for _ in range(5)] == [first] * 5
    assert len(read) == 1
    data.path.write_bytes(bytes(100_001))
    assert data.digest() != first
    assert len(read) == 2
    Path("new").write_bytes(b"1" * 100_001)
    Path("new").replace(data.path)
    data.digest()
    assert len(read) == 3


def test_a_small_file_that_is_written_twice_in_one_instant_is_two_contents(data: iron.File) -> None:
    digests = set()
    for text in "abc":
        data.path.write_text(text)
        os.utime(data, ns=(1, 1))
        digests.add(data.digest())
    assert len(digests) == 3


@pytest.mark.parametrize(("path", "why"), [("nowhere.csv", "No such file"), (".", "it is a folder")])
def test_what_can_not_be_read_is_an_error_that_names_it(path: str, why: str) -> None:
    for value in holders(iron.File(path)):
        with pytest.raises(iron.errors.FileUnreadable, match=rf"iron\.File\('{path}'\) .*{why}") as raised:
            digest(value)
    assert isinstance(raised.value, OSError)
    with pytest.raises(iron.errors.FileUnreadable):
        new_values().encode(iron.File(path))
