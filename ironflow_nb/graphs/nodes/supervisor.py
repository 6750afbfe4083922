"""The process that ends what shell nodes run when the Python that started them is no more.

A kernel that is killed can't end its programs itself, and a run that another process continues would start them a
second time beside the first. So each Python that runs programs has one supervisor: a small process of its own session,
which knows the groups of these programs and sees the end of that Python. A program that was started in the very last
moment is not known yet: on Linux it is found by a variable in its environment.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Final

from ironflow_nb.execution import SystemThreads, logger, system_entropy

MARK: Final = "IRONFLOW_PROGRAM_OF"
"""The variable by which a program is found whose group the supervisor was not told."""

_SOURCE: Final = """
import os, select, signal, sys, time

signal.signal(signal.SIGINT, signal.SIG_IGN)
os.setsid()
os.chdir("/")
parent, mark = int(sys.argv[1]), sys.argv[2].encode()
groups, is_orderly, rest, watched = set(), False, b"", [0]
try:
    watched.append(os.pidfd_open(parent))
except (AttributeError, OSError):
    pass


def read(path):
    with open(path, "rb") as file:
        return file.read()


def just_started():
    # What a program has left running long ago, in a group of its own, is meant to stay.
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        try:
            if name.isdigit() and mark in read(f"/proc/{name}/environ").split(b"\\0"):
                started = int(read(f"/proc/{name}/stat").rpartition(b")")[2].split()[19])
                if time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK") < 5:
                    yield os.getpgid(int(name))
        except OSError:
            pass


def send(number):
    # A group that is empty, or that belongs to others by now, is none of ours.
    for group in list(groups):
        try:
            os.killpg(group, number)
        except OSError:
            groups.discard(group)


while os.getppid() == parent:
    ready = select.select(watched, [], [], None if len(watched) > 1 else 0.2)[0]
    said = os.read(0, 65536) if 0 in ready else b""
    *lines, rest = (rest + said).split(b"\\n")
    for line in lines:
        is_orderly = is_orderly or line == b"end"
        if line[:1] in {b"+", b"-"}:
            (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
    if ready and not said:
        break
until = time.monotonic() + 2
if is_orderly:
    send(signal.SIGTERM)
while is_orderly and groups and time.monotonic() < until:
    time.sleep(0.01)
    send(0)
until = time.monotonic() + 2
send(signal.SIGKILL)
while time.monotonic() < until:
    found = set(just_started())
    groups |= found
    send(signal.SIGKILL)
    time.sleep(0.05)
    if not found and time.monotonic() > until - 1.5:
        break
"""


class Supervisor:
    """The supervisor of this process, started with the first program."""

    def __init__(self) -> None:
        self.mark = ""
        self._lock = SystemThreads().lock()
        self._groups: set[int] = set()
        self._owner = 0
        self._pipe = -1

    def start(self) -> None:
        """See that it runs; a fork of the process that has one needs its own."""
        with self._lock:
            if self._owner != os.getpid():
                if self._pipe >= 0:
                    os.close(self._pipe)
                self._owner, self._groups, self.mark = os.getpid(), set(), f"{os.getpid()}.{system_entropy(8).hex()}"
                self._spawn()

    def add(self, group: int) -> None:
        """Let it end the group with this process."""
        with self._lock:
            self._groups.add(group)
            self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        """Let it forget a group that has ended."""
        with self._lock:
            self._groups.discard(group)
            self._tell(f"-{group}\n")

    def end(self) -> None:
        """End what still runs, first in an orderly way: this process is about to end."""
        if self._owner == os.getpid():  # a fork has the groups, but not the right
            for group in list(self._groups):
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, signal.SIGTERM)
            self._tell("end\n")

    def _tell(self, message: str) -> None:
        if self._pipe < 0:
            return
        try:
            os.write(self._pipe, message.encode())
        except OSError:  # somebody has killed it
            os.close(self._pipe)
            self._spawn()

    def _spawn(self) -> None:
        self._pipe = -1
        reads, writes = os.pipe()
        try:
            command = [sys.executable, "-I", "-S", "-c", _SOURCE, str(self._owner), f"{MARK}={self.mark}"]
            files = [
                (os.POSIX_SPAWN_DUP2, reads, 0),
                *((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)),
            ]
            os.posix_spawn(sys.executable, command, os.environ, file_actions=files)
            self._pipe = writes
        except OSError as error:
            os.close(writes)
            logger().warning("programs of shell nodes will outlive this process if it is killed: %s", error)
        finally:
            os.close(reads)
        with suppress(OSError):
            os.write(self._pipe, "".join(f"+{group}\n" for group in self._groups).encode())


SUPERVISOR: Final = Supervisor()
