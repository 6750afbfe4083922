"""A verification finds nothing in a journal that only the package wrote, and whatever somebody else changed in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.retention import flows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def engine(path: Path) -> Iterator[iron.Engine]:
    with iron.open(path, durability="process") as engine:
        yield engine


@step
def failing(n: int) -> int:
    raise OSError(n)


@flow
def living_with() -> int:
    iron.sleep(0.001)
    iron.now()
    try:
        failing(1)
    except OSError:
        return flows.used("text")
    return 0


@flow
def failed() -> None:
    failing(2)


def changed(path: Path, *statements: str) -> None:
    """Change the file as somebody without the package does."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER IF EXISTS events_refuse_update")
        connection.execute("DROP TRIGGER IF EXISTS events_refuse_delete")
        for statement in statements:
            assert connection.execute(statement).rowcount > 0
        connection.commit()


def filled() -> None:
    for n in range(2):
        flows.whole.options(fresh=True)(n)
    living_with()
    with pytest.raises(OSError, match="2"):
        failed()


def test_nothing_is_wrong_with_what_the_package_writes(engine: iron.Engine) -> None:
    filled()
    run = flows.whole.last
    assert run is not None
    run.inject("used[0]", 7, reason="a test")
    run.resume().result(20)
    run.fork(inputs={"n": 3}).result(20)
    run.redact("middle[0]")
    first = iron.verify()
    assert first.ok, first
    assert "nothing is wrong; sealed as" in repr(first)
    assert iron.verify(first.seal).seal == first.seal  # nothing was new
    flows.whole(9)
    iron.prune(flow=living_with, keep=1, dry_run=False)
    living_with.last.delete()  # type: ignore[union-attr]
    second = iron.verify(first.seal)
    assert second.ok, second
    assert second.seal != first.seal


def test_a_journal_that_others_write_to_is_verified_at_one_moment(engine: iron.Engine) -> None:
    run = flows.whole.start(1)
    for _ in range(5):
        assert iron.verify().ok
    run.result(20)
    assert iron.verify().ok


CHANGES: dict[str, tuple[str, str, str]] = {
    "an event": (
        "UPDATE events SET at = at + 1 WHERE position = (SELECT max(position) FROM events WHERE type = 'StepStarted')",
        "events", "not the one that was sealed",
    ),
    "a missing event": (
        "DELETE FROM events WHERE position = (SELECT min(position) FROM events WHERE type = 'StepCompleted')",
        "events", "gaps",
    ),
    "a row of a step": (
        "UPDATE steps SET reason = 'other' WHERE rowid = (SELECT max(rowid) FROM steps)", "rows", "of attempt 1",
    ),
    "a row of a run": ("UPDATE runs SET key = 'mine' WHERE name LIKE '%failed'", "rows", "the row of the run"),
    "a value in the table": (
        """UPDATE "values" SET data = x'00' WHERE data IS NOT NULL AND size > 1000""", "value",
        "can't be read",
    ),
    "a value in a row": (
        "UPDATE steps SET output = '99' WHERE output IS NOT NULL AND name LIKE '%used'", "value", "can't be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_somebody_changed_in_the_file_is_found(change: str, path: Path) -> None:
    with iron.open(path):
        filled()
        assert iron.verify().ok
    statement, what, found = CHANGES[change]
    changed(path, statement)
    with iron.open(path):
        for _ in range(2):  # and it is not sealed as it is now
            wrong = iron.verify()
            assert not wrong.ok
            assert set(wrong["what"]) >= {what}
            assert wrong["found"].str.contains(found).any(), wrong


def test_a_run_that_is_gone_without_having_been_deleted_is_found(path: Path) -> None:
    with iron.open(path):
        filled()
        run_id = living_with.last.id  # type: ignore[union-attr]
        assert iron.verify().ok
    tables = ("steps", "runs", "events")
    changed(path, *(f"DELETE FROM {table} WHERE run_id = '{run_id}'" for table in tables))
    with iron.open(path):
        [row] = iron.verify().to_dict("records")
    assert (row["what"], row["run_id"], row["found"]) == (
        "events", run_id, "it was sealed, and is gone without having been deleted",
    )  # fmt: skip


def test_a_changed_value_file_is_found(path: Path) -> None:
    with iron.open(path):
        filled()
        [file, *_] = sorted(
            each for each in path.parent.rglob("*") if each.is_file() and each.stat().st_size == 100_000
        )
        file.chmod(0o600)
        file.write_bytes(b"x" * 100_000)
        wrong = iron.verify()
        assert set(wrong["what"]) == {"value"}
        assert wrong["step"].str.contains("large").all()


def test_a_seal_that_was_taken_out_or_is_of_another_key_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with iron.open(path):
        filled()
        first = iron.verify()
        flows.whole(9)
        second = iron.verify()
        assert second.ok
    assert first.seal is not None
    changed(path, f"""DELETE FROM "values" WHERE value_id = x'{first.seal}'""")
    with iron.open(path):
        assert iron.verify()["found"].tolist() == [f"seal {first.seal} is missing"]
        monkeypatch.setenv("IRONFLOW_KEY", "another key of the tests")
    with iron.open(path):
        assert f"seal {second.seal} is damaged, or was not made with your key" in set(iron.verify()["found"])


def test_a_journal_that_can_only_be_read_is_verified_and_not_sealed(path: Path) -> None:
    with iron.open(path):
        filled()
    with iron.open(path, read_only=True):
        found = iron.verify()
        assert found.ok
        assert found.seal is None
        assert repr(found).endswith("; not sealed")


def test_a_verification_of_nothing_is_fine(engine: iron.Engine) -> None:
    found = iron.verify()
    assert found.ok
