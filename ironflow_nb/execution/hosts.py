"""Which process this is, and whether another one still lives.

A process is named by the boot of its machine, its pid namespace, its pid and the instant it started: pids are reused,
containers share host names, and a laptop reboots. A dead process of this host is seen at once; of one elsewhere only
its lease tells.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

from ironflow_nb.journal.ports import Lease

_SYSTEM: Final = str(sys.platform)  # a plain text, so that type checkers look at every branch
LEASE_S: Final = 30.0
HEARTBEAT_S: Final = 5.0


@cache
def host_id() -> str:
    """Return the name of this boot of this machine, within this pid namespace."""
    if _SYSTEM == "linux":
        boot = _read("/proc/sys/kernel/random/boot_id")
        namespace = _link("/proc/self/ns/pid")
        if boot:
            return f"{boot}/{namespace}"
    if _SYSTEM == "darwin":
        boot = _output("sysctl", "-n", "kern.bootsessionuuid")
        if boot:
            return boot
    # Without the id of a boot nobody can be seen to be dead; leases decide.
    name = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    return f"{name}/unknown boot"


def process_started_at(pid: int) -> str | None:
    """Return when the process of that pid started, in whatever unit its system has; None if there is none."""
    if _SYSTEM == "linux":
        text = _read(f"/proc/{pid}/stat")
        # The name in parentheses may contain anything; the start is the 20th field after it.
        fields = text.rpartition(")")[2].split()
        return fields[19] if len(fields) > 19 and fields[0] not in {"Z", "X"} else None
    if _SYSTEM == "darwin":
        return _output("ps", "-o", "lstart=", "-p", str(pid)) or None
    return "unknown"


def new_lease(now: int, nonce: bytes) -> Lease:
    """Return the lease of an engine of this process; `nonce` tells several engines apart."""
    pid = os.getpid()
    started_at = process_started_at(pid) or "unknown"
    owner = blake2b(f"{host_id()} {pid} {started_at}".encode() + nonce, digest_size=8).hexdigest()
    return Lease(owner=owner, host=host_id(), pid=pid, process_started_at=started_at, heartbeat_at=now, lease_s=LEASE_S)


_GIVEN_UP: Final[set[str]] = set()


def give_up(owner: str) -> None:
    """Note that an engine of this process was closed, even if its lease could not be deleted from the journal."""
    _GIVEN_UP.add(owner)


def is_alive(lease: Lease | None, *, now: int) -> bool:
    """Tell whether the owner of the lease still lives."""
    if lease is None or not may_live(lease):
        return False
    return _is_of_here(lease) or now - lease.heartbeat_at < lease.lease_s * 1e6


def may_live(lease: Lease) -> bool:
    """Tell whether the owner of the lease is not known to be dead, whatever its heartbeat says."""
    if lease.owner in _GIVEN_UP:
        return False
    return not _is_of_here(lease) or process_started_at(lease.pid) == lease.process_started_at


def _is_of_here(lease: Lease) -> bool:
    return lease.host == host_id() and not lease.host.endswith("unknown boot")


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


def _output(*command: str) -> str:
    import subprocess  # noqa: PLC0415 -- only macOS has to ask another program

    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip()  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
