"""The kind file with URLs: a real S3 server on this machine, and files in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

import ironflow_nb as iron
from ironflow_nb.errors import NodeFailed, NotGranted
from ironflow_nb.graphs.grants import Grants, Need
from ironflow_nb.graphs.nodes import files
from ironflow_nb.graphs.nodes.files import FILE
from ironflow_nb.graphs.remote_paths import canonical_url
from tests.graphs.asking import perform
from tests.graphs.hidden import contents, forms_of
from tests.graphs.playing import graph_of

SECRET = "secret-access-key-4711"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}
    made = boto3.session.Session().resource("s3", endpoint_url=endpoint, **keys).Bucket("reports")
    made.create()
    yield made
    made.objects.delete()
    made.delete()


def file(endpoint: str, *, allow: Any = None, **options: Any) -> Any:
    storage = {"key": "id", "secret": SECRET, "endpoint_url": endpoint, "region": "us-east-1"}
    granted = {"files": ["s3://reports", "data"], "http": [endpoint.removeprefix("http://")]}
    return perform(FILE, {"storage": storage, **options}, allow=granted if allow is None else allow)


def keys(bucket: Any) -> list[str]:
    return sorted(each.key for each in bucket.objects.all())


@pytest.mark.slow
def test_what_is_written_is_read_again(endpoint: str, bucket: Any) -> None:
    assert file(endpoint, write="s3://reports/a/b.txt", content="grün") == {"path": "s3://reports/a/b.txt", "bytes": 5}
    assert bucket.Object("a/b.txt").get()["Body"].read() == "grün".encode()
    assert file(endpoint, read="s3://reports/a/b.txt") == {
        "path": "s3://reports/a/b.txt",
        "content": "grün",
        "bytes": 5,
    }
    file(endpoint, write="s3://reports/c.bin", content=b"\x00\xff")
    assert file(endpoint, read="s3://reports/c.bin", **{"as": "bytes"})["content"] == b"\x00\xff"
    file(endpoint, write="s3://reports/d.json", content={"a": 1})
    assert file(endpoint, read="s3://reports/d.json")["content"] == '{\n  "a": 1\n}\n'
    file(endpoint, write="s3://reports/empty", content="")
    assert file(endpoint, read="s3://reports/empty")["content"] == ""


@pytest.mark.slow
def test_what_is_there_is_listed_looked_for_and_deleted(endpoint: str, bucket: Any) -> None:
    for key in ("a/1.csv", "a/2.txt", "a/deep/3.csv", "b.csv"):
        bucket.put_object(Key=key, Body=b"xyz")
    found = file(endpoint, list="s3://reports/a")
    assert [(each["path"], each["bytes"], each["is_folder"]) for each in found["entries"]] == [
        ("s3://reports/a/1.csv", 3, False), ("s3://reports/a/2.txt", 3, False), ("s3://reports/a/deep", 0, True)
    ]  # fmt: skip
    every = file(endpoint, list="s3://reports", recursive=True, pattern="*.csv")
    assert [each["path"] for each in every["entries"]] == [
        "s3://reports/a/1.csv", "s3://reports/a/deep/3.csv", "s3://reports/b.csv"
    ]  # fmt: skip
    assert file(endpoint, read=every["entries"][0]["path"])["content"] == "xyz"
    assert file(endpoint, exists="s3://reports/a/1.csv")["exists"] is True
    assert file(endpoint, exists="s3://reports/a") == {"path": "s3://reports/a", "exists": True, "is_folder": True}
    assert file(endpoint, exists="s3://reports/nope")["exists"] is False
    assert file(endpoint, delete="s3://reports/a/1.csv")["is_deleted"] is True
    with pytest.raises(NodeFailed, match="it is not there; if that is no mistake: missing_ok: true"):
        file(endpoint, delete="s3://reports/a/1.csv")
    assert file(endpoint, delete="s3://reports/a/1.csv", missing_ok=True)["is_deleted"] is False
    with pytest.raises(NodeFailed, match="it is a folder"):
        file(endpoint, delete="s3://reports/a")
    file(endpoint, delete="s3://reports/a", recursive=True)
    assert keys(bucket) == ["b.csv"]


def test_a_name_with_a_star_is_that_one_file(endpoint: str, bucket: Any) -> None:
    for key in ("a*", "ab", "a[b]"):
        bucket.put_object(Key=key, Body=key.encode())
    assert file(endpoint, read="s3://reports/a*")["content"] == "a*"
    file(endpoint, delete="s3://reports/a*")
    file(endpoint, delete="s3://reports/a[b]")
    assert keys(bucket) == ["ab"]


@pytest.mark.slow
def test_files_are_copied_to_a_server_and_from_it(endpoint: str, bucket: Any, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.bin").write_bytes(b"\x00" * 1000)
    assert file(endpoint, copy="data/a.bin", to="s3://reports/x/a.bin")["bytes"] == 1000
    file(endpoint, copy="s3://reports/x/a.bin", to="s3://reports/y.bin")
    file(endpoint, copy="s3://reports/y.bin", to="data/new/b.bin")
    assert (tmp_path / "data" / "new" / "b.bin").read_bytes() == b"\x00" * 1000
    with pytest.raises(NotGranted):
        file(endpoint, copy="s3://reports/y.bin", to="elsewhere.bin")
    for action in (
        {"move": "s3://reports/y.bin", "to": "s3://reports/z"},
        {"append": "s3://reports/y.bin", "content": "x"},
    ):
        with pytest.raises(NodeFailed, match="is for files of this machine"):
            perform(FILE, action)


@pytest.mark.slow
def test_another_content_is_replaced_only_if_it_may_be(endpoint: str, bucket: Any) -> None:
    file(endpoint, write="s3://reports/a", content="one", overwrite=False)
    file(endpoint, write="s3://reports/a", content="one", overwrite=False)
    with pytest.raises(NodeFailed, match="it is there with another content"):
        file(endpoint, write="s3://reports/a", content="two", overwrite=False)
    file(endpoint, write="s3://reports/a", content="two")
    assert file(endpoint, read="s3://reports/a")["content"] == "two"


def test_a_file_that_is_too_large_is_not_read(endpoint: str, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put_object(Key="a", Body=b"x" * 1001)
    with pytest.raises(NodeFailed, match="it has more than 1,000 bytes"):
        file(endpoint, read="s3://reports/a", max_bytes=1000)
    monkeypatch.setattr(files, "MOST_COPIED", 1000)
    with pytest.raises(NodeFailed, match="it has more than 1,000 bytes"):
        file(endpoint, copy="s3://reports/a", to="data/a")


@pytest.mark.slow
def test_what_is_missing_may_come_and_a_bucket_that_is_none_is_told(endpoint: str, bucket: Any) -> None:
    with pytest.raises(NodeFailed, match="can't be read") as caught:
        file(endpoint, read="s3://reports/nope")
    assert caught.value.is_retryable is True
    with pytest.raises(NodeFailed, match="bucket"):
        file(endpoint, write="s3://nothing-here/a", content="x", allow={"files": ["s3://nothing-here"], "http": True})


def test_a_server_that_is_not_there_may_come(bucket: Any) -> None:
    with pytest.raises(NodeFailed) as caught:
        file("http://127.0.0.1:9", read="s3://reports/a")
    assert caught.value.is_retryable is True


# -- grants ------------------------------------------------------------------------------------------------------


def is_granted(url: str, *names: str, **more: Any) -> bool:
    return Grants.of({"files": list(names), **more}).refusal(Need("files", url)) is None


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://b/a", "s3://b"), ("s3://b/a/c", "s3://b/a"), ("s3://b/a/c", "s3://b/a/"), ("S3://b/a", "s3://b"),
        ("s3://b", "s3://b"), ("s3://b/", "s3://b"), ("sftp://h/a", "sftp://h"),
    ],
)  # fmt: skip
def test_a_url_grants_what_is_below_it(url: str, name: str) -> None:
    assert is_granted(url, name)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://bb/a", "s3://b"), ("s3://b/ab", "s3://b/a"), ("s3://b/a/../c", "s3://b/a"), ("s3://b//a", "s3://b"),
        ("gs://b/a", "s3://b"), ("s3://b/a", "b"), ("s3://b/a", "s3:"), ("s3://b/a", "."), ("s3://b/a", "/"),
        ("simplecache::s3://b/a", "s3://b"), ("s3://b/a::s3://c", "s3://b"), ("s3://b/./a", "s3://b"),
        ("s3://me@b/a", "s3://b"), ("s3://b\\a", "s3://b"), ("file:///etc/passwd", "file:///etc"),
        ("https://b/a", "https://b"), ("local://etc", "local://etc"), ("s3:///a", "s3://"), ("s3://b/a", "s3://"),
    ],
)  # fmt: skip
def test_a_url_grants_nothing_else(url: str, name: str) -> None:
    assert not is_granted(url, name)


def test_every_file_of_this_machine_is_none_of_a_server() -> None:
    need = Need("files", "s3://b/a")
    assert Grants.of({"files": True}).refusal(need)
    assert Grants.of({"files": True, "http": ["a.test"]}).refusal(need)
    assert Grants.of({"files": True, "http": True}).refusal(need) is None
    assert Grants.of(None).refusal(need) is None
    assert Grants.of({"files": ["s3://b"]}).refusal(Need("files", "s3:/b"))
    assert canonical_url("s3://b/{{ x }}") is None


def test_bounds_keep_what_both_grant(tmp_path: Path) -> None:
    own = Grants.of({"files": ["s3://b/a", "gs://x", "data"]}, base=str(tmp_path))
    both = own.within(Grants.of({"files": ["s3://b", "gs://x/y"]}, base=str(tmp_path)))
    assert set(both.allowed["files"]) == {"s3://b/a", "gs://x/y"}  # type: ignore[arg-type]


def test_a_graph_without_the_grant_is_refused_before_it_runs() -> None:
    node = {"id": "a", "file": {"read": "s3://reports/a"}}
    assert [each.message for each in graph_of(node, allow={"files": ["s3://other"]}).findings()] == [
        "files 's3://reports/a' is not granted (granted are s3://other); to grant it: allow: {files: [s3://reports/a]}"
    ]
    assert graph_of(node, allow={"files": ["s3://reports"]}).findings() == []


def test_storage_names_no_server_that_is_not_granted(endpoint: str, bucket: Any) -> None:
    with pytest.raises(NotGranted, match="http"):
        file(endpoint, read="s3://reports/a", allow={"files": ["s3://reports"]})
    storage = {"account": "evil", "account_key": "a2V5"}
    with pytest.raises((NotGranted, NodeFailed)):
        perform(FILE, {"read": "abfs://c/a", "storage": storage}, allow={"files": ["abfs://c"]})
    for url, wrong in (("memory://x/a", "key"), ("sftp://h/a", "endpoint_url"), ("s3://reports/a", "user")):
        with pytest.raises(NodeFailed, match=f"can't have {wrong}"):
            perform(FILE, {"read": url, "storage": {wrong: "http://x"}})


def test_other_file_systems_of_fsspec(tmp_path: Path) -> None:
    perform(FILE, {"write": "memory://box/a.txt", "content": "x"}, allow={"files": ["memory://box"]})
    assert perform(FILE, {"read": "memory://box/a.txt"})["content"] == "x"
    assert perform(FILE, {"list": "memory://box"})["entries"][0]["name"] == "a.txt"
    assert perform(FILE, {"delete": "memory://box/a.txt"})["is_deleted"] is True
    with pytest.raises(NodeFailed, match="can't be opened"):
        perform(FILE, {"read": "nothing://a/b"})


@pytest.mark.slow
def test_the_keys_are_in_no_journal(
    endpoint: str, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_SECRET", SECRET)
    storage = {"key": "id", "secret": "{{ secrets.s3 }}", "endpoint_url": endpoint, "region": "us-east-1"}
    nodes = [
        {"id": "a", "file": {"write": "s3://reports/a", "content": "x", "storage": storage}},
        {"id": "b", "file": {"read": "s3://reports/nope", "storage": storage}, "on_error": "continue"},
        {"id": "c", "file": {"read": "s3://reports/a", "storage": storage}},
    ]
    with iron.open(tmp_path / "kept" / "j.db"):
        assert graph_of(*nodes, secrets={"s3": {"env": "S3_SECRET"}})()["content"] == "x"
    found = b"".join(contents(tmp_path / "kept" / "j.db"))
    assert not [form for form in forms_of(SECRET) if form in found]
