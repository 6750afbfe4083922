"""Programs that are run to their end, with nothing of theirs left running, even if this Python is killed.

A program and what it starts are one process group, which is ended when the program has. What leaves the group, as by
`setsid`, is a service of its own: it stays, however the program or this Python ends.

A kernel that is killed can't end its programs itself, and a run that another process continues would start them a
second time beside the first. So each Python that runs programs has one supervisor: a small process in a session of its
own, which knows these groups and sees the end of that Python. It is notified before a program is started, too. If
this Python dies during the start, the group is unknown; on Linux the supervisor then finds the program, with all
processes that it has started, by a variable in its environment.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

import msgspec

from ironflow_nb.execution import SystemThreads, SystemWakeup, logger, system_entropy

GRACE_S: Final = 2.0
"""The time between SIGTERM and SIGKILL."""

DRAIN_S: Final = 0.5
"""The time in which a background process of an ended program may still write."""

_IS_WINDOWS: Final = os.name == "nt"
_SLICE_S: Final = 0.5  # on Windows, Ctrl-C is only seen between two waits
_CHUNK: Final = 1 << 16
_THREADS: Final = SystemThreads()


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """The program to run. `command` is a list, or on Windows a text for its command line."""

    command: Sequence[str] | str
    env: Mapping[str, str]
    cwd: Path
    stdin: bytes | None
    timeout_s: float
    max_bytes: int


class ProgramResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a program. `exit_code` is None if it took longer than its time limit."""

    exit_code: int | None
    stdout: bytes
    stderr: bytes
    is_truncated: bool


def run(program: Program) -> ProgramResult:
    """Run the program to its end, then end the processes that it has left running.

    An exception during the wait, such as `KeyboardInterrupt`, ends the program before it is raised further.

    Raises:
        OSError: it can't be started.
        ValueError: its command has a character that no command can have.
    """
    number = SUPERVISOR.begin()
    try:
        process = _start(program, number)
    except BaseException:
        SUPERVISOR.add(number, None)
        raise
    try:
        SUPERVISOR.add(number, process.pid)
        assert process.stdout is not None
        assert process.stderr is not None
        out, err = _Stream(process.stdout, program.max_bytes), _Stream(process.stderr, program.max_bytes)
        _write_stdin(process.stdin, program.stdin)
        is_late = not _wait(process, program.timeout_s)
        if not is_late:
            out.wait(DRAIN_S)
            err.wait(DRAIN_S)
    finally:
        end(process)
        SUPERVISOR.remove(process.pid)
    out.wait(DRAIN_S)
    err.wait(DRAIN_S)
    return ProgramResult(
        exit_code=None if is_late else process.returncode,
        stdout=bytes(out.content),
        stderr=bytes(err.content),
        is_truncated=out.is_cut or err.is_cut,
    )


def _start(program: Program, number: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 -- the caller has asked the grants
        program.command,
        env={**program.env, MARK: f"{SUPERVISOR.mark}.{number}"},
        cwd=program.cwd,
        stdin=subprocess.DEVNULL if program.stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        shell=isinstance(program.command, str),
        start_new_session=not _IS_WINDOWS,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Wait for the program; return False if it takes longer. The time is the machine's, not the engine's."""
    while timeout_s > 0:
        try:
            process.wait(min(timeout_s, _SLICE_S))
        except subprocess.TimeoutExpired:
            timeout_s -= _SLICE_S
            SUPERVISOR.renew()
        else:
            return True
    return False


# -- streams -----------------------------------------------------------------------------------------------------


class _Stream:
    """One output of a program: read to its end, so that the program never waits, and kept up to a limit."""

    def __init__(self, pipe: IO[bytes], max_bytes: int) -> None:
        self.content = bytearray()
        self.is_cut = False
        self._pipe = pipe
        self._max_bytes = max_bytes
        self._ended = SystemWakeup()
        self._has_ended = False
        _THREADS.spawn("ironflow-shell-read", self._read)

    def wait(self, timeout_s: float) -> None:
        """Wait until the output has ended, at most so long."""
        self._has_ended = self._has_ended or self._ended.take(timeout_s)

    def _read(self) -> None:
        try:
            with self._pipe as pipe:
                while chunk := pipe.read(_CHUNK):
                    room = self._max_bytes - len(self.content)
                    self.content += chunk[:room]
                    self.is_cut = self.is_cut or len(chunk) > room
        finally:
            self._ended.set()


def _write_stdin(pipe: IO[bytes] | None, content: bytes | None) -> None:
    if pipe is None:
        return

    def write() -> None:
        with suppress(OSError), pipe:  # a program may close its stdin early
            left = memoryview(content or b"")
            while left:
                left = left[pipe.write(left) :]

    _THREADS.spawn("ironflow-shell-write", write)


# -- ending ------------------------------------------------------------------------------------------------------


def end(process: subprocess.Popen[bytes]) -> None:
    """End the program and all processes of its group, first with SIGTERM, then with SIGKILL."""
    if _IS_WINDOWS:
        _end_tree_of_windows(process)
        return
    try:
        _signal(process.pid, signal.SIGTERM)
        _wait_for_group(process)
    finally:
        _signal(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # one that hangs in the kernel can't be waited for
            process.wait(GRACE_S)


def _wait_for_group(process: subprocess.Popen[bytes]) -> None:
    pause = SystemWakeup()
    left_s, step_s = GRACE_S, 0.001
    while left_s > 0:
        process.poll()  # an ended program stays in its group until it is polled
        if not _signal(process.pid, 0):
            return
        pause.take(step_s)
        left_s, step_s = left_s - step_s, min(2 * step_s, 0.05)


def _signal(group: int, number: int) -> bool:
    """Send a signal to the group; return False if there is none."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS says so of a group whose members have all ended
        return False
    return True


def _end_tree_of_windows(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with suppress(OSError):
            taskkill = ["taskkill", "/T", "/F", "/PID", str(process.pid)]
            subprocess.run(taskkill, capture_output=True, check=False)  # noqa: S603 -- a program of the system
        process.kill()
        process.wait()


# -- supervisor --------------------------------------------------------------------------------------------------

MARK: Final = "IRONFLOW_PROGRAM_OF"
"""The variable by which the supervisor finds a program of an unknown group: this Python, and a number."""

_SUPERVISOR_SOURCE: Final = """
import os, select, signal, sys, time

signal.signal(signal.SIGINT, signal.SIG_IGN)
os.setsid()
os.chdir("/")
parent, mark = int(sys.argv[1]), sys.argv[2].encode()
groups, begun, is_orderly, rest, watched = set(), set(), False, b"", [0]
try:
    watched.append(os.pidfd_open(parent))
except (AttributeError, OSError):
    pass


def read(path):
    with open(path, "rb") as file:
        return file.read()


def groups_of_begun():
    # Of a program whose group was told, all that is in another group is meant to stay.
    marks = {mark + b"." + number for number in begun}
    for name in os.listdir("/proc") if begun and os.path.isdir("/proc/self") else ():
        try:
            if name.isdigit() and not marks.isdisjoint(read(f"/proc/{name}/environ").split(b"\\0")):
                yield os.getpgid(int(name))
        except OSError:
            pass


def send(number):
    # An empty group, or one that belongs to another user by now, is forgotten.
    for group in list(groups):
        try:
            os.killpg(group, number)
        except OSError:
            groups.discard(group)


is_over = False
while not is_over:
    is_over = os.getppid() != parent  # looked at first: what it has said before its end is read once more
    ready = select.select(watched, [], [], 0 if is_over else None if len(watched) > 1 else 0.2)[0]
    said = os.read(0, 1 << 20) if 0 in ready else b""
    *lines, rest = (rest + said).split(b"\\n")
    for line in lines:
        kind, number = line[:1], line[1:]
        is_orderly = is_orderly or line == b"end"
        if kind in {b"+", b"-"}:
            (groups.add if kind == b"+" else groups.discard)(int(number))
        if kind in {b"?", b"!"}:
            (begun.add if kind == b"?" else begun.discard)(number)
    is_over = is_over or bool(ready and not said)
until = time.monotonic() + 2
if is_orderly:
    send(signal.SIGTERM)
while is_orderly and groups and time.monotonic() < until:
    time.sleep(0.01)
    send(0)
until = time.monotonic() + 2
send(signal.SIGKILL)
while (groups or begun) and time.monotonic() < until:
    found = set(groups_of_begun())
    groups |= found
    send(signal.SIGKILL)
    time.sleep(0.05)
    if not found and time.monotonic() > until - 1.5:
        break
"""


class Supervisor:
    """The supervisor of this process, which starts with the first program. It has a lock of its own."""

    def __init__(self) -> None:
        self.mark = ""
        self._lock = SystemThreads().lock()
        self._groups: set[int] = set()
        self._begun: set[int] = set()
        self._n_begun = 0
        self._owner = 0
        self._pipe = -1

    def begin(self) -> int:
        """Tell it that a program is about to be started; return the number of that."""
        with self._lock:
            if not _IS_WINDOWS:
                self._start()
            self._n_begun += 1
            self._begun.add(self._n_begun)
            self._send(f"?{self._n_begun}\n")
            return self._n_begun

    def _start(self) -> None:
        """Start it unless it runs. A fork of the process needs one of its own."""
        if self._owner != os.getpid():
            if self._pipe >= 0:
                os.close(self._pipe)
            self._owner, self._groups, self._begun = os.getpid(), set(), set()
            self.mark = f"{os.getpid()}.{system_entropy(8).hex()}"
            self._spawn()

    def add(self, number: int, group: int | None) -> None:
        """Tell it the group of the program with that number, to end when this process ends; None: it did not start."""
        with self._lock:
            self._begun.discard(number)
            if group is not None:
                self._groups.add(group)
            self._send(f"!{number}\n" if group is None else f"+{group}\n!{number}\n")

    def remove(self, group: int) -> None:
        """Tell it a group that has ended."""
        with self._lock:
            self._groups.discard(group)
            self._send(f"-{group}\n")

    def renew(self) -> None:
        """Start another one if it was killed."""
        with self._lock:
            self._send("\n")

    def end(self) -> None:
        """End all groups, because this process is about to end: SIGTERM here, then the supervisor sends SIGKILL."""
        if self._owner == os.getpid():  # a fork knows the groups of its parent, and must not end them
            for group in list(self._groups):
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, signal.SIGTERM)
            self._send("end\n")

    def _send(self, message: str) -> None:
        if self._pipe < 0:
            return
        try:
            os.write(self._pipe, message.encode())
        except OSError:  # the supervisor was killed
            os.close(self._pipe)
            self._spawn()

    def _spawn(self) -> None:
        self._pipe = -1
        reads, writes = os.pipe()
        try:
            command = [sys.executable, "-I", "-S", "-c", _SUPERVISOR_SOURCE, str(self._owner), f"{MARK}={self.mark}"]
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
            known = [*(f"+{group}\n" for group in self._groups), *(f"?{number}\n" for number in self._begun)]
            os.write(self._pipe, "".join(known).encode())


SUPERVISOR: Final = Supervisor()

atexit.register(SUPERVISOR.end)
