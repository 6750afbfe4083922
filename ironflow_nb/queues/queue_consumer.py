"""The thread that takes the messages of a queue: each is acknowledged once the journal has what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Final

from ironflow_nb.errors import EngineClosed, JournalError, NotRetryable
from ironflow_nb.execution import CURRENT, Engine, logger, watch
from ironflow_nb.queues.failed_messages import Use, put_failed
from ironflow_nb.queues.notifier import Message, Notifier
from ironflow_nb.queues.queue_url import QueueUrl

MOST_DELIVERIES: Final = 10
"""What was delivered more often, and never acknowledged, may end the processes that take it."""
MOST_ACTIVE: Final = 100
"""If as many runs are at work in this process, the queue keeps its messages for others, or for later."""
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
_LOOK_S: Final = 0.1


class QueueConsumer:
    """Takes messages from the moment that it is made to `stop`, or the end of the engine."""

    def __init__(self, engine: Engine, key: str, url: QueueUrl, connect: Callable[[], Notifier], use: Use) -> None:
        self.engine = engine
        self._key, self._url, self._connect, self._use = key, url, connect, use
        self._is_stopped = self._has_ended = False
        self._wakeup = engine.threads.wakeup()
        self._n_failed = 0
        self._said = ""
        self.n_taken = 0
        engine.threads.spawn(f"ironflow-{key.replace(' ', '-')}", self._run)

    @property
    def is_taking(self) -> bool:
        """Whether it takes messages, or tries to."""
        return not self._is_stopped and not self._has_ended and not self.engine.access.is_closed

    @property
    def has_ended(self) -> bool:
        """Whether its thread has left its connection."""
        return self._has_ended

    def stop(self) -> None:
        """Take no more. What was received and not recorded is delivered again, here or elsewhere."""
        self._is_stopped = True
        self._wakeup.set()

    def _run(self) -> None:
        CURRENT.set(self.engine)  # of this thread alone
        try:
            while self.is_taking:
                try:
                    with closing(self._connect()) as notifier:
                        self._take_all(notifier)
                except EngineClosed:
                    return
                except Exception as error:  # noqa: BLE001 -- every library has errors of its own
                    self._rest("can't be asked", error)
        finally:
            self._has_ended = True

    def _take_all(self, notifier: Notifier) -> None:
        while self.is_taking:
            self._wait_for_room()
            messages = notifier.receive()
            if self._n_failed or not self._said:
                self._said, self._n_failed = "taken", 0
                logger().info("%s takes the messages of %s", self._key, self._url.shown)
            taken = self._recorded(messages)
            if taken:
                notifier.acknowledge(taken)
                self.n_taken += len(taken)

    def _wait_for_room(self) -> None:
        while self.is_taking and self._n_active() >= MOST_ACTIVE:
            self.engine.clock.wait(self._wakeup, _LOOK_S)

    def _n_active(self) -> int:
        return sum(each.is_open and each.waits.since_s is None for each in list(self.engine.sessions.values()))

    def _recorded(self, messages: Sequence[Message]) -> list[Message]:
        """Use the messages, and return those of which the journal has what came of them: all, unless it is stopped.

        While the journal refuses they are held, for a queue counts how often it has delivered each.
        """
        done: list[Message] = []
        for each in messages:
            while self.is_taking:
                try:
                    self._record(each)
                except JournalError as error:
                    self._rest("waits for the journal", error)
                else:
                    done.append(each)
                    break
        return done

    def _record(self, message: Message) -> None:
        try:
            _refuse_deadly(message)
            self._use(message)
        except (JournalError, EngineClosed):
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- of the message, of arguments, of code of the user
            put_failed(self.engine, self._key, message, error)
            watch(self.engine)

    def _rest(self, what: str, error: Exception) -> None:
        """Wait before the next try, longer each time; an error is said once."""
        self._n_failed += 1
        text = f"{what}: {type(error).__name__}: {self._url.hidden(str(error))}"
        if text != self._said:
            self._said = text
            logger().warning("%s (%s) %s; it is tried again", self._key, self._url.shown, text)
        pause_s = min(_FIRST_PAUSE_S * 2 ** min(self._n_failed - 1, 10), _LONGEST_PAUSE_S)
        self.engine.clock.wait(self._wakeup, pause_s)


def _refuse_deadly(message: Message) -> None:
    if message.n_deliveries > MOST_DELIVERIES:
        n = message.n_deliveries
        raise NotRetryable(f"it was delivered {n} times and never acknowledged: it may end the processes that take it")
