"""A run that is deleted is gone with all that is its own, and nothing of another run goes with it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.events import RecordedEvent, RunPaused
from ironflow_nb.core.identity import RunId
from ironflow_nb.errors import JournalConflict, NothingToDo, RunNotFound
from ironflow_nb.journal.ports import Durability, RunCommit
from ironflow_nb.values.value_files import ValueFiles
from tests.retention import flows
from tests.retention.flows import WHOLE, call, everything, files_of, rows, values_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def engine(path: Path) -> Iterator[iron.Engine]:
    with iron.open(path, durability="process") as engine:
        yield engine


@dataclass(frozen=True)
class Deposit:
    account: str


@dataclass(frozen=True)
class Deposited:
    n: int


accounts: iron.Decider[int, Deposit, Deposited, Any] = iron.Decider(
    "accounts", initial=0, id_of=lambda each: each.account
)


@accounts.decide
def decide(_state: int, _command: Deposit) -> Any:
    return iron.accept(Deposited(1))


@accounts.evolve
def evolve(state: int, event: Deposited) -> int:
    return state + event.n


def waiting_run() -> iron.Run[Any]:
    @flow
    def patient() -> None:
        iron.wait_for("go")

    run = patient.start()
    deadline = time.monotonic() + 60
    while run.status != "waiting":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return run


@pytest.mark.parametrize("style", WHOLE)
def test_a_deleted_run_leaves_nothing_but_that_it_was_deleted(engine: iron.Engine, path: Path, style: str) -> None:
    run = call(WHOLE[style], 3)
    shared = 1 if style == "def" else 0  # a result for all runs
    assert files_of(path)
    run.delete()
    assert not any(rows(path).values())
    assert (len(values_of(path)), files_of(path)) == (shared, set())
    left = iron.events()
    assert set(left["type"]) == {"RunDeleted"}
    assert run.id in set(left["run_id"])
    assert iron.runs().empty
    for ask in (lambda: iron.get_run(run.id), run.delete, lambda: run.status):
        with pytest.raises(RunNotFound):
            ask()


@pytest.mark.parametrize("style", WHOLE)
def test_equal_values_of_other_runs_stay(engine: iron.Engine, path: Path, style: str) -> None:
    first, second, other = (call(WHOLE[style], n) for n in (1, 1, 2))
    before = {key: value for key, value in everything().items() if not key.startswith(first.id)}
    first.delete()
    after = everything()
    assert after.items() <= before.items()
    assert {key.split()[0] for key in after} >= {second.id, other.id}
    second.delete()
    other.delete()
    assert files_of(path) == set()


def test_a_result_for_all_runs_stays_and_is_taken(engine: iron.Engine) -> None:
    call(flows.whole, 1).delete()
    again = call(flows.whole, 1)
    assert again.events().query("type == 'StepReused'")["step"].str.contains("shared").all()
    assert again.value(flows.shared) == "1 " * 3000


def test_the_key_of_a_deleted_run_is_free(engine: iron.Engine) -> None:
    keyed = flows.child.options(key="k")
    first = call(keyed, 1)
    first.delete()
    assert call(keyed, 2).id != first.id


def test_a_run_that_goes_on_is_not_deleted(engine: iron.Engine) -> None:
    run = waiting_run()
    with pytest.raises(NothingToDo, match=r"cancel\(\)\.wait\(\)"):
        run.delete()
    run.cancel().wait(timeout_s=30)
    run.delete()
    assert iron.waiting().empty


def test_a_child_goes_with_its_parent_only(engine: iron.Engine) -> None:
    call(flows.whole, 1)
    child = iron.runs(flows.child)["run_id"][0]
    with pytest.raises(ValueError, match="is a child of run"):
        iron.get_run(child).delete()


def test_a_run_of_a_decider_stays(engine: iron.Engine) -> None:
    call(flows.child, 1)
    accounts.send(Deposit("a"))
    run_id = iron.runs().query("kind == 'decider'")["run_id"].iloc[0]
    with pytest.raises(ValueError, match="of decider"):
        iron.get_run(run_id).delete()
    iron.prune(older_than=0, dry_run=False)
    assert list(iron.runs()["run_id"]) == [run_id]
    assert accounts.state("a") == 1


def origin(engine: iron.Engine, of: iron.Run[Any], run: iron.Run[Any], position: int | None, status: str) -> None:
    """Make the run a fork of the other one, or one that is built on it."""
    with closing(sqlite3.connect(engine.journal.location)) as connection, connection:
        connection.execute(
            "UPDATE runs SET origin_run_id = ?, origin_position = ?, status = ? WHERE run_id = ?",
            (of.id, position, status, run.id),
        )


@pytest.mark.parametrize(
    ("of", "position", "status", "why"),
    [
        (flows.child, 4, "completed", "is a fork of it"),
        (flows.child, None, "failed", "may be continued"),
        (flows.whole, None, "completed", "a child of it"),
        (flows.child, None, "completed", None),
    ],
)
def test_what_another_run_needs_is_kept(
    engine: iron.Engine, of: Any, position: int | None, status: str, why: str | None
) -> None:
    one, other = call(of, 1), call(of, 2)
    origin(engine, one, other, position, status)
    if why is None:
        one.delete()
    else:
        with pytest.raises(NothingToDo, match=why):
            one.delete()
        found = iron.prune(of, status="completed", dry_run=False)
        assert one.id in set(iron.runs()["run_id"]) or other.id not in set(iron.runs()["run_id"])
        assert not found.empty


def test_a_fork_and_its_origin_go_together(engine: iron.Engine) -> None:
    one, other = call(flows.child, 1), call(flows.child, 2)
    origin(engine, one, other, 4, "completed")
    assert set(iron.prune(flows.child, dry_run=False)["kept"]) == {""}
    assert iron.runs().empty


def test_nobody_appends_to_a_deleted_run(engine: iron.Engine) -> None:
    run = call(flows.child, 1)
    version = run.events()["version"].max()
    run.delete()
    late = RecordedEvent(int(version) + 1, engine.clock.now(), RunPaused())
    with pytest.raises(JournalConflict):
        engine.access.append([RunCommit(run_id=RunId(run.id), events=(late,))], Durability.PROCESS)
    assert iron.runs().empty


def test_positions_go_on_after_the_newest_run_was_deleted(engine: iron.Engine) -> None:
    run = call(flows.child, 1)
    newest = run.events()["position"].max()
    run.delete()
    assert call(flows.child, 2).events()["position"].min() > newest


def test_events_are_append_only_after_a_deletion(engine: iron.Engine) -> None:
    call(flows.child, 1).delete()
    for change in ("DELETE FROM events", "UPDATE events SET type = 'x'"):
        with closing(sqlite3.connect(engine.journal.location)) as connection, pytest.raises(sqlite3.IntegrityError):
            connection.execute(change)


def test_a_file_that_was_removed_before_its_row_was_written_is_written_again(
    engine: iron.Engine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, removed = ValueFiles.write, []

    def write_and_lose(self: ValueFiles, value_id: Any, content: Any) -> None:
        write(self, value_id, content)
        if value_id not in removed:  # as if another process deleted the last run that had the value at this moment
            removed.append(value_id)
            self.remove(value_id)

    monkeypatch.setattr(ValueFiles, "write", write_and_lose)

    @flow
    def stores() -> int:
        return len(flows.large(1))

    run = stores.start()
    assert run.result(timeout_s=60) == 100_000
    assert len(removed) == 1
    assert run.value(flows.large) == bytes([1]) * 100_000


def test_a_journal_in_memory_deletes_too() -> None:
    with iron.open(":memory:"):
        one, other = call(flows.whole, 1), call(flows.whole, 2)
        one.delete()
        assert len(iron.runs()) == 2
        assert len(other.value(flows.large)) == 100_000


def test_a_journal_that_is_only_read_is_not_pruned(engine: iron.Engine, path: Path) -> None:
    run = call(flows.child, 1)
    with iron.open(path, read_only=True), pytest.raises(iron.errors.JournalReadOnly):
        iron.get_run(run.id).delete()


def test_a_step_that_failed_can_be_deleted(engine: iron.Engine) -> None:
    @step
    def bad() -> None:
        raise ValueError("x" * 5000)

    @flow
    def fails() -> None:
        bad()

    run = fails.start()
    run.wait(timeout_s=30)
    run.delete()
    assert values_of(Path(engine.journal.location)) == set()


def test_a_row_of_a_sweep_whose_run_was_deleted_is_over(engine: iron.Engine) -> None:
    sweep = flows.child.sweep([{"n": n} for n in range(3)])
    sweep.wait()
    iron.get_run(sweep.frame()["run_id"][1]).delete()
    assert list(sweep.frame()["status"]) == ["completed", "cancelled", "completed"]
    assert list(sweep.frame()["result"].fillna(0)) == [4000, 0, 4000]
    sweep.retry().wait()
    assert len(iron.runs()) == 2
