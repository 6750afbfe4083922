"""The journal in DynamoDB keeps the contract between two machines, and what the fences in its log are for."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectionClosedError
from botocore.httpsession import URLLib3Session

from ironflow_nb.dynamodb.dynamo_journal import DynamoJournal
from ironflow_nb.errors import (
    ConnectionLost,
    JournalBusy,
    JournalConflict,
    JournalError,
    JournalReadOnly,
    JournalTooNew,
)
from ironflow_nb.execution import SystemClock, SystemThreads
from ironflow_nb.journal.ports import Durability, Reader, RunCommit, Select
from ironflow_nb.values.stored_value import INLINE_LIMIT
from tests.contracts.histories import A, Author, B, C, lease, one_run, value
from tests.contracts.journal import JournalContract
from tests.contracts.lanes import LaneContract
from tests.contracts.stored_values import ValueContract
from tests.dynamodb.conftest import Machine, Open

FAST = Durability.PROCESS


class TestDynamoJournal(JournalContract, ValueContract, LaneContract):
    pass


def ids(journal: DynamoJournal) -> list[str]:
    with journal.reading() as reader:
        return [row.run_id for row in reader.events(Select())]


def positions(journal: DynamoJournal) -> list[tuple[int, str]]:
    with journal.reading() as reader:
        return [(row.position, row.run_id) for row in reader.events(Select())]


def test_machines_that_write_at_once_agree_on_one_order(opened: Open) -> None:
    n_writers, n_commits = 3, 6

    def write(name: str) -> DynamoJournal:
        journal = opened(name)
        for number in range(n_commits):
            author = Author()
            author.start(f"{name}{number:011d}")  # type: ignore[arg-type]
            entry = author.entry(f"{name}{number:011d}")  # type: ignore[arg-type]
            if number % 2:
                journal.append([entry], durability=FAST)
            else:
                journal.exchange(lambda _, entry=entry: [entry], durability=FAST)  # type: ignore[misc]
        return journal

    with ThreadPoolExecutor(n_writers) as threads:
        journals = list(threads.map(write, "abc"))
    seen = [positions(each) for each in journals]
    assert seen[0] == seen[1] == seen[2]
    assert [position for position, _ in seen[0]] == [*range(1, n_writers * n_commits + 1)]


def test_of_two_machines_that_append_to_one_run_one_is_refused(
    journal: DynamoJournal, other_handle: DynamoJournal
) -> None:
    journal.append([one_run(A)], durability=FAST)
    assert ids(other_handle) == [A]
    journal.append([one_run(B)], durability=FAST)
    with pytest.raises(JournalConflict) as caught:  # it had not seen what came last
        other_handle.append([one_run(C), one_run(B)], durability=FAST)
    assert caught.value.run_id == B
    assert ids(other_handle) == ids(journal) == [A, B]


def test_a_process_that_stands_still_in_a_commit_is_passed_by(
    journal: DynamoJournal, other_handle: DynamoJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ironflow_nb.dynamodb.replica.RESERVED_S", 0.05)
    other_handle.append([one_run(A)], durability=FAST)

    def stand_still(_: Reader) -> list[RunCommit]:
        journal.append([one_run(B)], durability=FAST)  # waits until the reservation of who stands still is void
        return [one_run(C)]

    with pytest.raises(ConnectionLost, match="stood still"):
        other_handle.exchange(stand_still, durability=FAST)
    assert ids(other_handle) == ids(journal) == [A, B]


def test_what_was_decided_and_given_up_keeps_nobody_waiting(
    journal: DynamoJournal, other_handle: DynamoJournal
) -> None:
    journal.append([one_run(A)], durability=FAST)

    def give_up(_: Reader) -> list[RunCommit]:
        raise KeyError("x")

    with pytest.raises(KeyError):
        journal.exchange(give_up, durability=FAST)
    other_handle.append([one_run(B)], durability=FAST)  # a reservation that is left would stand for ten seconds
    assert ids(journal) == [A, B]


def test_who_decides_sees_what_other_machines_have_committed_before(
    journal: DynamoJournal, other_handle: DynamoJournal
) -> None:
    journal.append([one_run(A)], durability=FAST)
    assert ids(other_handle) == [A]
    journal.append([one_run(B)], durability=FAST)
    seen: list[str] = []

    def look(reader: Reader) -> list[RunCommit]:
        seen.extend(row.run_id for row in reader.runs(Select()))
        return []

    other_handle.exchange(look, durability=FAST)
    assert sorted(seen) == sorted([A, B])


# -- AWS ---------------------------------------------------------------------------------------------------------


Answer = Callable[[AWSPreparedRequest], AWSResponse | None]


def answering(journal: DynamoJournal, action: str, answer: Answer) -> None:
    """Have something else than the server answer this kind of request, unless that returns None."""
    journal._tables._made("get_item")
    journal._tables._client.meta.events.register(f"before-send.dynamodb.{action}", lambda request, **_: answer(request))


def refusal(request: AWSPreparedRequest, code: str) -> AWSResponse:
    class Raw:
        def stream(self, *_: object, **__: object) -> Any:
            yield b'{"__type": "com.amazonaws.dynamodb.v20120810#%s", "message": "no"}' % code.encode()

    return AWSResponse(request.url, 400, {"content-type": "application/x-amz-json-1.0"}, Raw())


def test_a_commit_that_is_throttled_is_written_a_moment_later(journal: DynamoJournal) -> None:
    journal.append([one_run(A)], durability=FAST)
    left = [1, 2, 3, 4]

    def throttle(request: AWSPreparedRequest) -> AWSResponse | None:
        return refusal(request, "ProvisionedThroughputExceededException") if left and left.pop() else None

    answering(journal, "PutItem", throttle)
    journal.append([one_run(B)], durability=FAST)
    assert not left
    assert ids(journal) == [A, B]


def test_who_is_throttled_for_too_long_is_told(journal: DynamoJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.append([one_run(A)], durability=FAST)
    monkeypatch.setattr("ironflow_nb.dynamodb.dynamo_tables.RECONNECT_S", 0.0)
    answering(journal, "PutItem", lambda request: refusal(request, "ThrottlingException"))
    with pytest.raises(JournalBusy, match="throttled"):
        journal.append([one_run(B)], durability=FAST)
    assert ids(journal) == [A]


def test_a_commit_whose_answer_is_lost_is_written_once(journal: DynamoJournal) -> None:
    journal.append([one_run(A)], durability=FAST)
    left = [1]

    def lose(request: AWSPreparedRequest) -> AWSResponse | None:
        if left:
            left.pop()
            URLLib3Session().send(request)
            raise ConnectionClosedError(endpoint_url=request.url)
        return None

    answering(journal, "PutItem", lose)
    journal.append([one_run(B)], durability=FAST)
    journal.append([one_run(C)], durability=FAST)
    assert ids(journal) == [A, B, C]


def test_a_commit_that_took_effect_and_was_never_answered_counts(
    journal: DynamoJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for who presses the stop button while the answer is on its way."""
    journal.append([one_run(A)], durability=FAST)

    def interrupt(request: AWSPreparedRequest) -> AWSResponse | None:
        URLLib3Session().send(request)
        raise KeyboardInterrupt

    answering(journal, "PutItem", interrupt)
    journal.append([one_run(B)], durability=FAST)
    assert ids(journal) == [A, B]


def test_who_may_only_read_is_told_when_it_writes(journal: DynamoJournal, opened: Open) -> None:
    journal.append([one_run(A)], durability=FAST)
    answering(journal, "PutItem", lambda request: refusal(request, "AccessDeniedException"))
    with pytest.raises(JournalReadOnly, match="PutItem"):
        journal.append([one_run(B)], durability=FAST)
    reading = opened("third", read_only=True)
    assert ids(reading) == [A]
    with pytest.raises(JournalReadOnly, match="read_only=True"):
        reading.append([one_run(B)], durability=FAST)


def test_a_clock_that_is_wrong_is_corrected_by_that_of_the_server(on_machine: Machine) -> None:
    class Ahead(SystemClock):
        def now(self) -> int:
            return super().now() + 3600_000_000

    journal = DynamoJournal(on_machine("one"), Ahead(), SystemThreads().wakeup().take)
    journal.append([one_run(A)], durability=FAST)
    assert abs(journal.ahead + 3600_000_000) < 60_000_000
    journal.close()


# -- sizes -------------------------------------------------------------------------------------------------------


def test_a_commit_that_is_too_long_for_an_item_is_read_by_others(
    journal: DynamoJournal, other_handle: DynamoJournal
) -> None:
    contents = [bytes([n]) + os.urandom(INLINE_LIMIT - 2) for n in range(12)]
    stored = [value(each) for each in contents]
    author = Author()
    author.start(A)
    journal.append([author.entry(A, values=stored)], durability=FAST)
    with other_handle.reading() as reader:
        found = reader.values([each.value_id for each in stored])
    assert [found[each.value_id].content for each in stored] == contents


# -- the copy ----------------------------------------------------------------------------------------------------


def test_processes_of_one_machine_share_a_copy(opened: Open, tmp_path: Path) -> None:
    one, two = opened("one"), opened("one")
    one.append([one_run(A)], durability=FAST)
    two.append([one_run(B)], durability=FAST)
    assert ids(one) == ids(two) == [A, B]
    assert len(list((tmp_path / "one").glob("*.db"))) == 1


def test_a_copy_that_was_deleted_is_made_again(opened: Open, tmp_path: Path) -> None:
    one = opened("one")
    one.append([one_run(A)], durability=FAST)
    one.close()
    for each in (tmp_path / "one").iterdir():
        each.unlink()
    assert ids(opened("one")) == [A]


def test_who_may_write_to_the_log_reaches_no_other_file(
    journal: DynamoJournal, other_handle: DynamoJournal, tmp_path: Path
) -> None:
    journal.append([one_run(A)], durability=FAST)
    journal._log.put(2, "stranger", [(f"ATTACH '{tmp_path}/x.db' AS x", ()), ("CREATE TABLE x.y (z)", ())])
    with pytest.raises(JournalError, match="not authorized"):
        ids(other_handle)
    assert not (tmp_path / "x.db").exists()


def test_commits_of_a_newer_version_are_not_applied(
    journal: DynamoJournal, other_handle: DynamoJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.append([one_run(A)], durability=FAST)
    monkeypatch.setattr("ironflow_nb.dynamodb.commit_log.SCHEMA_VERSION", 1)
    with pytest.raises(JournalTooNew, match="upgrade"):
        ids(other_handle)


def test_signs_of_life_lie_beside_the_log(
    journal: DynamoJournal, other_handle: DynamoJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ironflow_nb.dynamodb.dynamo_journal.LEASES_S", 0.0)
    journal.append([one_run(A)], durability=FAST, lease=lease("me", heartbeat_at=1))
    for at in (2, 3):
        journal.write_lease(lease("me", heartbeat_at=at))
    with other_handle.reading() as reader:
        assert reader.leases()["me"].heartbeat_at == 3
    assert journal._replica is not None
    assert journal._replica.number == 1
    journal.release("me")
    with other_handle.reading() as reader:
        assert reader.leases() == {}


def test_readers_go_on_while_another_thread_decides(journal: DynamoJournal) -> None:
    journal.append([one_run(A)], durability=FAST)
    seen: list[str] = []

    def act(_: Reader) -> list[RunCommit]:
        reading = threading.Thread(target=lambda: seen.extend(ids(journal)))
        reading.start()
        reading.join()
        return [one_run(B)]

    journal.exchange(act, durability=FAST)
    assert seen == [A]
    assert ids(journal) == [A, B]


def test_nobody_asks_all_the_time_for_a_journal_that_is_not_there(
    journal: DynamoJournal, other_handle: DynamoJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ironflow_nb.dynamodb.dynamo_journal.LOOK_S", 3600.0)
    asked: list[object] = []
    answering(other_handle, "GetItem", lambda request: asked.append(request))
    assert [other_handle.change_token() for _ in range(3)] == [0, 0, 0]
    assert len(asked) == 1
    journal.append([one_run(A)], durability=FAST)
    assert other_handle.exists()
    assert other_handle.change_token() > 0


def test_the_copy_is_a_journal_of_sqlite(journal: DynamoJournal, tmp_path: Path) -> None:
    journal.append([one_run(A)], durability=FAST)
    [path] = (tmp_path / "one").glob("*.db")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT run_id FROM runs").fetchall() == [(A,)]
