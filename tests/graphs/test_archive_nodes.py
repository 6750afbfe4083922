"""The kinds zip and unzip: what they do, and what a hostile archive can't do."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ironflow_nb.errors import NodeFailed, NodeTimeout, NotGranted
from ironflow_nb.execution.system.system import SystemClock
from ironflow_nb.graphs.compiler.schema_check import problems
from ironflow_nb.graphs.grants import Grants
from ironflow_nb.graphs.graph import Graph
from ironflow_nb.graphs.kinds import Kind
from ironflow_nb.graphs.nodes import archives
from ironflow_nb.graphs.nodes.archives import UNZIP, ZIP
from ironflow_nb.graphs.runtime.node_environment import WorkContext
from ironflow_nb.graphs.secrets import Secrets
from tests.graphs.file_nodes import ALLOW, make_data, names, posix


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_data(tmp_path)


def perform(kind: Kind, timeout_s: float | None = None, allow: Mapping[str, Any] = ALLOW, **options: Any) -> Any:
    assert list(problems(kind.schema, options, allows_expressions=False)) == []
    grants = Grants.of(allow)
    secrets = Secrets({}, grants)
    context = WorkContext(node="n", grants=grants, clock=SystemClock(), secrets=secrets, timeout_s=timeout_s)
    return kind.perform(options, context)


def archive_of(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)


def test_a_folder_goes_into_an_archive_and_comes_out_of_it(data: Path) -> None:
    (data / "in" / "sub").mkdir(parents=True)
    (data / "in" / "a.txt").write_text("A" * 5000)
    (data / "in" / "sub" / "ü.bin").write_bytes(bytes(range(256)))
    made = perform(ZIP, files="data/in", to="data/new/out.zip")
    assert made["entries"] == ["a.txt", "sub/ü.bin"]
    assert made["n_entries"] == 2
    assert made["bytes"] == (data / "new" / "out.zip").stat().st_size < 1000
    assert perform(UNZIP, file="data/new/out.zip")["entries"] == [
        {"path": "a.txt", "bytes": 5000}, {"path": "sub/ü.bin", "bytes": 256},
    ]  # fmt: skip
    found = perform(UNZIP, file="data/new/out.zip", to="data/back/")
    assert found["entries"][0] == {"path": "data/back/a.txt", "bytes": 5000}
    assert (found["path"], found["n_entries"], found["bytes"]) == ("data/back/", 2, 5256)
    assert names(data / "back") == ["a.txt", "sub", "sub/ü.bin"]
    assert (data / "back" / "sub" / "ü.bin").read_bytes() == bytes(range(256))


def test_an_archive_in_its_own_folder_does_not_contain_itself_and_is_the_same_again(data: Path) -> None:
    (data / "a.txt").write_text("a")
    for _ in range(2):
        assert perform(ZIP, files=["data"], to="data/all.zip", overwrite=False)["entries"] == ["a.txt"]
    assert names(data) == ["a.txt", "all.zip"]


def test_single_files_are_called_by_their_names_and_two_of_one_name_are_refused(data: Path) -> None:
    for folder in ("x", "y"):
        (data / folder).mkdir()
        (data / folder / "a.txt").write_text(folder)
    assert perform(ZIP, files=["data/x/a.txt"], to="data/one.zip")["entries"] == ["a.txt"]
    with pytest.raises(NodeFailed, match=r"'data/x/a.txt' would have the same name in the archive: a.txt"):
        perform(ZIP, files=["data/x", "data/y/a.txt"], to="data/two.zip")
    assert not (data / "two.zip").exists()


def test_what_was_unpacked_may_be_unpacked_again_and_else_only_replaced_if_that_is_said(data: Path) -> None:
    archive_of(data / "a.zip", ("a", b"new"))
    (data / "a").write_text("old")
    with pytest.raises(NodeFailed, match=r"'data/a' can't be unzipped: it is there already, with another content"):
        perform(UNZIP, file="data/a.zip", to="data", overwrite=False)
    perform(UNZIP, file="data/a.zip", to="data")
    perform(UNZIP, file="data/a.zip", to="data", overwrite=False)
    assert (data / "a").read_text() == "new"


# -- grants ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [
    {"files": "outside.txt", "to": "data/a.zip"}, {"files": "data", "to": "a.zip"},
    {"files": "data", "to": "data/../a.zip"}, {"files": ["data", "elsewhere"], "to": "data/a.zip"},
])  # fmt: skip
def test_nothing_is_zipped_that_is_not_granted(given: Any, tmp_path: Path) -> None:
    before = names(tmp_path)
    with pytest.raises(NotGranted):
        perform(ZIP, **given)
    assert names(tmp_path) == before


def test_nothing_is_unzipped_that_is_not_granted(data: Path, tmp_path: Path) -> None:
    archive_of(data / "a.zip", ("a", b"a"))
    archive_of(tmp_path / "outside.zip", ("a", b"a"))
    before = names(tmp_path)
    for file, to in [("outside.zip", "data"), ("data/a.zip", "elsewhere"), ("data/a.zip", "data/../elsewhere")]:
        with pytest.raises(NotGranted):
            perform(UNZIP, file=file, to=to)
    assert names(tmp_path) == before


@posix
def test_no_link_leads_out_of_the_granted_folder(data: Path, tmp_path: Path) -> None:
    archive_of(data / "a.zip", ("good", b"x"), ("link/theirs.txt", b"mine"))
    (data / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotGranted):
        perform(UNZIP, file="data/a.zip", to="data")
    assert not (data / "good").exists()
    assert (tmp_path / "elsewhere" / "theirs.txt").read_text() == "theirs"
    (data / "secret").symlink_to(tmp_path / "outside.txt")
    assert "secret" not in perform(ZIP, files="data", to="data/b.zip")["entries"]


def test_a_graph_says_before_it_runs_what_it_may_not_touch() -> None:
    nodes = [{"id": "a", "zip": {"files": ["data/x", "y"], "to": "z.zip"}}, {"id": "b", "unzip": "z.zip"}]
    found = Graph.from_dict({"graph": "g", "allow": {"files": ["data"]}, "nodes": nodes}).findings()
    assert [str(each).count("is not granted") for each in found] == [1, 1, 1]


# -- hostile archives --------------------------------------------------------------------------------------------


def _link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("link")
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


HOSTILE: list[tuple[list[tuple[Any, bytes]], str]] = [
    ([("../evil", b"x")], "is no path inside of a folder"),
    ([("a/../../evil", b"x")], "is no path inside of a folder"),
    ([("/evil", b"x")], "is no path inside of a folder"),
    ([("a//b", b"x")], "is no path inside of a folder"),
    ([("./a", b"x")], "is no path inside of a folder"),
    ([("..\\evil", b"x")], "is no path inside of a folder"),
    ([(_link(), b"/etc/passwd")], "is a link or a device"),
    ([("A.txt", b"x"), ("a.TXT", b"y")], "is in it twice, or in two cases"),
    ([("a", b"x"), ("a/b", b"y")], "'a' is both a file and a folder"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("entries", "expected"), HOSTILE, ids=[f"{text} {number}" for number, (_, text) in enumerate(HOSTILE)]
)
def test_an_archive_with_a_hostile_entry_is_refused_whole(data: Path, entries: Any, expected: str) -> None:
    archive_of(data / "a.zip", ("good", b"good"), *entries)
    before = names(data.parent)
    with pytest.raises(NodeFailed) as caught:
        perform(UNZIP, file="data/a.zip", to="data/out")
    assert expected in str(caught.value)
    assert caught.value.is_retryable is False
    assert names(data.parent) == before


def test_an_archive_of_too_many_or_too_large_files_is_refused_before_it_is_unpacked(data: Path) -> None:
    archive_of(data / "a.zip", ("a", b"\0" * 1_000_000), ("b", b"b"))
    for limit, expected in [({"max_bytes": 1_000_000}, "1,000,000 bytes unpacked"), ({"max_entries": 1}, "1 entries")]:
        with pytest.raises(NodeFailed, match=f"it has more than {expected}; raise {next(iter(limit))}"):
            perform(UNZIP, file="data/a.zip", to="data/out", **limit)
        with pytest.raises(NodeFailed, match=f"it has more than {expected}"):
            perform(UNZIP, file="data/a.zip", **limit)
    assert names(data) == ["a.zip"]
    perform(UNZIP, file="data/a.zip", to="data/out", max_bytes=1_000_001, max_entries=2)
    with pytest.raises(NodeFailed, match="it has more than 1,000,000 bytes unpacked"):
        perform(ZIP, files="data/out", to="data/b.zip", max_bytes=1_000_000)
    with pytest.raises(NodeFailed, match="it has more than 1 entries"):
        perform(ZIP, files="data/out", to="data/b.zip", max_entries=1)
    assert not (data / "b.zip").exists()


def test_an_entry_that_lies_about_its_size_is_not_unpacked(data: Path) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"\0" * 1_000_000)
    size = (1_000_000).to_bytes(4, "little")
    (data / "a.zip").write_bytes(made.getvalue().replace(size, (10).to_bytes(4, "little")))
    with pytest.raises(NodeFailed, match="it is no valid zip archive: Bad CRC"):
        perform(UNZIP, file="data/a.zip", to="data/out", max_bytes=1000)
    assert [path for path in names(data) if not path.startswith("out")] == ["a.zip"]
    assert not (data / "out" / "a").exists()


def test_the_table_of_an_archive_is_not_read_without_bound(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_DIRECTORY_BYTES", 100_000)
    archive_of(data / "a.zip", *((f"{number:060}", b"") for number in range(1000)))
    with pytest.raises(NodeFailed, match="the table of its entries is too large"):
        perform(UNZIP, file="data/a.zip")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + b"\xff" * 18, b"PK\x03\x04" * 10])
def test_what_is_no_archive_is_said(data: Path, content: bytes) -> None:
    (data / "a.zip").write_bytes(content)
    with pytest.raises(NodeFailed, match=r"'data/a.zip' can't be unzipped: it is no valid zip archive") as caught:
        perform(UNZIP, file="data/a.zip", to="data/out")
    assert caught.value.is_retryable is False


@pytest.mark.parametrize("seed", range(40))
def test_any_damage_is_an_error_of_the_node(data: Path, seed: int) -> None:
    packed = b"some text" * 50, b"more" * 99
    archive_of(data / "a.zip", ("a", packed[0]), ("b/c", packed[1]))
    content = bytearray((data / "a.zip").read_bytes())
    content[(seed * 7919) % len(content)] ^= 1 << seed % 8
    (data / "a.zip").write_bytes(content)
    with suppress(NodeFailed):
        perform(UNZIP, file="data/a.zip", to="data/out")
    # What is damaged may be a name or a date. What is written is whole all the same.
    assert {file.read_bytes() for file in (data / "out").rglob("*") if file.is_file()} <= {*packed}


def test_other_packings_are_refused(data: Path) -> None:
    archive_of(data / "a.zip", ("a", b"x" * 100), method=zipfile.ZIP_LZMA)
    with pytest.raises(NodeFailed, match="is compressed in another way than deflate"):
        perform(UNZIP, file="data/a.zip")


def test_unpacking_ends_with_the_time_of_the_node(data: Path) -> None:
    archive_of(data / "a.zip", ("a", b"x" * 100))
    with pytest.raises(NodeTimeout, match="took longer than 1e-09 s; raise timeout_s"):
        perform(UNZIP, file="data/a.zip", to="data/out", timeout_s=1e-9)
    assert not (data / "out" / "a").exists()


@pytest.mark.parametrize("kind", [ZIP, UNZIP])
def test_archive_nodes_are_described(kind: Kind) -> None:
    assert kind.description.endswith(".")
    assert all(option["description"].endswith(".") for option in kind.schema["properties"].values())
