"""What Windows tells of its machine and of processes; asked there only."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import wintypes
from importlib import import_module
from typing import Any, Final

UNKNOWN: Final = "unknown"
_QUERY_LIMITED_INFORMATION: Final = 0x1000
_INVALID_PARAMETER: Final = 87
_STILL_ACTIVE: Final = 259
_KEY: Final = r"SOFTWARE\Microsoft\Cryptography"


def machine_id() -> str:
    """Return what this installation of Windows is called, and no other; nothing if it is not told."""
    registry: Any = import_module("winreg")
    try:
        access = registry.KEY_READ | registry.KEY_WOW64_64KEY
        with registry.OpenKey(registry.HKEY_LOCAL_MACHINE, _KEY, 0, access) as key:
            return str(registry.QueryValueEx(key, "MachineGuid")[0])
    except OSError:
        return ""


def started_at(pid: int) -> str | None:
    """Return when the process of that pid was created; None if there is surely none, or it has ended."""
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
    handle = kernel.OpenProcess(_QUERY_LIMITED_INFORMATION, False, pid)  # noqa: FBT003
    if not handle:  # of one that may not be asked it is known that it is there
        return None if last_error() == _INVALID_PARAMETER else UNKNOWN
    try:
        created, ended, in_kernel, in_user = (wintypes.FILETIME() for _ in range(4))
        code = wintypes.DWORD()
        times = map(ctypes.byref, (created, ended, in_kernel, in_user))
        if not kernel.GetProcessTimes(handle, *times) or not kernel.GetExitCodeProcess(handle, ctypes.byref(code)):
            return UNKNOWN
        # A process that has ended stays there as long as somebody holds it open.
        is_running = code.value == _STILL_ACTIVE
        return str(created.dwHighDateTime << 32 | created.dwLowDateTime) if is_running else None
    finally:
        kernel.CloseHandle(handle)
