"""Which process is which: nothing that a clock, a time zone or a language changes, and nobody dead by mistake."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from ctypes import wintypes
from pathlib import Path
from typing import Any

import msgspec
import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.execution.system import process_identity
from ironflow_nb.execution.system.process_identity import (
    UNKNOWN,
    is_alive,
    is_gone,
    may_live,
    new_lease,
    started_by_proc,
    started_by_ps,
)
from ironflow_nb.journal.ports import Durability, Lease
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from tests.conftest import Lab
from tests.contracts.histories import A, lease, one_run

DAY_US = 86_400_000_000
PS = "Sat Nov 28 10:00:24 2026"


def own(**changed: Any) -> Lease:
    return msgspec.structs.replace(new_lease(7, b"nonce"), **changed)


# -- what systems tell -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"Ss   {PS}\n", PS),
        (f"S+ {PS}", PS),
        ("R    Sat Nov  8 10:00:24 2026", "Sat Nov 8 10:00:24 2026"),
        (f"Z    {PS}", None),
        ("", None),
        ("\n", None),
    ],
)
def test_ps_tells_a_start_by_state_and_instant(text: str, expected: str | None) -> None:
    assert started_by_ps(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"7 (python) S {' '.join(map(str, range(4, 53)))}", "22"),
        (f"7 (a) b) ( S 1) S {' '.join(map(str, range(4, 53)))}", "22"),
        (f"7 (python) Z {' '.join(map(str, range(4, 53)))}", None),
        (f"7 (python) X {' '.join(map(str, range(4, 53)))}", None),
        ("7 (python) S 1", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_proc_tells_a_start_in_ticks(text: str, expected: str | None) -> None:
    assert started_by_proc(text) == expected


@pytest.mark.skipif(not Path("/bin/ps").exists(), reason="no ps here")
def test_a_start_is_the_same_in_every_time_zone_and_language(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = ("/bin/ps", "-o", "stat=", "-o", "lstart=", "-p", str(os.getpid()))
    told = set()
    for zone, language in (("America/New_York", "C"), ("Asia/Tokyo", "de_DE.UTF-8"), ("UTC", "C")):
        monkeypatch.setenv("TZ", zone)
        monkeypatch.setenv("LC_ALL", language)
        told.add(started_by_ps(process_identity._output(*ask) or ""))
    assert len(told) == 1
    assert None not in told


def test_a_program_that_can_not_be_asked_tells_nothing() -> None:
    assert process_identity._output("/no/such/program") is None
    assert process_identity._output(sys.executable, "-c", "raise SystemExit(1)") == ""


class Kernel32:
    """What Windows documents of four functions: a process by its pid, its times and how it ended."""

    def __init__(self, *, error: int = 0, created: int = 0, code: int = 259, tells: bool = True) -> None:
        self.error, self.created, self.code, self.tells = error, created, code, tells
        self.n_open = 0

    def OpenProcess(self, access: int, inherits: bool, pid: int) -> int:
        assert (access, inherits) == (0x1000, False)
        self.n_open += not self.error
        return 0 if self.error else pid

    def GetProcessTimes(self, _handle: int, created: Any, *_others: Any) -> bool:
        time: wintypes.FILETIME = created._obj
        time.dwHighDateTime, time.dwLowDateTime = self.created >> 32, self.created & 0xFFFFFFFF
        return self.tells

    def GetExitCodeProcess(self, _handle: int, code: Any) -> bool:
        code._obj.value = self.code
        return True

    def CloseHandle(self, _handle: int) -> None:
        self.n_open -= 1


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (Kernel32(created=134_000_000_000_000_001), "134000000000000001"),
        (Kernel32(created=134_000_000_000_000_001, code=0), None),  # it has ended, and somebody holds it
        (Kernel32(error=87), None),  # there is none
        (Kernel32(error=5), UNKNOWN),  # there is one that may not be asked
        (Kernel32(tells=False), UNKNOWN),
    ],
)
def test_windows_tells_when_a_process_was_created(kernel: Kernel32, expected: str | None) -> None:
    assert process_identity.asked(kernel, lambda: kernel.error, 4711) == expected
    assert kernel.n_open == 0


# -- who lives ---------------------------------------------------------------------------------------------------


def test_what_can_not_be_found_out_makes_nobody_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    lease = own()
    assert may_live(lease)

    def refused(self: Path, **_: object) -> str:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Path, "read_text", refused)
    if sys.platform == "linux":
        assert process_identity.process_started_at(lease.pid) == UNKNOWN
    assert may_live(lease)
    assert may_live(own(process_started_at=UNKNOWN))


def test_another_process_under_its_pid_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not may_live(own(process_started_at="another instant"))
    assert not may_live(own(pid=2**22 + 1, process_started_at=UNKNOWN))


def test_a_lease_is_gone_with_its_process_here_and_after_a_day_elsewhere() -> None:
    elsewhere = own(host="another machine", heartbeat_at=0)
    assert not is_gone(own(), now=10 * DAY_US)
    assert is_gone(own(process_started_at="before"), now=0)
    assert not is_alive(elsewhere, now=DAY_US)
    assert not is_gone(elsewhere, now=DAY_US)
    assert is_gone(elsewhere, now=DAY_US + 1)


PROGRAM = """
import os, sys
import ironflow_nb as iron
iron.use(sys.argv[1])
@iron.step
def work(): return 1
@iron.flow(name="main")
def main(): return work()
main()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.crash
def test_leases_of_killed_processes_are_taken_away_by_the_next_one_that_writes(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
            other.send_signal(signal.SIGKILL)
    journal = SqliteJournal(path)
    journal.append([one_run(A)], durability=Durability.PROCESS, lease=lease("elsewhere", heartbeat_at=time.time_ns()))
    with journal.reading() as reader:
        assert len(reader.leases()) == 2  # each has taken away that of the one before
    with iron.open(path) as engine:
        assert len(iron.runs()) == 4
        flow(lambda: 1, name="next")()
        with journal.reading() as reader:
            assert set(reader.leases()) == {engine.owner, "elsewhere"}
    with closing(journal), journal.reading() as reader:
        assert set(reader.leases()) == {"elsewhere"}


# -- with --------------------------------------------------------------------------------------------------------


@step
def one() -> int:
    return 1


@flow
def main() -> int:
    return one()


def test_an_engine_is_closed_by_the_last_with_that_ends(tmp_path: Path, lab: Lab) -> None:
    with iron.open(tmp_path / "journal.db") as engine:
        with engine:
            assert main() == 1
        assert iron.engine() is engine
        assert main.options(fresh=True)() == 1
        with iron.open(tmp_path / "other.db") as other, engine, other:
            assert iron.engine() is other
        assert iron.engine() is engine
        assert main.options(fresh=True)() == 1
    assert iron.engine() is lab.engine
    with pytest.raises(iron.errors.EngineClosed):
        engine.access.send(A, "pause")


def test_threads_share_an_engine_each_with_its_own_with(tmp_path: Path, lab: Lab) -> None:
    engine, both = iron.open(tmp_path / "journal.db"), threading.Barrier(4)
    found: list[object] = []

    def work() -> None:
        for _ in range(20):
            with engine:
                both.wait(20)  # all are inside
                found.append(main.options(fresh=True)() == 1 and iron.engine() is engine)
                both.wait(20)

    with engine:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [True] * 80
        assert len(iron.runs()) == 80
    assert engine.access.is_closed
    assert iron.engine() is lab.engine
