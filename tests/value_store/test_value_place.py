"""A journal keeps its large values where its settings say, and everybody who opens it finds them there."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.errors import JournalConflict, StoreUnreachable
from ironflow_nb.value_store.value_place import noted_place
from tests.value_store.conftest import BUCKET, bucket_of, use_endpoint

Open = Callable[..., iron.Engine]
PERFORMED: list[str] = []


@step
def small(n: int) -> int:
    PERFORMED.append(f"small {n}")
    return n


@step
def large(n: int) -> bytes:
    PERFORMED.append(f"large {n}")
    return bytes([n]) * 100_000


@flow
def report(n: int) -> int:
    return small(n) + len(large(n))


def last() -> iron.Run[Any]:
    return iron.get_run(iron.runs()["run_id"][0])


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def place_of(path: Path) -> str | None:
    with closing(sqlite3.connect(path)) as connection:
        return noted_place(connection)


def kept_in(place: str, bucket: Any = None) -> int:
    """Return how many large values are there."""
    if place.startswith("s3://"):
        return len(list(bucket.objects.filter(Prefix=place.removeprefix(f"s3://{BUCKET}/"))))
    return len(files(Path(place)))


@pytest.fixture
def count(place: str, request: pytest.FixtureRequest) -> Callable[[], int]:
    bucket = request.getfixturevalue("bucket") if place.startswith("s3://") else None
    return lambda: kept_in(place, bucket)


@pytest.fixture(autouse=True)
def nothing_performed() -> None:
    PERFORMED.clear()


def test_large_values_lie_there_and_who_opens_the_journal_later_finds_them(
    opened: Open, place: str, count: Callable[[], int], tmp_path: Path
) -> None:
    opened(values=place)
    run = report.start(1)
    assert run.result() == 100_001
    assert count() == 1
    assert not (tmp_path / "values").exists()
    opened()
    assert iron.get_run(run.id).value("large") == b"\x01" * 100_000
    assert report.options(on_rerun="reuse")(2) == 100_002
    assert count() == 2
    opened(values=place)
    opened(values=f"{place}/", read_only=True)
    assert iron.get_run(run.id).value("large") == b"\x01" * 100_000


def test_a_damaged_value_is_found(opened: Open, tmp_path: Path) -> None:
    opened(values=tmp_path / "a")
    report(1)
    assert iron.verify().ok
    (path,) = files(tmp_path / "a")
    path.write_bytes(b"?" * 100_000)
    assert iron.verify()["what"].to_list() == ["value"]


def test_another_place_than_that_of_the_journal_is_refused(opened: Open, tmp_path: Path) -> None:
    opened(values=tmp_path / "a")
    for read_only in (False, True):
        with pytest.raises(
            JournalConflict, match=r"keeps its large values in file://.*/a, and not in file://.*/b; leave"
        ):
            opened(values=tmp_path / "b", read_only=read_only)
    opened("other.db")
    report(1)
    with pytest.raises(JournalConflict, match=r"has large values beside it, .*copy the runs into a new journal"):
        opened("other.db", values=tmp_path / "a")
    with pytest.raises(JournalConflict, match="keeps its large values beside itself"):
        opened("other.db", values=tmp_path / "a", read_only=True)
    with pytest.raises(ValueError, match="and not for one in memory"):
        iron.open(":memory:", values=tmp_path / "a")


def test_a_journal_that_is_in_use_gets_a_place_and_its_user_follows(opened: Open, tmp_path: Path) -> None:
    with iron.open(tmp_path / "journal.db"):
        assert flow(lambda: small(1), name="first")() == 1
        iron.open(tmp_path / "journal.db", values=tmp_path / "a").close()
        assert report(1) == 100_001
    assert len(files(tmp_path / "a")) == 1
    opened()
    assert last().value("large") == b"\x01" * 100_000
    assert not (tmp_path / "values").exists()


def test_the_place_that_somebody_else_noted_is_asked_for_nothing_until_it_is_trusted(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(values=tmp_path / "a")
    assert report.options(key="k")(1) == 100_001
    monkeypatch.setenv("IRONFLOW_KEY", "of somebody else")
    opened()
    with pytest.raises(StoreUnreachable, match="as somebody else noted, and are not asked for there"):
        last().value("large")
    with pytest.raises(StoreUnreachable, match="open it once with"):
        flow(lambda: len(large(2)), name="other")()
    assert iron.doctor().set_index("what").loc["place"]["state"] == "problem"
    assert len(files(tmp_path / "a")) == 1
    opened(values=tmp_path / "a")
    opened()
    assert flow(lambda: len(large(2)), name="other")() == 100_000
    monkeypatch.setenv("IRONFLOW_KEY", "of a third one")
    assert iron.trust(tmp_path / "journal.db") > 0
    opened()
    assert flow(lambda: len(large(3)), name="third")() == 100_000
    assert len(files(tmp_path / "a")) == 3


def test_journals_that_share_a_place_remove_nothing_of_each_other(
    opened: Open, place: str, count: Callable[[], int]
) -> None:
    opened("one.db", values=place)
    run = report.start(1)
    run.wait()
    opened("two.db", values=place)
    report(1)
    assert count() == 2
    opened("one.db")
    iron.get_run(run.id).delete()
    assert count() == 1
    opened("two.db")
    assert last().value("large") == b"\x01" * 100_000


def test_a_backup_and_a_copy_have_their_own_values(opened: Open, place: str, tmp_path: Path) -> None:
    opened(values=place)
    run = report.start(1)
    run.wait()
    with iron.open(tmp_path / "copy" / "journal.db") as copy:
        assert iron.copy(run, copy).value("large") == b"\x01" * 100_000
    iron.backup(tmp_path / "backup" / "journal.db")
    assert place_of(tmp_path / "backup" / "journal.db") is None
    run.delete()
    for name in ("copy", "backup"):
        opened(f"{name}/journal.db")
        assert last().value("large") == b"\x01" * 100_000
        assert len(files(tmp_path / name / "values")) == 1
    opened("copy/journal.db")
    run = last()
    with iron.open(tmp_path / "third.db", values=place) as third:
        moved = iron.copy(run, third)
        shutil.rmtree(tmp_path / "copy" / "values")
        assert moved.value("large") == b"\x01" * 100_000


def test_a_lost_value_is_computed_again_and_put_back(
    opened: Open, place: str, count: Callable[[], int], request: pytest.FixtureRequest
) -> None:
    opened(values=place)
    report.options(key="k")(1)
    if place.startswith("s3://"):
        request.getfixturevalue("bucket").objects.delete()
    else:
        shutil.rmtree(place)
    opened()
    found = iron.doctor().set_index("what")["found"]
    assert found["large values"].startswith("1 of 1 file in")
    assert iron.verify()["what"].to_list() == ["value"]
    assert flow(lambda: len(large(1)), name="again")() == 100_000
    assert count() == 1


def test_a_bucket_that_is_gone_interrupts_the_run_which_goes_on_when_it_is_back(opened: Open, bucket: Any) -> None:
    opened(values=f"s3://{BUCKET}/a")
    bucket.delete()
    with pytest.raises(StoreUnreachable, match="can't be written to s3://large-values/a/"):
        report.options(key="k")(1)
    assert iron.runs()["status"].to_list() == ["interrupted"]
    bucket.create()
    assert report.options(key="k")(1) == 100_001
    assert PERFORMED == ["small 1", "large 1", "large 1"]


def test_a_bucket_that_does_not_exist_is_told_when_the_journal_is_opened(
    opened: Open, bucket: Any, tmp_path: Path
) -> None:
    with pytest.raises(StoreUnreachable, match="can't be written to s3://no-such-bucket/a/"):
        opened(values="s3://no-such-bucket/a")
    opened(values=f"s3://{BUCKET}/a")
    assert report(1) == 100_001


@pytest.mark.slow
def test_a_server_that_is_down_makes_no_value_lost(
    opened: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    use_endpoint(f"http://{host}:{port}", monkeypatch)
    bucket_of(f"http://{host}:{port}").create()
    opened(values=f"s3://{BUCKET}/a")
    report.options(key="k")(1)
    server.stop()
    opened()
    with pytest.raises(StoreUnreachable, match="a large value can't be read from s3://large-values"):
        last().value("large")
    row = iron.doctor().set_index("what").loc["place"]
    assert row["state"] == "problem"
    assert "can't be looked for" in row["found"]
    again = ThreadedMotoServer(ip_address="127.0.0.1", port=port)
    again.start()
    try:
        assert last().value("large") == b"\x01" * 100_000
        assert PERFORMED == ["small 1", "large 1"]
    finally:
        bucket_of(f"http://{host}:{port}").objects.delete()
        bucket_of(f"http://{host}:{port}").delete()
        again.stop()
