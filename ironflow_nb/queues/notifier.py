"""The port of a queue: it tells of messages, and is told which of them are in the journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

N_RECEIVED: Final = 10
"""How many messages a process holds at most that it has not acknowledged yet."""
RECEIVE_S: Final = 1.0
"""How long one call waits for a message."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message as a queue has delivered it, for the `n_deliveries`-th time as far as the queue knows.

    `message_id` is the same whenever the message is delivered, and another one for each message; it is None where
    neither queue nor sender give one. `receipt` is what the queue takes the acknowledgement by.
    """

    message_id: str | None
    body: bytes
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    n_deliveries: int = 1
    receipt: Any = None


class Notifier(Protocol):
    """A connection to a queue, used by one thread.

    A message that is not acknowledged is delivered again, here or elsewhere: when the connection has ended, or after
    the time that the queue gives for that. Every method raises an error of its library when the connection is lost.
    """

    def receive(self) -> Sequence[Message]:
        """Return what has come, at most `N_RECEIVED` messages; nothing after a second or some without any."""

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Have the queue forget these messages, which this connection has received."""

    def close(self) -> None:
        """End the connection."""
