"""Files outside of what is granted: no node reaches them, by whatever way."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from ironflow_nb.errors import NodeFailed, NotGranted
from ironflow_nb.graphs.nodes import folders
from tests.graphs.file_nodes import EVERY_WAY, make_data, names, perform, posix


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_data(tmp_path)


@pytest.mark.parametrize("options", EVERY_WAY)
@pytest.mark.parametrize(
    "path",
    ["outside.txt", "data/../outside.txt", "TMP/outside.txt", "data/out/theirs.txt", "data/out/new", "~/none", "a\0b"],
)
def test_no_way_leads_outside(data: Path, tmp_path: Path, options: dict[str, Any], path: str) -> None:
    (data / "a").write_text("a")
    (data / "out").symlink_to(tmp_path / "elsewhere")
    path = path.replace("TMP", str(tmp_path))
    with pytest.raises((NotGranted, NodeFailed)) as caught:
        perform(**{key: value.format(path) if isinstance(value, str) else value for key, value in options.items()})
    assert isinstance(caught.value, NotGranted) or "\0" in path
    assert (tmp_path / "outside.txt").read_text() == "outside"
    assert names(tmp_path / "elsewhere") == ["theirs.txt"]
    assert names(data) == ["a", "out"]


@posix
@pytest.mark.parametrize("options", EVERY_WAY)
def test_a_folder_that_becomes_a_link_after_it_was_granted_is_not_followed(
    data: Path, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "a").write_text("a")
    (data / "inner").mkdir()
    (data / "inner" / "theirs.txt").write_text("mine")
    walk = folders._walk

    def swap_then_walk(path: Path, may_make: folders.MayMake | None) -> int:
        if not (data / "inner").is_symlink():
            (data / "inner").rename(tmp_path / "away")
            (data / "inner").symlink_to(tmp_path / "elsewhere")
        return walk(path, may_make)

    monkeypatch.setattr(folders, "_walk", swap_then_walk)
    path = "data/inner" if "list" in options else "data/inner/theirs.txt"
    filled = {key: value.format(path) if isinstance(value, str) else value for key, value in options.items()}
    if "exists" in options:
        assert perform(**filled)["exists"] is False
    else:
        with pytest.raises(NodeFailed):
            perform(**filled)
    assert (tmp_path / "elsewhere" / "theirs.txt").read_text() == "theirs"
    assert names(tmp_path / "elsewhere") == ["theirs.txt"]


@posix
def test_a_file_that_becomes_a_link_after_it_was_looked_at_is_not_opened(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "a").write_text("a")
    status = folders.Folder.status

    def status_then_swap(self: folders.Folder, name: str) -> os.stat_result | None:
        found = status(self, name)
        (data / "a").unlink(missing_ok=True)
        (data / "a").symlink_to(tmp_path / "outside.txt")
        return found

    monkeypatch.setattr(folders.Folder, "status", status_then_swap)
    for options in ({"read": "data/a"}, {"append": "data/a", "content": "x"}):
        (data / "a").unlink()
        (data / "a").write_text("a")
        with pytest.raises(NodeFailed):
            perform(**options)
    assert (tmp_path / "outside.txt").read_text() == "outside"


def test_only_granted_folders_are_made(tmp_path: Path) -> None:
    perform(write="new/a/b", content="", allow={"files": ["new"]})
    assert names(tmp_path) == ["new", "new/a", "new/a/b"]
    with pytest.raises(NodeFailed, match="No such file"):
        perform(write="x/y/z", content="", allow={"files": ["x/y"]})


def test_a_file_can_be_granted_alone(data: Path) -> None:
    allow = {"files": ["data/a"]}
    perform(write="data/a", content="text", allow=allow)
    assert perform(read="data/a", allow=allow)["content"] == "text"
    perform(delete="data/a", allow=allow)
    with pytest.raises(NotGranted):
        perform(write="data/b", content="", allow=allow)


@posix
@pytest.mark.parametrize("action", ["read", "write", "append", "copy", "delete"])
def test_devices_pipes_and_sockets_are_left_alone(data: Path, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(data / "pipe")
    monkeypatch.chdir(data)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    monkeypatch.chdir(data.parent)
    more = {"write": {"content": ""}, "append": {"content": ""}, "copy": {"to": "data/b"}}.get(action, {})
    # A device of the machine is only asked for what would do it no harm.
    for path in ("data/pipe", "data/socket", *(["/dev/null"] if action in {"read", "append", "copy"} else [])):
        with pytest.raises(NodeFailed, match="it is no ordinary file, but a device, a pipe or a socket"):
            perform(**{action: path}, **more, allow={"files": True})
    assert names(data) == ["pipe", "socket"]


def test_what_is_being_written_is_not_listed(data: Path) -> None:
    (data / f"{folders.PART_PREFIX}0123{folders.PART_SUFFIX}").write_text("")
    assert perform(list="data")["entries"] == []
