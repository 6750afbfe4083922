"""A real Jupyter kernel in the hand of a test."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

TIMEOUT_S = 60.0


@dataclass
class Shown:
    """What a cell showed, as a front end has it at the end: outputs that were updated show their last state."""

    text: str = ""
    bundles: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    traceback: str = ""
    n_updates: int = 0

    def of(self, kind: str) -> list[str]:
        return [bundle[kind] for bundle in self.bundles if kind in bundle]


class Kernel:
    """One kernel process."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        clean = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
        self._manager = KernelManager(kernel_name="python3")
        self._manager.start_kernel(cwd=str(folder), env=clean | (environment or {}))
        self._client: BlockingKernelClient = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=TIMEOUT_S)
        self._displays: dict[str, dict[str, Any]] = {}

    @property
    def pid(self) -> int:
        pid: int = self._manager.provisioner.process.pid
        return pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()

    def send(self, source: str, cell_id: str | None = None) -> str:
        """Execute without waiting, with the id of a cell as front ends send it; return the id to `collect`."""
        if cell_id is None:
            return self._client.execute(source)
        content = {"code": source, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": True}
        message = self._client.session.msg("execute_request", content, metadata={"cellId": cell_id})
        self._client.shell_channel.send(message)
        sent: str = message["header"]["msg_id"]
        return sent

    def run(self, source: str, timeout_s: float = TIMEOUT_S, cell_id: str | None = None) -> Shown:
        """Execute a cell and return what it showed."""
        return self.collect(self.send(source, cell_id), timeout_s)

    def collect(self, message_id: str, timeout_s: float = TIMEOUT_S) -> Shown:
        """Wait for a cell to end and return what it showed."""
        shown = Shown()
        deadline = time.monotonic() + timeout_s
        while True:
            message = self._client.get_iopub_msg(timeout=max(0.1, deadline - time.monotonic()))
            kind, content = message["msg_type"], message["content"]
            mine = message["parent_header"].get("msg_id") == message_id
            if kind == "update_display_data":
                self._update(content, shown)
            elif not mine:
                continue
            elif kind == "stream":
                shown.text += content["text"]
            elif kind in {"display_data", "execute_result"}:
                self._display(content, shown)
            elif kind == "error":
                shown.error = f"{content['ename']}: {content['evalue']}"
                shown.traceback = "\n".join(content["traceback"])
            elif kind == "status" and content["execution_state"] == "idle":
                return shown

    def await_text(self, message_id: str, text: str) -> None:
        """Wait until the cell has printed the text; what it shows until then is not collected."""
        deadline, printed = time.monotonic() + TIMEOUT_S, ""
        while text not in printed:
            message = self._client.get_iopub_msg(timeout=max(0.1, deadline - time.monotonic()))
            if message["parent_header"].get("msg_id") == message_id and message["msg_type"] == "stream":
                printed += message["content"]["text"]

    def prompted(self) -> str:
        """Wait until a cell asks for a line, and return its prompt."""
        message = self._client.get_stdin_msg(timeout=TIMEOUT_S)
        prompt: str = message["content"]["prompt"]
        return prompt

    def type(self, line: str) -> None:
        """Give the cell that asks a line."""
        self._client.input(line)

    def _display(self, content: dict[str, Any], shown: Shown) -> None:
        bundle = dict(content["data"])
        shown.bundles.append(bundle)
        display_id = content.get("transient", {}).get("display_id")
        if display_id is not None:
            self._displays[display_id] = bundle

    def _update(self, content: dict[str, Any], shown: Shown) -> None:
        shown.n_updates += 1
        bundle = self._displays.get(content["transient"]["display_id"])
        if bundle is not None:
            bundle.clear()
            bundle.update(content["data"])

    def take_updates(self, until: Callable[[int], bool]) -> int:
        """Let outputs of earlier cells be updated until that holds, given how many updates came; return how many."""
        shown = Shown()
        deadline = time.monotonic() + TIMEOUT_S
        while not until(shown.n_updates):
            message = self._client.get_iopub_msg(timeout=max(deadline - time.monotonic(), 0))
            if message["msg_type"] == "update_display_data":
                self._update(message["content"], shown)
        return shown.n_updates

    def interrupt(self) -> None:
        """Press the stop button."""
        self._manager.interrupt_kernel()

    def kill(self) -> None:
        """Kill the process, as the out-of-memory killer does."""
        os.kill(self.pid, signal.SIGKILL)
        self._manager.provisioner.process.wait(10)

    def complete(self, source: str) -> list[str]:
        """Return what the tab key offers at the end of the source."""
        reply = self._client.complete(source, reply=True, timeout=TIMEOUT_S)
        matches: list[str] = reply["content"]["matches"]
        return matches
