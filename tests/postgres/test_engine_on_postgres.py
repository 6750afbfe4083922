"""Flows, graphs, deciders and their care on PostgreSQL, and runs that go from a file to a server and back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb import Graph, flow, step
from ironflow_nb.errors import JournalConflict, JournalError
from ironflow_nb.journal.ports import Select
from ironflow_nb.values.stored_value import INLINE_LIMIT
from tests.postgres.server import Server

ROOT = Path(__file__).parents[2]
LIMIT_S = 60


def until(is_done: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not is_done():
        assert time.monotonic() < end
        time.sleep(0.01)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ironflow_nb", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


CALLS: list[object] = []
TROUBLE: list[bool] = []


@step
def fetch(n: int) -> int:
    CALLS.append(n)
    if n == 2 and TROUBLE:
        raise OSError("down")
    return 10 * n


@step
def table(n_rows: int) -> pd.DataFrame:
    return pd.DataFrame({"n": range(n_rows)})


@flow
def report(n: int) -> int:
    return sum(fetch.map(range(n))) + len(table(1000))


@flow
def asking() -> str:
    return str(iron.ask("Who?")) + fetch(1).__str__()


@pytest.fixture(autouse=True)
def nothing_called() -> None:
    CALLS.clear()
    TROUBLE.clear()


def test_a_run_that_failed_on_a_file_is_completed_on_a_server(url: str) -> None:
    TROUBLE.append(True)
    with iron.open("journal.db"), iron.open(url) as there:
        with iron.open("journal.db"):
            with pytest.raises(OSError, match="down"):
                report(3)
            moved = iron.copy(report.last, there)
        TROUBLE.clear()
        CALLS.clear()
        assert moved.status == "failed"
        moved.resume().result()
        assert CALLS == [2]
        assert moved.result() == 1030
        assert iron.verify(engine=there).ok


def test_a_run_goes_on_when_its_server_is_restarted_under_it(server: Server, url: str) -> None:
    @step
    def restart(n: int) -> int:
        server.stop()
        threading.Timer(0.3, server.start).start()
        return n

    @flow
    def main() -> int:
        return fetch(1) + restart(2) + sum(fetch.map([3, 4])) + len(iron.steps())

    with iron.open(url) as engine:
        assert main() == 10 + 2 + 70 + 4
        assert iron.attempts()["status"].to_list() == ["completed"] * 4
        assert CALLS == [1, 3, 4]
        assert iron.verify().ok
        engine.close()


def test_who_reads_for_long_sees_one_moment_and_holds_nobody_up(url: str) -> None:
    with iron.open(url) as engine:
        report(1)
        with engine.reading() as reader:
            before = reader.runs(Select())
            report(2)
            assert reader.runs(Select()) == before
            assert len(iron.runs()) == len(before) + 1


def test_an_exported_run_goes_to_a_server_and_back(url: str, tmp_path: Path) -> None:
    with iron.open("journal.db"):
        assert report(3) == 1030
        first = iron.export(report.last, tmp_path / "first.run")
    with iron.open(url):
        moved = iron.import_(first)
        assert moved.result() == 1030
        with pytest.raises(JournalConflict, match="is there already"):
            iron.import_(first)
        second = iron.export(moved, tmp_path / "second.run")
    with iron.open("other.db"):
        assert iron.import_(second).result() == 1030
        assert iron.verify().ok


def test_the_care_of_a_journal_is_the_same_on_a_server(url: str) -> None:
    large = "x" * (2 * INLINE_LIMIT)

    @step
    def read(word: str) -> str:
        return large + word

    @flow
    def reading(word: str) -> int:
        return len(read(word))

    with iron.open(url) as engine:
        for word in ("a", "b", "c"):
            reading(word)
        used = iron.usage()
        assert used["file_bytes"].sum() >= 3 * len(large)
        assert iron.doctor()["state"].ne("problem").all()
        assert "PostgreSQL" in set(iron.doctor()["found"].str.split().str[0])
        reading.last.redact("read[0]", reason="private")
        assert len(iron.prune(keep=1, dry_run=False)) >= 0
        iron.runs().iloc[-1]
        first = iron.get_run(iron.runs()["run_id"].iloc[-1])
        first.delete()
        assert iron.verify().ok
        with engine.reading() as reader:
            assert first.id not in {run.run_id for run in reader.runs(Select())}
        for refused in (lambda: iron.vacuum(), lambda: iron.backup("copy.db")):
            with pytest.raises(JournalError, match=r"PostgreSQL|pg_dump"):
                refused()


def test_sql_reads_and_only_reads(url: str) -> None:
    with iron.open(url):
        report(2)
        assert set(iron.sql("SELECT name, status FROM run_history WHERE kind = ?", ["flow"])["status"]) == {"completed"}
        assert "10" in set(iron.sql("SELECT output FROM output_history WHERE name LIKE '%fetch'")["output"])
        began = iron.sql("SELECT started_at FROM run_history")["started_at"].iloc[0]
        assert pd.Timestamp(began).tzinfo is not None
        for bad in ("DELETE FROM runs", "SELECT 1; DROP TABLE runs", "SELECT nothing FROM runs"):
            with pytest.raises(ValueError, match=r"only reads|multiple commands|does not exist"):
                iron.sql(bad)
        assert len(iron.runs()) == 1


def test_a_graph_works_on_a_server(url: str) -> None:
    graph = Graph.from_dict({"graph": "g", "nodes": [
        {"id": "a", "template": {"text": "two"}},
        {"id": "b", "template": {"text": "{{ value }} and two", "values": {"value": "{{ a }}"}}},
    ]})  # fmt: skip
    with iron.open(url):
        assert "two and two" in str(graph())
        assert set(iron.steps()["status"]) == {"completed"}


def test_the_commands_take_a_url(url: str) -> None:
    with iron.open(url):
        report(2)
    listed = command("list", "--json", "--journal", url)
    assert listed.returncode == 0, listed.stderr
    (run,) = json.loads(listed.stdout)
    assert run["status"] == "completed"
    for arguments in (
        ["inspect", run["run_id"]],
        ["usage"],
        ["verify"],
        ["doctor"],
        ["sql", "SELECT * FROM run_history"],
    ):
        found = command(*arguments, "--journal", url)
        assert found.returncode == 0, (arguments, found.stderr)
    missing = command("list", "--journal", url + "_none")
    assert missing.returncode == 1
    assert "there is no journal at postgresql://" in missing.stderr


def test_an_answer_of_another_process_reaches_a_run_by_notification(url: str) -> None:
    with iron.open(url):
        run = asking.start()
        until(lambda: len(iron.waiting()) == 1)
        question = iron.waiting()
        answered = command("answer", run.id, "me", "--journal", url)
        assert answered.returncode == 0, (answered.stderr, question)
        assert run.result() == "me10"


def test_instants_are_those_of_the_server(server: Server, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose clock is an hour behind owns its runs no less, and finds nobody dead."""
    now = time.time_ns
    monkeypatch.setattr("ironflow_nb.execution.system.system.time.time_ns", lambda: now() - 3600 * 10**9)
    with iron.open(url) as engine:
        report(2)
        began = pd.Timestamp(iron.runs()["started_at"].iloc[0])
        assert abs((began - pd.Timestamp.now("UTC")).total_seconds()) < 600
        with engine.reading() as reader:
            (lease,) = reader.leases().values()
        assert abs(lease.heartbeat_at - now() // 1000) < 600 * 10**6
