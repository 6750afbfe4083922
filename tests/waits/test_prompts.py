"""A direct call in a terminal asks there, and an answer from elsewhere, or an interrupt, ends the prompt."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ironflow_nb as iron
from tests.waits.conftest import LIMIT_S, until

pytestmark = [pytest.mark.crash, pytest.mark.skipif(sys.platform == "win32", reason="it has no such terminals")]

PROGRAM = """
import sys
import ironflow_nb as iron
from ironflow_nb import flow, step

iron.use("journal.db")

@step
def work(n):
    with open("bodies.log", "a") as log:
        log.write(f"{n}\\n")
    return n

@flow
def asks():
    found = work(1), iron.approve("Go?", ["a"]), iron.ask("Who?", choices=["ann", "bob"]), iron.wait_for("go")
    return *found, iron.ask("How many?", type=int, timeout_s=float(sys.argv[1])), work(2)

try:
    print("RESULT", asks())
except BaseException as error:
    print("ENDED", type(error).__name__, error, *getattr(error, "__notes__", ()))
"""


class Terminal:
    """The program in a terminal of its own."""

    def __init__(self, folder: Path, timeout_s: float = 600) -> None:
        import pty

        self._master, slave = pty.openpty()
        environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
        self.process = subprocess.Popen(
            [sys.executable, "program.py", str(timeout_s)], cwd=folder, env=environment,
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self._shown = ""

    def until(self, text: str) -> str:
        """Wait until it shows the text; return what it has shown since the last time."""
        while text not in self._shown:
            ready, _, _ = select.select([self._master], [], [], LIMIT_S)
            assert ready, self._shown
            try:
                self._shown += os.read(self._master, 4096).decode()
            except OSError:  # it has ended
                raise AssertionError(self._shown) from None
        before, _, self._shown = self._shown.partition(text)
        return before

    def type(self, line: str) -> None:
        os.write(self._master, f"{line}\n".encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


@pytest.fixture
def terminal(folder: Path) -> Iterator[Terminal]:
    made = Terminal(folder)
    yield made
    made.close()


def statuses(folder: Path) -> list[str]:
    with iron.open(folder / "journal.db", read_only=True):
        return list(iron.runs()["status"])


def test_what_is_typed_is_the_answer_and_what_does_not_fit_is_asked_again(folder: Path, terminal: Terminal) -> None:
    terminal.until("yes or no (an empty line: later): ")
    terminal.type("perhaps")
    assert '"perhaps" is not of type "boolean"' in terminal.until("yes or no (an empty line: later): ")
    terminal.type("y")
    terminal.until("1 ann, 2 bob (an empty line: later): ")
    terminal.type("2")
    assert 'waiting for the signal "go"' in terminal.until("its payload, as JSON or text (an empty line: later): ")
    terminal.type('{"a": 1}')
    terminal.until("a whole number (an empty line: later): ")
    terminal.type("3")
    terminal.until("RESULT (1, True, 'bob', {'a': 1}, 3, 2)")
    with iron.open(folder / "journal.db", read_only=True):
        received = iron.events().query("type == 'SignalReceived'")["data"]
        assert sum("@" in (data.get("sent_by") or "") for data in received) == 3


def test_an_empty_line_leaves_the_run_waiting_and_the_program_continues_it(folder: Path, terminal: Terminal) -> None:
    terminal.until("later): ")
    terminal.type("")
    terminal.until("ENDED RunInterrupted run ")
    assert 'waits for an answer to "Go?"; iron.get_run("' in terminal.until('.answer(True, "iron.approve[0]")')
    assert terminal.process.wait(LIMIT_S) == 0
    assert statuses(folder) == ["waiting"]
    again = Terminal(folder)
    again.until("yes or no (an empty line: later): ")
    os.kill(again.process.pid, signal.SIGINT)
    again.until("ENDED KeyboardInterrupt")
    again.close()
    assert statuses(folder) == ["waiting"]
    assert (folder / "bodies.log").read_text().split() == ["1"]


def test_an_answer_from_another_process_ends_the_prompt(folder: Path, terminal: Terminal) -> None:
    terminal.until("yes or no (an empty line: later): ")
    with iron.open(folder / "journal.db"):
        run = iron.get_run(iron.waiting()["run_id"].iloc[0])
        run.answer(False)
        terminal.until("1 ann, 2 bob (an empty line: later): ")
        run.answer("ann")
        terminal.until("its payload, as JSON or text (an empty line: later): ")
        run.signal("go", 5)
        terminal.until("a whole number (an empty line: later): ")
        os.kill(terminal.process.pid, signal.SIGINT)
        terminal.until("ENDED KeyboardInterrupt")
        assert run.status == "waiting"


def test_the_end_of_its_time_and_a_cancel_end_the_prompt(folder: Path) -> None:
    first = Terminal(folder)
    first.until("yes or no (an empty line: later): ")
    with iron.open(folder / "journal.db"):
        iron.get_run(iron.waiting()["run_id"].iloc[0]).cancel()
    first.until("ENDED RunCancelled")
    first.close()
    second = Terminal(folder, timeout_s=0.5)
    for line in ("no", "ann", "null"):
        second.until("later): ")
        second.type(line)
    second.until("ENDED WaitTimeout")
    second.close()


def test_a_terminal_that_dies_while_it_asks_leaves_the_run_waiting(folder: Path, terminal: Terminal) -> None:
    terminal.until("yes or no (an empty line: later): ")
    until(lambda: statuses(folder) == ["waiting"])
    terminal.process.kill()
    terminal.process.wait(LIMIT_S)
    assert statuses(folder) == ["waiting"]
    with iron.open(folder / "journal.db"):
        iron.get_run(iron.waiting()["run_id"].iloc[0]).answer(True)
    again = Terminal(folder)
    again.until("1 ann, 2 bob (an empty line: later): ")
    again.close()
    assert (folder / "bodies.log").read_text().split() == ["1"]


HELD = """
import os, threading, time
import ironflow_nb as iron

iron.use("journal.db")

def hold():
    while not iron.engine().sessions or not len(iron.waiting()):
        time.sleep(0.01)
    (session,) = iron.engine().sessions.values()
    session.waits.n_holders += 1
    print("HELD", flush=True)
    while not os.path.exists("let go"):
        time.sleep(0.01)
    session.waits.n_holders -= 1

@iron.flow
def asks():
    return iron.approve("Go?"), iron.ask("Who?")

threading.Thread(target=hold, daemon=True).start()
print("RESULT", asks())
"""


def test_what_was_answered_is_not_asked_again_while_another_thread_holds_it(folder: Path) -> None:
    (folder / "program.py").write_text(HELD)
    terminal = Terminal(folder)
    terminal.until("HELD")
    terminal.type("y")
    with iron.open(folder / "journal.db", read_only=True) as engine:
        run_ids = list(iron.runs()["run_id"])

        def is_sent() -> bool:
            with engine.reading() as reader:
                return bool(reader.signals(run_ids))

        until(is_sent)
    (folder / "let go").touch()
    assert "yes or no (an empty line: later): " not in terminal.until("Who?").partition("later): ")[2]
    terminal.until("later): ")
    terminal.type("ann")
    terminal.until("RESULT (True, 'ann')")
    terminal.close()


ENDED_OFTEN = """
import sys, threading
from ironflow_nb.execution.system.interrupts import INTERRUPTS, ReadingEnded, read_line

sys.setswitchinterval(1e-6)
ended = 0
for _ in range(100):
    def end():
        for _ in range(20):
            INTERRUPTS.end_reading()

    threads = [threading.Thread(target=end) for _ in range(3)]
    with INTERRUPTS.taken():
        try:
            read_line("? ", lambda: [each.start() for each in threads] is None)
        except ReadingEnded:
            ended += 1
    for each in threads:
        if each.ident is not None:  # the others were to be started when the reading ended
            each.join()
print("ENDED", ended, INTERRUPTS.is_pending)
"""


def test_a_reading_that_many_threads_end_is_not_taken_for_the_stop_button(folder: Path) -> None:
    (folder / "program.py").write_text(ENDED_OFTEN)
    terminal = Terminal(folder)
    terminal.until("ENDED 100 False")
    terminal.close()
