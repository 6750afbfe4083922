"""Runs are found by their ids or by prefixes that only they have, whichever process they belong to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb import flow
from ironflow_nb.core.identity import RunId
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.history.run_status import unwritten
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from tests.conftest import Lab

ELSEWHERE = """
import sys
import ironflow_nb as iron

@iron.step
def work(n):
    return n * 10

@iron.step
def wait():
    print("waiting", flush=True)
    sys.stdin.readline()

@iron.flow
def far_away(how):
    values = [work(n) for n in range(3)]
    wait()
    if how == "fail":
        raise KeyError("elsewhere")
    return values

far_away(sys.argv[1])
"""


class Elsewhere:
    """Another process on the same journal, in the middle of a run."""

    def __init__(self, folder: Path, how: str) -> None:
        environment = os.environ | {"IRONFLOW_DB": str(folder / "journal.db")}
        environment.pop("PYTEST_CURRENT_TEST")
        self.process = subprocess.Popen(
            [sys.executable, "-c", ELSEWHERE, how], env=environment, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "waiting\n"

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = REGISTRY.adopt(Engine(SqliteJournal(tmp_path / "journal.db")))
    with REGISTRY.replaced(made):
        yield made
        made.close()


@pytest.fixture(params=["succeed"])
def elsewhere(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> Iterator[Elsewhere]:
    made = Elsewhere(tmp_path, request.param)
    yield made
    made.end()


def the_run() -> iron.Run[list[int]]:
    return iron.get_run(iron.runs()["run_id"][0])


def test_a_run_of_another_process_is_watched_until_it_ends(elsewhere: Elsewhere) -> None:
    run = the_run()
    assert run.status == "running"
    assert run.values("work") == [0, 10, 20]
    with pytest.raises(iron.ResultTimeout, match=r"did not end within 0\.1 s"):
        run.result(timeout_s=0.1)
    assert run.resume() is run
    elsewhere.go_on()
    assert run.result(timeout_s=30) == [0, 10, 20]
    assert run.status == "completed"


@pytest.mark.parametrize("elsewhere", ["fail"], indirect=True)
def test_a_failure_of_another_process_is_raised_here(elsewhere: Elsewhere) -> None:
    run = the_run()
    elsewhere.go_on()
    with pytest.raises(KeyError, match="elsewhere"):
        run.result(timeout_s=30)
    assert run.status == "failed"


@pytest.mark.skipif(sys.platform == "win32", reason="a dead owner is noticed after its lease")
def test_who_waits_for_a_run_of_another_process_learns_that_it_was_killed(elsewhere: Elsewhere) -> None:
    run = the_run()
    while len(run.steps()) < 4:  # the last one is written when the journal is flushed
        time.sleep(0.01)
    elsewhere.process.send_signal(signal.SIGKILL)
    with pytest.raises(iron.RunInterrupted, match="is interrupted and has no result"):
        run.result(timeout_s=30)
    assert run.steps()["status"].tolist() == ["completed"] * 3 + ["interrupted"]
    with pytest.raises(iron.errors.FlowNotDefined, match="run the cell or import the module that defines it"):
        run.resume()


def three_runs(lab: Lab) -> list[str]:
    """Return the ids of three runs, two of which begin with the same character."""

    @flow
    def main(n: int) -> int:
        return n

    given = iter([0xAA0 << 52, 0xAA1 << 52, 0xBB0 << 52])
    entropy = lab.engine.entropy
    lab.engine.access.entropy = lambda n: next(given).to_bytes(8, "big") if n == 8 else entropy(n)
    return [main.start(n).wait().id for n in range(3)]


def test_a_prefix_names_a_run_if_only_one_has_it(lab: Lab) -> None:
    one, two, three = three_runs(lab)
    assert (one[:2], two[:2]) == ("n8", "n8")
    assert iron.get_run(three[:1]).id == three
    assert iron.get_run(f" {three.upper()} ").id == three
    assert iron.get_run(one).id == one
    assert iron.runs(run=two)["run_id"].tolist() == [two]
    with pytest.raises(iron.errors.AmbiguousRun) as caught:
        iron.get_run("n8")
    assert one in str(caught.value)
    assert two in str(caught.value)
    assert "give more characters" in str(caught.value)
    assert three not in str(caught.value)


@pytest.mark.parametrize("text", ["zzzz", "", "n8n8n8n8n8n8n8", "u", "*", "%"])
def test_what_names_no_run_is_not_found_and_the_newest_are_listed(lab: Lab, text: str) -> None:
    ids = three_runs(lab)
    with pytest.raises(iron.RunNotFound) as caught:
        iron.get_run(text)
    assert str(caught.value).startswith(f"no run begins with {text!r}; the newest are {ids[2]} (")
    with pytest.raises(iron.RunNotFound):
        iron.resume(text)


def test_in_an_empty_journal_nothing_is_found_and_it_says_so(lab: Lab) -> None:
    with pytest.raises(iron.RunNotFound, match="the journal has no runs"):
        iron.get_run("a")


@pytest.mark.parametrize(
    "use",
    [
        lambda run: run.value("f"), lambda run: run.inputs("f"), lambda run: run.explain("f"), lambda run: run.at(-1),
        lambda run: run.redact("f"), lambda run: run.inject("f", 1, reason="x"), lambda run: run.fork(),
        lambda run: run.plan(), lambda run: run.undo(),
    ],
)  # fmt: skip
def test_a_handle_of_a_run_that_is_gone_says_so(lab: Lab, use: Callable[[iron.Run[object]], object]) -> None:
    three_runs(lab)
    with pytest.raises(iron.RunNotFound, match=r"no run zzzzzzzzzzzz"):
        use(iron.Run(iron.engine(), RunId("zzzzzzzzzzzz")))


def test_a_run_that_ends_while_the_journal_is_read_is_no_interrupted_one(engine: Engine) -> None:
    go = threading.Event()

    @flow
    def failing() -> None:
        go.wait(30)
        raise LookupError("no such page")

    run = failing.start()
    session = engine.sessions.get(run.id)  # as the one who asks has seen it, before it read a journal without the run
    go.set()
    with pytest.raises(LookupError):
        run.result(timeout_s=30)
    assert unwritten(engine, run.id, session)[1] == "failed"
