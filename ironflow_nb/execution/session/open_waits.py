"""The waits of a run that are open, and what ends them: their instants, and signals to the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from ironflow_nb.core.events import RunWaiting, SignalReceived, WaitEnded, WaitStarted
from ironflow_nb.core.identity import StepRef
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.core.wait_rules import NEVER, Answerable, WaitOutcome, Wanted, until, waited_words
from ironflow_nb.errors import IronflowError, WaitTimeout
from ironflow_nb.execution.recording.journal_access import Mail, PendingEvent, RunStorage
from ironflow_nb.execution.session.attempts import Attempt, Promise, mark
from ironflow_nb.execution.session.run_phase import is_stop
from ironflow_nb.execution.session.run_writer import RunWriter, Write
from ironflow_nb.execution.system.frontend import say
from ironflow_nb.execution.system.system import Clock
from ironflow_nb.journal.ports import QueueItem, QueueSelect, Signal
from ironflow_nb.values.failures import recorded_error
from ironflow_nb.values.stored_value import StoredValue


class OpenWait:
    """One wait; `promise` gets what it gives. `due_at` is earlier than in its row if a clock was set back.

    `thread` is that of a ``def`` flow which is in it.
    """

    def __init__(self, attempt: Attempt, wanted: Wanted, clock: Clock, due_at: int | None) -> None:
        assert attempt.row is not None
        self.attempt = attempt
        self.wanted = wanted
        self.row = attempt.row
        self.due_at = due_at
        self.promise = Promise()
        self.thread: int | None = None
        self._clock = clock
        self._due_s = math.inf
        if due_at is not None and not wanted.is_absolute:
            self._due_s = clock.monotonic() + (due_at - clock.now()) / 1e6

    @property
    def left_s(self) -> float | None:
        """How long it lasts at most. A clock that was set back prolongs no duration beyond what was asked for."""
        if self.due_at is None:
            return None
        return min((self.due_at - self._clock.now()) / 1e6, self._due_s - self._clock.monotonic())

    @property
    def is_due(self) -> bool:
        """Return True if its time is over."""
        left_s = self.left_s
        return left_s is not None and left_s <= 0


Noted: TypeAlias = Sequence[tuple[RunWriter, PendingEvent]]
"""Events about runs as a whole, each with the writer of its run."""


class LeftWaiting(NamedTuple):
    """For what a run waits, in words, and the expressions that end the waits."""

    words: str
    expressions: Sequence[str]


class OpenWaits:
    """The open waits of one continuation of a run, in the order in which they began.

    All of the run waits `since_s`, None if it does not. It is parked after a while if it `is_parkable`: if it holds
    nobody's cell or call. While it has `n_holders` no wait ends. `untaken` have ended, and their flow still stands.
    `left` says for what, and how it ends, once a call has left its run waiting.

    Lock: session.
    """

    def __init__(self, writer: RunWriter) -> None:
        self._writer = writer
        self._access = writer.access
        self._open: list[OpenWait] = []
        self.since_s: float | None = None
        self.is_parkable = False
        self.n_holders = 0
        self.untaken: set[OpenWait] = set()
        self.left: LeftWaiting | None = None

    def __len__(self) -> int:
        return len(self._open)

    def threads(self) -> set[int]:
        """Return the threads that are in one of them."""
        return {wait.thread for wait in list(self._open) if wait.thread is not None}

    @property
    def is_any_due(self) -> bool:
        """Return True if the time of one of them is over."""
        return any(wait.is_due for wait in list(self._open))

    def is_any_ready(self) -> bool:
        """Return True if `settle` would end one of them. Lock: session."""
        mailbox = self._mailbox()
        return self.is_any_due or any(wait.wanted.choose(mailbox) for wait in self._open)

    @property
    def is_for_signal(self) -> bool:
        """Return True if one of them is for a signal or an answer."""
        return any(wait.wanted.signals for wait in list(self._open))

    def left_waiting(self) -> LeftWaiting:
        """Return the words about the open waits for a person who leaves them."""
        found = [wait for wait in list(self._open) if wait.wanted.signals]
        words = dict.fromkeys(waited_words(wait.wanted, wait.row.due_at) for wait in found)
        run_id = self._writer.run_id
        return LeftWaiting(
            ", ".join(words), [text for wait in found for text in wait.wanted.expressions(run_id, wait.row.step)]
        )

    def __str__(self) -> str:
        return ", ".join(dict.fromkeys(map(_recorded_words, self._open)))

    def question(self, step: StepRef) -> Answerable | None:
        """Return the question of that step, if it is open here."""
        return next((wait.wanted.question for wait in list(self._open) if wait.attempt.step == step), None)

    def begin(
        self, attempt: Attempt, wanted: Wanted, inputs: Sequence[StoredValue], now_waiting: Callable[[], Noted],
        thread: int | None = None,
    ) -> OpenWait:  # fmt: skip
        """Record that the wait begins, unless an earlier continuation did; that one's instant stays.

        Unless something ends it at once, `now_waiting` is asked which runs wait by it, for the same transaction.
        """
        wanted = wanted.of_attempt(attempt.step, attempt.number)
        is_new = attempt.row is None
        if is_new:
            self._defer(attempt, inputs, wanted)  # so that nothing of it is lost, if the journal refuses it now
        assert attempt.row is not None
        due_at = wanted.due_at if is_new else self._due_at(attempt.row, wanted)
        wait = OpenWait(attempt, wanted, self._access.clock, due_at)
        if not is_new:
            self._writer.post(Mail(put_work=self._items(wait.row.step, wanted, due_at)))
        wait.thread = thread
        self._open.append(wait)
        try:
            noted = () if self.is_any_ready() else now_waiting()
            if is_new or noted:
                self.append_with(noted)
        except BaseException:
            self._open.remove(wait)
            raise
        return wait

    def append_with(self, noted: Noted, *events: PendingEvent) -> list[StepRow | None]:
        """Commit the events in one transaction with what is noted of this run, which follows on them, and of others."""
        write: Write = self._access.append
        for writer, event in noted:
            if writer is self._writer:
                events = (*events, event)
            else:
                write = writer.along(event, write)
        return self._writer.append(*events, write=write)

    def _defer(self, attempt: Attempt, inputs: Sequence[StoredValue], wanted: Wanted) -> None:
        identity, branch, nth = attempt.call.place
        started = WaitStarted(
            name=attempt.spec.name, index=attempt.index, identity=identity, code=attempt.code,
            wait_kind=wanted.kind, signals=wanted.signals, is_all=wanted.is_all, due_at=wanted.due_at,
            branch=branch, nth=nth, inputs=inputs[-1].value_id, reason=attempt.reason.value,
            lived_with=self._writer.failures.prove(branch), site=attempt.call.site or "",
        )  # fmt: skip
        mail = Mail(put_work=self._items(attempt.step, wanted, wanted.due_at))
        attempt.row = self._writer.defer(PendingEvent(started, attempt.step, attempt.number, values=inputs, mail=mail))

    def _due_at(self, row: StepRow, wanted: Wanted) -> int | None:
        """Return when a wait that goes on is due: no later than queued, nor after all of its time from now.

        Both are earlier than in its row if the clock was set back since it began, or since it was queued.
        """
        if row.due_at is None or wanted.is_absolute:
            return row.due_at
        kind, key = wanted.work_keys(row.step)[0]
        with self._access.current() as reader:
            queued = reader.work(QueueSelect(run_ids=[self._writer.run_id], kind=kind, key=key))
        longest_at = self._access.clock.now() + row.due_at - row.started_at
        return min(row.due_at, longest_at, *(item.due_at for item in queued))

    def _items(self, step: StepRef, wanted: Wanted, due_at: int | None) -> tuple[QueueItem, ...]:
        run_id, now = self._writer.run_id, self._access.clock.now()
        return tuple(
            QueueItem(run_id=run_id, kind=kind, key=key, due_at=due_at or NEVER, created_at=now)
            for kind, key in wanted.work_keys(step)
        )

    # -- the end -------------------------------------------------------------------------------------------------

    def settle(self, storage: RunStorage, go_on: Noted) -> None:
        """End the waits whose signals are there, first sent to first begun, and those that are due.

        The mailbox is read after the clock: what was sent before an instant wins over it. If any ends, what is to be
        noted of other runs, which `go_on`, is in the same transaction.
        """
        if not self._open:
            return
        now, due = self._access.clock.now(), [wait for wait in self._open if wait.is_due]
        mailbox = self._mailbox()
        ended: list[tuple[OpenWait, list[PendingEvent], object, BaseException | None]] = []
        for wait in list(self._open):
            chosen = wait.wanted.choose(mailbox)
            try:
                if chosen:
                    mailbox = [signal for signal in mailbox if signal not in chosen]
                    ended.append(self._received(wait, chosen, storage, now))
                elif wait in due:
                    ended.append(self._timed_out(wait, storage, now))
            except IronflowError as error:  # a payload can't be read here: it is not consumed, and the flow is told
                self._close(wait, None, error)
            except ValueError as error:
                self._refuse(wait, chosen, error)
        if ended:
            rows = self.append_with(go_on, *(event for _, events, _, _ in ended for event in events))
            after = {(row.step, row.attempt): row for row in rows if row is not None}
            for wait, _, value, failure in ended:
                wait.row = wait.attempt.row = after[wait.attempt.step, wait.attempt.number]
                self._close(wait, value, failure)

    def _mailbox(self) -> list[Signal]:
        if not any(wait.wanted.signals for wait in self._open):
            return []
        with self._access.current() as reader:
            return [signal for signal in reader.signals([self._writer.run_id]) if not is_stop(signal.name)]

    def _received(
        self, wait: OpenWait, chosen: Sequence[Signal], storage: RunStorage, now: int
    ) -> tuple[OpenWait, list[PendingEvent], object, None]:
        payloads = {signal.name: self._payload(signal) for signal in chosen}
        encoded = storage.encode_result(wait.wanted.result(payloads))
        received = [PendingEvent(_reception(signal, wait)) for signal in chosen]
        ended = self._ended(wait, WaitOutcome.SIGNAL, now, encoded.values, chosen)
        return wait, [*received, ended], encoded.echo, None

    def _refuse(self, wait: OpenWait, answers: Sequence[Signal], error: ValueError) -> None:
        """Take an answer out of the mailbox that does not fit the type, of which its sender did not know all."""
        for answer in answers:
            refused = PendingEvent(_reception(answer, wait, is_refused=True), mail=Mail(taken=(answer.signal_id or 0,)))
            self._writer.append(refused)
            what = f"the answer of {answer.sent_by} to {wait.wanted.question}"
            say(f"run {self._writer.run_id}: {what} does not fit, and the run waits on: {error}")

    def _payload(self, signal: Signal) -> object:
        return None if signal.payload_id is None else self._access.read(signal.payload_id)

    def _timed_out(
        self, wait: OpenWait, storage: RunStorage, now: int
    ) -> tuple[OpenWait, list[PendingEvent], object, BaseException | None]:
        """Return the end of a wait that is due. A sleep has ended as it should; other waits time out."""
        if not wait.wanted.signals:
            encoded = storage.encode_result(None)
            return wait, [self._ended(wait, WaitOutcome.DUE, now, encoded.values)], None, None
        run_id, step = self._writer.run_id, wait.attempt.step
        error = WaitTimeout(
            f"{step} of run {run_id} waited for {waited_words(wait.wanted, wait.row.due_at)}, and it did not come; "
            f'to wait again: iron.resume("{run_id}", retry=["{step}"])',
            run_id=run_id,
            step=step,
        )
        stored = storage.store_failure(error)
        failure = recorded_error(stored, self._access.signer, where=f"{step} of run {run_id}", raised=error)
        ended = self._ended(wait, WaitOutcome.TIMEOUT, now, (stored,))
        return wait, [ended], None, mark(failure, run_id, step)

    def _ended(
        self,
        wait: OpenWait,
        outcome: WaitOutcome,
        now: int,
        values: Sequence[StoredValue] = (),
        chosen: Sequence[Signal] = (),
    ) -> PendingEvent:
        given = {"error" if outcome is WaitOutcome.TIMEOUT else "output": values[-1].value_id} if values else {}
        event = WaitEnded(outcome=outcome, duration_s=max(now - wait.row.started_at, 0) / 1e6, **given)
        taken = tuple(signal.signal_id for signal in chosen if signal.signal_id is not None)
        mail = Mail(taken=taken, done_work=tuple(wait.wanted.work_keys(wait.attempt.step)))
        return PendingEvent(event, wait.attempt.step, wait.attempt.number, wait.row, values, mail=mail)

    def _close(self, wait: OpenWait, value: object, failure: BaseException | None) -> None:
        self._open.remove(wait)
        self.untaken.add(wait)
        if failure is None:
            self._writer.replayer.note_finished(wait.attempt.step)
            wait.promise.succeed(value)
        else:
            if wait.row.lived_with:
                self._writer.failures.note_lived_with(wait.row)
            wait.promise.fail(failure)

    def cancel(self, wait: OpenWait, go_on: Noted) -> None:
        """Record that the flow has cancelled the wait: its task was cancelled, while the run goes on; see `settle`."""
        if wait in self._open:
            self.append_with(go_on, self._ended(wait, WaitOutcome.CANCELLED, self._access.clock.now()))
            self._open.remove(wait)

    def fail(self, error: BaseException) -> None:
        """Fail all open waits with an error that the flow can't get past: the run is another process's now."""
        for wait in [*self._open]:
            self._open.remove(wait)
            wait.promise.fail(error)

    def leave(self, events: Sequence[PendingEvent]) -> None:
        """Take the open waits out of the queue of work with the last events of a continuation, if it is not parked."""
        if self._open and not any(isinstance(pending.event, RunWaiting) for pending in events):
            keys = [key for wait in self._open for key in wait.wanted.work_keys(wait.attempt.step)]
            self._writer.post(Mail(done_work=tuple(keys)))


def _reception(signal: Signal, wait: OpenWait, *, is_refused: bool = False) -> SignalReceived:
    """Return the event of a signal that is taken out of the mailbox; of an answer it tells who gave it and when."""
    received = SignalReceived(name=signal.name, signal_id=signal.signal_id or 0, payload=signal.payload_id)
    if wait.wanted.question is None:
        return received
    return replace(received, sent_by=signal.sent_by, sent_at=signal.sent_at, is_refused=is_refused)


def _recorded_words(wait: OpenWait) -> str:
    """Return for what the wait is, without the question, which is a value of the user."""
    if wait.wanted.question is None:
        return waited_words(wait.wanted, wait.row.due_at)
    return f"an answer to {wait.row.step}{until(wait.row.due_at)}"
