"""Server-sent events as they are sent."""

from __future__ import annotations

import json
from typing import Any, Final

MEDIA_TYPE: Final = "text/event-stream"
KEEP_ALIVE_S: Final = 15.0
KEEP_ALIVE: Final = b": keep-alive\n\n"
RETRY: Final = b"retry: 1000\n\n"


def sse_message(data: Any, *, position: int | None = None, name: str | None = None) -> bytes:
    """Return one event, with a position of the journal as its id."""
    lines = [] if position is None else [f"id: {position}"]
    lines += [] if name is None else [f"event: {name}"]
    return "\n".join([*lines, f"data: {json.dumps(data)}", "", ""]).encode()
