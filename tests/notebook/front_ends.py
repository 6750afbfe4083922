"""The other end of the comm of a widget: what a front end is sent, and what it sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.waits.conftest import until


class FrontEnd:
    """The other end of the comm of a widget."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        import comm

        self.sent: list[dict[str, Any]] = []
        self._heard: Callable[..., None] | None = None
        patch.setattr(comm, "create_comm", self._open)

    def _open(self, **opened: Any) -> Any:
        import comm.base_comm

        front_end = self

        class Comm(comm.base_comm.BaseComm):
            def publish_msg(self, msg_type: str, data: Any = None, *args: Any, **more: Any) -> None:
                if (data or {}).get("method") == "custom":
                    front_end.sent.append(data["content"])

        made = Comm(**opened)
        self.comm = made
        return made

    def send(self, **content: Any) -> None:
        self.comm.handle_msg({"content": {"data": {"method": "custom", "content": content}}, "buffers": []})

    def wait_for(self, name: str) -> Any:
        """Return what was sent last under the name, once something was."""
        try:
            until(lambda: any(name in each for each in self.sent))
        except AssertionError:
            raise AssertionError(f"no {name} in {self.sent}") from None
        return next(each[name] for each in reversed(self.sent) if name in each)

    def ask(self, name: str, **content: Any) -> Any:
        """Send something, and return what is answered under the name."""
        self.sent.clear()
        self.send(**content)
        return self.wait_for(name)
