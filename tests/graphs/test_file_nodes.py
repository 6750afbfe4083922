"""The kind file: real files and folders, what is whole or not at all, each thing that can be done to them."""

from __future__ import annotations

import json
import os
import shutil
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ironflow_nb.errors import NodeFailed, NodeTimeout, NotGranted
from ironflow_nb.graphs.grants import Need
from ironflow_nb.graphs.nodes import folders
from ironflow_nb.graphs.nodes.files import FILE
from tests.graphs.file_nodes import EVERY_WAY, make_data, names, perform, posix, written


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_data(tmp_path)


# -- reading and writing -----------------------------------------------------------------------------------------


def test_what_is_written_can_be_read(data: Path) -> None:
    text = "größe\r\nline\n"
    assert perform(write="data/a/b/c.txt", content=text) == {"path": "data/a/b/c.txt", "bytes": 14}
    assert (data / "a" / "b" / "c.txt").read_bytes() == text.encode()
    assert perform(read="data/a/b/c.txt") == {"path": "data/a/b/c.txt", "content": text, "bytes": 14}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary())
def test_bytes_come_back_as_they_were(data: Path, content: bytes) -> None:
    perform(write="data/it", content=content)
    assert perform(read="data/it", **{"as": "bytes"})["content"] == content


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    ).filter(lambda value: not isinstance(value, str))
)  # fmt: skip
def test_other_data_are_written_as_json(data: Path, content: Any) -> None:
    perform(write="data/it.json", content=content)
    assert json.loads((data / "it.json").read_text("utf-8")) == content


def test_what_is_appended_follows_and_data_are_lines_of_json(data: Path) -> None:
    assert perform(append="data/log/a.jsonl", content={"n": 1})["bytes"] == 9
    assert perform(append="data/log/a.jsonl", content="text\n")["bytes"] == 14
    perform(append="data/log/a.jsonl", content=[datetime(2026, 1, 2, tzinfo=UTC)])
    assert (data / "log" / "a.jsonl").read_text() == '{"n": 1}\ntext\n["2026-01-02T00:00:00Z"]\n'


@pytest.mark.parametrize("content", [float("nan"), {"a": {1, 2}}, "\ud800", [b"x"]])
def test_what_has_no_form_is_told_and_leaves_nothing(data: Path, content: object) -> None:
    for action in ("write", "append"):
        with pytest.raises(NodeFailed, match="'data/a' can't be") as caught:
            perform(**{action: "data/a"}, content=content)
        assert not caught.value.is_retryable
    assert names(data) == []


def test_a_mark_at_the_beginning_of_a_text_is_left_out(data: Path) -> None:
    (data / "a").write_bytes(b"\xef\xbb\xbf{}")
    assert perform(read="data/a")["content"] == "{}"


def test_bytes_that_are_no_text_are_told(data: Path) -> None:
    (data / "a").write_bytes(b"ok\xff")
    with pytest.raises(NodeFailed, match="no text of UTF-8, at byte 2; as: bytes reads it") as caught:
        perform(read="data/a")
    assert not caught.value.is_retryable


def test_a_file_larger_than_max_bytes_is_not_read(data: Path) -> None:
    (data / "a").write_text("12345")
    assert perform(read="data/a", max_bytes=5)["content"] == "12345"
    with pytest.raises(NodeFailed, match="'data/a' can't be read: it has more than 4 bytes") as caught:
        perform(read="data/a", max_bytes=4)
    assert not caught.value.is_retryable


def test_a_file_that_is_missing_may_come(data: Path) -> None:
    with pytest.raises(NodeFailed, match="it: 'data/none' can't be read: No such file") as caught:
        perform(read="data/none")
    assert caught.value.is_retryable
    assert caught.value.path == "data/none"


# -- whole or not at all -----------------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "a").write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NodeFailed, match="No space left") as caught:
        perform(write="data/a", content="new")
    assert caught.value.is_retryable
    assert names(data) == ["a"]
    assert (data / "a").read_text() == "old"
    with pytest.raises(NodeFailed, match="No space left"):
        perform(append="data/a", content="new")
    assert (data / "a").read_text() == "old"


def test_an_interrupted_write_leaves_nothing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        perform(write="data/a", content="new")
    assert names(data) == []


def test_a_file_is_not_replaced_unless_it_may_be_but_may_be_written_again(data: Path) -> None:
    for _ in range(2):
        perform(write="data/a", content="same", overwrite=False)
    with pytest.raises(NodeFailed, match="it is there already, with another content; overwrite: true") as caught:
        perform(write="data/a", content="other", overwrite=False)
    assert not caught.value.is_retryable
    assert names(data) == ["a"]
    assert (data / "a").read_text() == "same"
    perform(write="data/a", content="other")
    assert (data / "a").read_text() == "other"


@posix
def test_a_file_that_is_replaced_keeps_its_mode(data: Path) -> None:
    (data / "a").write_text("old")
    (data / "a").chmod(0o640)
    perform(write="data/a", content="new")
    assert stat.S_IMODE((data / "a").stat().st_mode) == 0o640


@posix
def test_a_reader_of_the_old_file_is_not_disturbed(data: Path) -> None:
    (data / "a").write_text("old")
    with (data / "a").open() as file:
        perform(write="data/a", content="new")
        assert file.read() == "old"


# -- copying and moving ------------------------------------------------------------------------------------------


def test_a_file_is_copied_with_its_mode(data: Path) -> None:
    (data / "a").write_text("text")
    (data / "a").chmod(0o755)
    assert perform(copy="data/a", to="data/new/b") == {"path": "data/new/b", "bytes": 4}
    assert (data / "new" / "b").read_text() == "text"
    assert stat.S_IMODE((data / "new" / "b").stat().st_mode) == stat.S_IMODE((data / "a").stat().st_mode)


def test_a_file_and_a_folder_are_moved(data: Path) -> None:
    (data / "a").write_text("text")
    assert perform(move="data/a", to="data/x/b") == {"path": "data/x/b", "bytes": 4}
    perform(move="data/x", to="data/y")
    assert names(data) == ["y", "y/b"]


@pytest.mark.parametrize("action", ["copy", "move"])
def test_nothing_is_replaced_by_copying_or_moving_unless_it_may_be(data: Path, action: str) -> None:
    (data / "a").write_text("a")
    (data / "b").write_text("b")
    with pytest.raises(NodeFailed):
        perform(**{action: "data/a"}, to="data/b", overwrite=False)
    assert ((data / "a").read_text(), (data / "b").read_text()) == ("a", "b")
    perform(**{action: "data/a"}, to="data/b")
    assert (data / "b").read_text() == "a"


def test_a_file_is_moved_to_a_name_that_is_free(data: Path) -> None:
    (data / "a").write_text("a")
    perform(move="data/a", to="data/b", overwrite=False)
    assert names(data) == ["b"]


def test_a_file_is_moved_to_another_disk_by_copying_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "a").write_text("a")
    replace = os.replace

    def only_within(source: str, target: str, **options: Any) -> None:
        if not source.endswith(".part"):
            raise OSError(18, "Invalid cross-device link")
        replace(source, target, **options)

    monkeypatch.setattr(os, "replace", only_within)
    perform(move="data/a", to="data/b")
    assert names(data) == ["b"]
    assert (data / "b").read_text() == "a"


def test_a_file_that_was_moved_already_is_told(data: Path) -> None:
    (data / "b").write_text("a")
    with pytest.raises(NodeFailed, match="it is not there, and 'data/b' is there: perhaps it was moved already"):
        perform(move="data/a", to="data/b")


def test_a_folder_is_not_copied(data: Path) -> None:
    (data / "folder").mkdir()
    with pytest.raises(NodeFailed, match="it is a folder"):
        perform(copy="data/folder", to="data/b")


# -- deleting ----------------------------------------------------------------------------------------------------


def test_a_file_is_deleted_and_may_be_missing_if_that_is_said(data: Path) -> None:
    (data / "a").write_text("a")
    assert perform(delete="data/a") == {"path": "data/a", "is_deleted": True}
    assert perform(delete="data/a", missing_ok=True) == {"path": "data/a", "is_deleted": False}
    assert perform(delete="data/no/where", missing_ok=True)["is_deleted"] is False
    with pytest.raises(NodeFailed, match="it is not there; if that is no mistake: missing_ok: true"):
        perform(delete="data/a")


def test_a_folder_is_deleted_only_with_recursive(data: Path) -> None:
    (data / "folder" / "inner").mkdir(parents=True)
    (data / "folder" / "inner" / "a").write_text("a")
    with pytest.raises(NodeFailed, match="to delete it with all that is in it: recursive: true"):
        perform(delete="data/folder")
    perform(delete="data/folder", recursive=True)
    assert names(data) == []


@posix
def test_links_in_a_folder_that_is_deleted_are_not_followed(data: Path, tmp_path: Path) -> None:
    (data / "folder").mkdir()
    (data / "folder" / "link").symlink_to(tmp_path / "elsewhere")
    perform(delete="data/folder", recursive=True)
    assert (tmp_path / "elsewhere" / "theirs.txt").exists()


@posix
def test_a_link_is_deleted_itself(data: Path, tmp_path: Path) -> None:
    (data / "file").write_text("file")
    for number, target in enumerate((data / "file", tmp_path / "outside.txt", tmp_path / "elsewhere", data / "none")):
        (data / f"link{number}").symlink_to(target)
        assert perform(delete=f"data/link{number}")["is_deleted"]
    assert names(data) == ["file"]
    assert (tmp_path / "outside.txt").exists()
    assert (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["data", "data/", "data/.", "data/inner/.."])
def test_a_granted_folder_itself_is_neither_deleted_nor_moved(data: Path, name: str) -> None:
    (data / "inner").mkdir()
    with pytest.raises(NodeFailed, match="it is a granted folder itself"):
        perform(delete=name, recursive=True)
    with pytest.raises((NodeFailed, NotGranted)):
        perform(move=name, to="data/inner/new")
    assert names(data) == ["inner"]


def test_a_folder_with_a_granted_one_in_it_is_not_deleted(data: Path) -> None:
    (data / "inner").mkdir()
    with pytest.raises(NodeFailed, match="or has one in it"):
        perform(delete="data", recursive=True, allow={"files": [".", "data/inner"]})


@pytest.mark.parametrize("name", [".", "..", "/", "~"])
def test_where_everything_is_granted_the_folder_of_the_graph_and_home_are_not_deleted(
    data: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it would have been deleted")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(NodeFailed):
        perform(delete=name, recursive=True, allow=None)


# -- listing and looking -----------------------------------------------------------------------------------------


def test_a_folder_is_listed_sorted(data: Path) -> None:
    for name in ("b.csv", "a.csv", "c.txt"):
        (data / name).write_text(name)
    (data / "inner.csv").mkdir()
    (data / "inner.csv" / "d.csv").write_text("")
    listed = perform(list="data", pattern="*.csv")
    assert listed["entries"] == [
        {"path": "data/a.csv", "name": "a.csv", "bytes": 5, "is_folder": False},
        {"path": "data/b.csv", "name": "b.csv", "bytes": 5, "is_folder": False},
        {
            "path": "data/inner.csv",
            "name": "inner.csv",
            "bytes": (data / "inner.csv").stat().st_size,
            "is_folder": True,
        },
    ]
    assert listed["n_entries"] == 3
    deep = perform(list="data/", pattern="*.csv", recursive=True)
    assert [each["path"] for each in deep["entries"]][2:] == ["data/inner.csv", "data/inner.csv/d.csv"]


def test_every_listed_file_can_be_read(data: Path) -> None:
    (data / "inner").mkdir()
    (data / "inner" / "a b.txt").write_text("text")
    for written_as in ("data", "data/", "./data", str(data)):
        (path,) = [
            each["path"] for each in perform(list=written_as, recursive=True)["entries"] if not each["is_folder"]
        ]
        assert perform(read=path)["content"] == "text"


def test_more_entries_than_the_most_are_told(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MAX_ENTRIES", 3)
    for number in range(4):
        (data / f"{number}").write_text("")
    with pytest.raises(NodeFailed, match="it has more than 3 entries; list less of it, or give a pattern"):
        perform(list="data")
    assert perform(list="data", pattern="[0-2]")["n_entries"] == 3


def test_a_list_that_takes_too_long_is_given_up(data: Path) -> None:
    with pytest.raises(NodeTimeout, match="'data' took longer than 1e-09 s to list"):
        perform(list="data", timeout_s=1e-9)


@posix
def test_links_are_listed_as_what_they_lead_to_if_that_is_granted(data: Path, tmp_path: Path) -> None:
    (data / "a").write_text("12345")
    (data / "link").symlink_to("a")
    (data / "out").symlink_to(tmp_path / "elsewhere")
    (data / "loop").symlink_to("loop")
    (data / "up").symlink_to(".")
    os.mkfifo(data / "pipe")
    listed = perform(list="data", recursive=True)["entries"]
    assert [(each["name"], each["is_folder"]) for each in listed] == [("a", False), ("link", False), ("up", True)]
    assert listed[1]["bytes"] == 5


@posix
def test_a_name_that_is_no_text_is_told(data: Path) -> None:
    try:
        (Path(os.fsdecode(os.fsencode(data) + b"/\xff"))).write_text("")
    except OSError:
        pytest.skip("this file system has names of UTF-8 only")
    with pytest.raises(NodeFailed, match="is no UTF-8; rename that"):
        perform(list="data")


def test_what_is_no_folder_is_not_listed(data: Path) -> None:
    (data / "a").write_text("")
    for name in ("data/a", "data/none"):
        with pytest.raises(NodeFailed, match="can't be listed"):
            perform(list=name)


def test_a_path_is_looked_for(data: Path) -> None:
    (data / "a").write_text("")
    assert perform(exists="data/a") == {"path": "data/a", "exists": True, "is_folder": False}
    assert perform(exists="data") == {"path": "data", "exists": True, "is_folder": True}
    for name in ("data/none", "data/none/deep", "data/a/deep"):
        assert perform(exists=name) == {"path": name, "exists": False, "is_folder": False}


# -- as it is written --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "exactly one of these: read, write"),
        ({"read": "a", "delete": "a"}, "exactly one of these"),
        ({"content": "a"}, "exactly one of these"),
        ({"write": "a"}, "write needs content too"),
        ({"append": "a"}, "append needs content too"),
        ({"copy": "a"}, "copy needs to too"),
        ({"read": "a", "content": "b"}, "content belongs to write and append only"),
        ({"read": "a", "overwrite": True}, "overwrite belongs to write and copy and move only"),
        ({"delete": "a", "pattern": "*"}, "pattern belongs to list only"),
        ({"read": ""}, "it is empty"),
        ({"read": "a", "as": "json"}, "one of text, bytes"),
        ({"read": "a", "encoding": "x"}, "'encoding' is not known here"),
    ],
)
def test_what_can_not_be_meant_is_found(options: dict[str, Any], said: str) -> None:
    assert said in " ".join(written(**options))


@pytest.mark.parametrize("options", [*EVERY_WAY, {"read": "{{ input.path }}", "max_bytes": "{{ input.most }}"}])
def test_what_is_meant_is_not_found_fault_with(options: dict[str, Any]) -> None:
    assert written(**options) == []


def test_needs_are_the_paths_that_are_written() -> None:
    assert list(FILE.needs({"copy": "a", "to": "b"})) == [Need("files", "a"), Need("files", "b")]
    assert list(FILE.needs({"write": "out/{{ input.name }}", "content": "x"})) == []
    assert FILE.options_of("a.txt") == {"read": "a.txt"}
