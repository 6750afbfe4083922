"""What an object store promises: whole contents, or an error that says what is wrong."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from ironflow_nb.core.identity import ValueId
from ironflow_nb.errors import StoreUnreachable, ValueUnreadable
from ironflow_nb.value_store.object_store import ObjectStore
from ironflow_nb.values.stored_value import ContentParts, value_id
from tests.value_store.conftest import BUCKET, use_endpoint

CONTENT = bytes(range(256)) * 400
ID = value_id("bytes", CONTENT)


@pytest.fixture(params=["memory", "local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "s3":
        request.getfixturevalue("bucket")
        return ObjectStore(f"s3://{BUCKET}/a")
    return ObjectStore(f"local://{tmp_path}/a" if request.param == "local" else f"memory://{uuid.uuid4()}/a")


def put(store: ObjectStore, content: bytes) -> None:
    """Write as somebody else would, who damages it."""
    store._system.makedirs(str(store.path(ID).parent), exist_ok=True)
    store._system.pipe_file(str(store.path(ID)), content)


def test_what_is_written_is_read_until_it_is_removed(store: ObjectStore) -> None:
    assert store.size(ID) is None
    parts = ContentParts()
    parts.add(memoryview(CONTENT[:1000]))
    parts.add(memoryview(CONTENT[1000:]))
    store.write(ID, parts)
    assert store.size(ID) == len(CONTENT)
    assert store.read(ID, len(CONTENT)) == CONTENT
    assert ObjectStore(store.url).read(ID, len(CONTENT)) == CONTENT
    store.remove(ID)
    store.remove(ID)
    assert store.size(ID) is None
    with pytest.raises(ValueUnreadable, match="is missing"):
        store.read(ID, len(CONTENT))


def test_content_that_was_cut_or_damaged_is_written_again(store: ObjectStore) -> None:
    put(store, CONTENT[:100])
    with pytest.raises(ValueUnreadable, match="has 100 bytes and was written with 102400"):
        store.read(ID, len(CONTENT))
    store.write(ID, CONTENT)
    put(store, damaged := CONTENT[:-1] + b"?")
    assert store.read(ID, len(CONTENT)) == damaged  # its reader compares it with its id
    store.write(ID, CONTENT)
    assert store.read(ID, len(CONTENT)) == CONTENT


def test_what_is_there_is_not_sent_again(store: ObjectStore) -> None:
    store.write(ID, CONTENT)
    put(store, other := b"x" * len(CONTENT))
    store.write(ID, CONTENT)
    assert store.read(ID, len(CONTENT)) == other


def test_what_is_old_is_listed_and_what_dead_writers_left_is_removed(tmp_path: Path) -> None:
    store = ObjectStore(f"local://{tmp_path}/a")
    assert list(store.written_before(time.time())) == []
    new = ValueId(bytes(20))
    for each in (ID, new):
        store.write(each, CONTENT)
    left = Path(str(store.path(ID))).with_suffix(".77.tmp")
    (tmp_path / "a" / "about.txt").write_text("of somebody else")
    for path in (left, Path(str(store.path(ID))), tmp_path / "a" / "about.txt"):
        path.touch()
        os.utime(path, (1000, 1000))
    assert list(store.written_before(2000)) == [ID]
    assert not left.exists()


def test_what_is_in_a_bucket_is_listed(bucket: Any) -> None:
    store = ObjectStore(f"s3://{BUCKET}/a")
    store.write(ID, CONTENT)
    assert list(store.written_before(time.time() + 60)) == [ID]
    assert list(store.written_before(1000)) == []


def test_a_bucket_that_is_not_there_is_an_error_and_no_lost_value(bucket: Any) -> None:
    store = ObjectStore("s3://no-such-bucket/a")
    with pytest.raises(
        StoreUnreachable, match=r"102400 bytes can't be written to s3://no-such-bucket/a: .*nothing that was"
    ):
        store.write(ID, CONTENT)


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_an_error_and_no_lost_value(monkeypatch: pytest.MonkeyPatch) -> None:
    use_endpoint("http://127.0.0.1:9", monkeypatch)  # where nobody listens
    store = ObjectStore(f"s3://{BUCKET}/a")
    for ask in (
        lambda: store.read(ID, 1),
        lambda: store.write(ID, b"x"),
        lambda: store.size(ID),
        lambda: store.remove(ID),
    ):
        with pytest.raises(StoreUnreachable, match="check the place, the credentials and the network") as caught:
            ask()
        assert not isinstance(caught.value, ValueUnreadable)


def test_a_protocol_that_nobody_knows_is_told() -> None:
    with pytest.raises(ValueError, match="values='nothing://a' is no place for large values: Protocol not known"):
        ObjectStore("nothing://a")
