"""The identity of this process, and whether another process still lives.

A process is named by the boot of its machine, its pid namespace, its pid and the instant it started: pids are reused,
containers share host names, and a laptop reboots. A dead process of this host is seen at once; one of another host
only by its lease. The functions for Windows are called on Windows only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from functools import cache
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from ironflow_nb.journal.ports import Lease

UNKNOWN_TO_WINDOWS: Final = "unknown"
_QUERY_LIMITED_INFORMATION: Final = 0x1000
_INVALID_PARAMETER: Final = 87
_STILL_ACTIVE: Final = 259
_KEY: Final = r"SOFTWARE\Microsoft\Cryptography"


def machine_id() -> str:
    """Return the unique id of this installation of Windows; an empty text if it can't be read."""
    registry: Any = import_module("winreg")
    try:
        access = registry.KEY_READ | registry.KEY_WOW64_64KEY
        with registry.OpenKey(registry.HKEY_LOCAL_MACHINE, _KEY, 0, access) as key:
            return str(registry.QueryValueEx(key, "MachineGuid")[0])
    except OSError:
        return ""


def started_at(pid: int) -> str | None:
    """Return when the process of that pid was created; None if there is surely none, or it has ended."""
    import ctypes
    from ctypes import wintypes

    kernel: Any = getattr(ctypes, "WinDLL")("kernel32", use_last_error=True)  # noqa: B009 -- Windows alone has it
    kernel.OpenProcess.argtypes = (wintypes.DWORD, wintypes.BOOL, wintypes.DWORD)
    kernel.OpenProcess.restype = wintypes.HANDLE
    kernel.GetProcessTimes.argtypes = (wintypes.HANDLE, *[ctypes.POINTER(wintypes.FILETIME)] * 4)
    kernel.GetExitCodeProcess.argtypes = (wintypes.HANDLE, ctypes.POINTER(wintypes.DWORD))
    kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
    return asked(kernel, getattr(ctypes, "get_last_error"), pid)  # noqa: B009


def asked(kernel: Any, last_error: Callable[[], int], pid: int) -> str | None:
    """Return the same by a library that has the functions of ``kernel32``.

    Windows keeps the instant, in 100 ns of UTC, as it was when the process was created, whatever the clock does later.
    """
    from ctypes import byref, wintypes

    handle = kernel.OpenProcess(_QUERY_LIMITED_INFORMATION, False, pid)  # noqa: FBT003
    if not handle:  # access is denied, so the process exists
        return None if last_error() == _INVALID_PARAMETER else UNKNOWN_TO_WINDOWS
    try:
        created, ended, in_kernel, in_user = (wintypes.FILETIME() for _ in range(4))
        code = wintypes.DWORD()
        times = map(byref, (created, ended, in_kernel, in_user))
        if not kernel.GetProcessTimes(handle, *times) or not kernel.GetExitCodeProcess(handle, byref(code)):
            return UNKNOWN_TO_WINDOWS
        # An ended process stays there as long as another process has a handle of it.
        is_running = code.value == _STILL_ACTIVE
        return str(created.dwHighDateTime << 32 | created.dwLowDateTime) if is_running else None
    finally:
        kernel.CloseHandle(handle)


_SYSTEM: Final = str(sys.platform)  # a plain text, so that type checkers look at every branch
LEASE_S: Final = 30.0
HEARTBEAT_S: Final = 5.0
FORGOTTEN_S: Final = 86_400.0
UNKNOWN: Final = "unknown"
_NO_BOOT: Final = "unknown boot"


@cache
def host_id() -> str:
    """Return the name of this boot of this machine, within this pid namespace."""
    if _SYSTEM == "linux":
        boot = _read("/proc/sys/kernel/random/boot_id")
        namespace = _link("/proc/self/ns/pid")
        if boot:
            return f"{boot}/{namespace}"
    if _SYSTEM == "darwin":
        session = _output("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")
        if session:
            return session
    name = _host_name()
    if _SYSTEM == "win32":
        # No boot is needed: there a process is known by an instant that is never counted from one.
        machine = machine_id()
        if machine:
            return f"{machine}/{name}"
    # Without the id of a boot no process is known to be dead; leases decide.
    return f"{name}/{_NO_BOOT}"


def _host_name() -> str:
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")


ACTOR: Final[ContextVar[str | None]] = ContextVar("ironflow_actor", default=None)
"""The name of the one for whom this process acts at the moment: a server, for the holder of a key."""


def person() -> str:
    """Return for whom this process acts, by default the person that works in it: the names of user and host."""
    import getpass

    actor = ACTOR.get()
    if actor is not None:
        return actor

    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container may have no name for its user
        name = f"user {os.getuid()}"
    return f"{name}@{_host_name()}"


def process_started_at(pid: int) -> str | None:
    """Return when the process of that pid started, in whatever unit its system has; None if there is surely none.

    No unit moves when the clock, or its time zone, is set. What can't be found out is ``unknown``.
    """
    if _SYSTEM == "linux":
        try:
            return started_by_proc(Path(f"/proc/{pid}/stat").read_text(errors="replace"))
        except (FileNotFoundError, ProcessLookupError):
            return None
        except OSError:  # as too many open files
            return UNKNOWN
    if _SYSTEM == "darwin":
        told = _output("/bin/ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid))
        return UNKNOWN if told is None else started_by_ps(told)
    if _SYSTEM == "win32":
        return started_at(pid)
    return UNKNOWN


def started_by_proc(text: str) -> str | None:
    """Return when a process started, in ticks since the boot, by its ``stat``; None of one that has ended."""
    # The name in parentheses may contain anything; the start is the 20th field after it.
    fields = text.rpartition(")")[2].split()
    if len(fields) <= 19:
        return UNKNOWN
    return fields[19] if fields[0] not in {"Z", "X", "x"} else None


def started_by_ps(text: str) -> str | None:
    """Return when a process started by its state and start as ``ps`` tells them; None if it tells none, or has ended.

    macOS keeps the instant of the start, and does not count it back from now; ``ps`` tells it to the second.
    """
    state, _, started_at = text.strip().partition(" ")
    return " ".join(started_at.split()) or None if not state.startswith("Z") else None


def new_lease(now: int, nonce: bytes) -> Lease:
    """Return the lease of an engine of this process; `nonce` tells several engines apart."""
    pid = os.getpid()
    started_at = process_started_at(pid) or UNKNOWN
    owner = blake2b(f"{host_id()} {pid} {started_at}".encode() + nonce, digest_size=8).hexdigest()
    return Lease(owner=owner, host=host_id(), pid=pid, process_started_at=started_at, heartbeat_at=now, lease_s=LEASE_S)


_GIVEN_UP: Final[set[str]] = set()


def give_up(owner: str) -> None:
    """Note that an engine of this process was closed, even if its lease could not be deleted from the journal."""
    _GIVEN_UP.add(owner)


def is_alive(lease: Lease | None, *, now: int) -> bool:
    """Return True if the owner of the lease still lives."""
    if lease is None or not may_live(lease):
        return False
    return _is_of_here(lease) or now - lease.heartbeat_at < lease.lease_s * 1e6


def may_live(lease: Lease) -> bool:
    """Return True if the owner of the lease is not known to be dead, whatever its heartbeat says."""
    if lease.owner in _GIVEN_UP:
        return False
    if not _is_of_here(lease):
        return True
    found = process_started_at(lease.pid)
    return found is not None and (found == lease.process_started_at or UNKNOWN in {found, lease.process_started_at})


def is_gone(lease: Lease, *, now: int) -> bool:
    """Return True if the lease can be dropped: its owner is dead, or was silent elsewhere for over a day."""
    return not may_live(lease) or (not _is_of_here(lease) and now - lease.heartbeat_at > FORGOTTEN_S * 1e6)


def _is_of_here(lease: Lease) -> bool:
    return lease.host == host_id() and not lease.host.endswith(_NO_BOOT)


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""


def _output(*command: str) -> str | None:
    """Return what a program tells, in no language and time zone of the user's; None if it could not be asked."""
    import subprocess

    plain = os.environ | {"LC_ALL": "C", "TZ": "UTC0"}
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False, env=plain)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip()
