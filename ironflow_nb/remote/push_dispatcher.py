"""The side of the server: free runs are pushed to endpoints, each behind a breaker that the journal keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from ironflow_nb.core.breaker_rules import BreakerRule, BreakerState, BreakerStatus, asked_with
from ironflow_nb.core.identity import RunId
from ironflow_nb.errors import IronflowError, JournalConflict, JournalError
from ironflow_nb.execution import Engine, logger
from ironflow_nb.journal.breaker_rows import ChangedBreaker, breakers_of
from ironflow_nb.journal.ports import Durability, Lease, Reader, RunCommit
from ironflow_nb.remote.http_run_server import checked_address
from ironflow_nb.remote.push_endpoint import TOO_LARGE
from ironflow_nb.remote.run_offers import RunOffers, mail_of, record_commits, release_owner, send_for
from ironflow_nb.remote.wire_format import (
    MEDIA_TYPE,
    BeatMessage,
    ClaimMessage,
    CommitMessage,
    EventMessage,
    FrameKind,
    OfferedRun,
    PushAnswer,
    PushFrame,
    PushMessage,
    SignalMessage,
    first_frame,
    packed,
    unpacked,
)
from ironflow_nb.triggers.emission import emit_event
from ironflow_nb.triggers.event_rules import event_name
from ironflow_nb.triggers.webhook_signatures import SCHEMES

if TYPE_CHECKING:
    import httpx

BUDGET_S: Final = 20.0
"""The time after which a stretch gives its run back at the next step: functions have a limit of their own."""
_SILENCE_S: Final = 60.0
_LOOK_S: Final = 0.1
_DESCRIBED_S: Final = 30.0
_MOST_REFUSED: Final = 1000
_SHORTEST_REST_S: Final = 0.5
_LONGEST_REST_S: Final = 10.0
_ABSENT: Final = frozenset({502, 503, 504})
"""What gateways answer for an endpoint that has not begun yet."""
_LEASE_S: Final = 15.0


class EndpointBreaker:
    """The breaker of an endpoint: after five failures in a row nothing is pushed to it for a minute, then one run."""

    def __init__(self, engine: Engine, url: str) -> None:
        self._engine = engine
        self._rule = BreakerRule(f"endpoint {url}")

    def is_open(self) -> bool:
        """Return True if surely nothing may be pushed now; nothing is written for that."""
        with self._engine.journal.reading() as reader:
            found = breakers_of(reader).breaker(self._rule.name)
        return found is not None and found.status(self._engine.clock.now()) is BreakerStatus.OPEN

    def may_push(self, attempt: str) -> bool:
        """Return True if that attempt may begin now; of an open breaker it is then the probe."""
        found: list[bool] = []

        def ask(reader: Reader, state: BreakerState | None) -> BreakerState:
            now = self._engine.clock.now()
            asked = asked_with(state, self._rule, self._engine.owner, now)
            status = asked.status(now)
            is_probed = asked.probe is not None and self._engine.access.is_owner_alive(reader, asked.probe_owner)
            found.append(status is BreakerStatus.CLOSED or (status is BreakerStatus.HALF_OPEN and not is_probed))
            return asked.probed(attempt, now) if status is BreakerStatus.HALF_OPEN and not is_probed else asked

        self._change(ask)
        return found[-1]

    def tell(self, attempt: str, *, is_failure: bool) -> None:
        """Tell it how the attempt has ended."""
        now = self._engine.clock.now()
        change = BreakerState.failed if is_failure else BreakerState.succeeded
        self._change(lambda _, state: None if state is None else change(state, attempt, now))

    def drop(self, attempt: str) -> None:
        """Tell it that the end of the attempt says nothing about the endpoint, so that another one may probe."""
        self._change(lambda _, state: None if state is None else state.dropped(attempt))

    def _change(self, change: Callable[[Reader, BreakerState | None], BreakerState | None]) -> None:
        def act(reader: Reader) -> Sequence[RunCommit]:
            found = breakers_of(reader).breaker(self._rule.name)
            after = change(reader, found)
            if after is None or after == found:
                return []
            return [RunCommit(run_id=self._engine.access.new_run_id(), events=(), additions=(ChangedBreaker(after),))]

        self._engine.access.exchange(act, Durability.PROCESS)


class PushDispatcher:
    """Pushes the free runs of an endpoint to it, from `start` to `stop`."""

    def __init__(self, engine: Engine, offers: RunOffers, url: str, secret: str, *, n_runs: int = 10) -> None:
        """Take the address and the secret.

        Raises:
            DefinitionError: it is no address.
        """
        import httpx

        self._url = checked_address(url)
        self._engine, self._offers, self._secret, self._n_runs = engine, offers, secret, n_runs
        self._breaker = EndpointBreaker(engine, url)
        self._client = httpx.Client(timeout=_SILENCE_S, headers={"Content-Type": MEDIA_TYPE})
        self._names: list[tuple[str, str]] = []
        self._described_s = -_DESCRIBED_S
        self._active: set[str] = set()
        self._refused: list[RunId] = []
        self._n_tries = self._n_failed = 0
        self._rests_until_s = self._failed_s = 0.0
        self._is_stopped = False
        self._wakeup, self._lock = engine.threads.wakeup(), engine.threads.lock()

    def start(self) -> None:
        """Push from now on."""
        self._engine.threads.spawn("ironflow-push", self._run)

    def stop(self) -> None:
        """Push nothing more. What was pushed goes on until its stretch is over, or this process."""
        self._is_stopped = True
        self._wakeup.set()

    @property
    def n_active(self) -> int:
        """The number of stretches that go on."""
        return len(self._active)

    def _run(self) -> None:
        while not self._is_stopped:
            try:
                self._look()
            except IronflowError as error:
                logger().debug("pushing to %s: %s", self._url, error)
            self._engine.clock.wait(self._wakeup, _LOOK_S)

    def _look(self) -> None:
        now_s = self._engine.clock.monotonic()
        if now_s < self._rests_until_s:
            return
        n_free = self._n_runs - len(self._active)
        if n_free <= 0 or self._breaker.is_open():
            return
        if now_s - self._described_s >= _DESCRIBED_S and not self._describe(now_s):
            return
        for each in self._offers.offer(self._asked(n_free), lambda _: True):
            if not self._breaker.may_push(attempt := self._attempt()):
                self._offers.end([each.run_id])
                continue
            self._active.add(each.run_id)
            self._engine.threads.spawn(f"ironflow-push-{each.run_id}", partial(self._push, each, attempt))

    def _asked(self, n_free: int) -> ClaimMessage:
        return ClaimMessage(self._url, self._names, n_free, without=self._refused[-_MOST_REFUSED:])

    def _attempt(self) -> str:
        self._n_tries += 1
        return f"{self._engine.owner} {self._n_tries}"

    def _describe(self, now_s: float) -> bool:
        """Ask the endpoint what it defines; return True if it has answered.

        One that is not there, or not yet, is asked again: its breaker counts what has failed, and nothing was tried.
        """
        import httpx

        try:
            answer = self._client.post(self._url, **self._signed(PushMessage()))
            if answer.status_code in _ABSENT:
                self._rest(f"it answers {answer.status_code}")
                return False
            answer.raise_for_status()
            names = unpacked(answer.content, PushAnswer).names
        except httpx.TransportError as error:
            self._rest(error)
            return False
        except Exception as error:  # noqa: BLE001 -- of the network, or of what the endpoint has answered
            if self._breaker.may_push(attempt := self._attempt()):
                self._note_failure(attempt, error, now_s)
            return False
        if names != self._names:
            listed = ", ".join(f"{kind} {name}" for kind, name in names)
            logger().info("endpoint %s executes %s", self._url, listed)
        self._names, self._described_s, self._n_failed = names, now_s, 0
        return True

    def _signed(self, message: PushMessage) -> dict[str, Any]:
        body = packed(message)
        time = str(self._engine.clock.now() // 1_000_000)
        headers = SCHEMES["ironflow"].headers(self._secret, body, time, "")
        return {"content": body, "headers": headers}

    def _note_failure(self, attempt: str, error: BaseException, began_s: float) -> None:
        """Count the failure of an attempt; stretches that break off together are one."""
        with self._lock:
            is_counted = began_s >= self._failed_s
            self._failed_s = self._engine.clock.monotonic()
        self._rest(error)
        if is_counted:
            self._breaker.tell(attempt, is_failure=True)
        else:
            self._breaker.drop(attempt)

    def _rest(self, error: BaseException | str) -> None:
        """Leave the endpoint alone for a moment, and ask it what it defines before anything is pushed to it."""
        logger().warning("endpoint %s has failed: %s", self._url, str(error) or type(error).__name__)
        self._n_failed += 1
        rest_s = min(_SHORTEST_REST_S * 2 ** min(self._n_failed - 1, 10), _LONGEST_REST_S)
        self._rests_until_s = self._engine.clock.monotonic() + rest_s
        self._described_s = -_DESCRIBED_S

    # -- one stretch ---------------------------------------------------------------------------------------------

    def _push(self, offered: OfferedRun, attempt: str) -> None:
        owner: list[Lease] = []
        began_s = self._engine.clock.monotonic()
        try:
            message = PushMessage(offered, BUDGET_S, self._engine.entropy(12).hex())
            with self._client.stream("POST", self._url, **self._signed(message)) as answer:
                if answer.status_code == TOO_LARGE:
                    self._leave_to_workers(offered, "it takes no request of that size")
                else:
                    for frame in _frames(_pieces(answer)):
                        self._take(frame, offered, owner)
        except JournalConflict as error:  # another owner has the run by now; the endpoint finds out by its connection
            logger().warning("run %s: %s", offered.run_id, error)
            self._breaker.drop(attempt)
        except Exception as error:  # noqa: BLE001 -- of the network, or of what the endpoint has answered
            self._note_failure(attempt, error, began_s)
        else:
            self._n_failed = 0
            self._breaker.tell(attempt, is_failure=False)
        finally:
            for lease in owner[:1]:
                release_owner(self._engine, lease)
            self._offers.end([offered.run_id])
            self._active.discard(offered.run_id)

    def _take(self, frame: PushFrame, offered: OfferedRun, owner: list[Lease]) -> None:
        engine = self._engine
        if frame.kind is FrameKind.COMMIT:
            commits = unpacked(frame.content, CommitMessage)
            lease = _lease_of_stretch(commits.lease)
            owner.append(lease)
            record_commits(engine, replace(commits, lease=lease), lambda _: True)
        elif frame.kind is FrameKind.BEAT:
            beat = unpacked(frame.content, BeatMessage)
            mail_of(engine, replace(beat, lease=_lease_of_stretch(beat.lease)))
        elif frame.kind is FrameKind.SIGNAL:
            send_for(engine, unpacked(frame.content, SignalMessage))
        elif frame.kind is FrameKind.EVENT:
            event = unpacked(frame.content, EventMessage)
            emit_event(engine, event_name(event.name), engine.codecs.decode(event.value), event.key)
        elif frame.kind is FrameKind.REFUSED:
            self._leave_to_workers(offered, unpacked(frame.content, str))

    def _leave_to_workers(self, offered: OfferedRun, why: str) -> None:
        self._refused.append(offered.run_id)
        logger().warning("run %s is left to workers by endpoint %s: %s", offered.run_id, self._url, why)


def _lease_of_stretch(lease: Lease) -> Lease:
    """Return the lease of a stretch: it ends with its signs of life, and not with the process of its endpoint."""
    return replace(lease, host=f"endpoint {lease.host}", lease_s=_LEASE_S)


def _pieces(answer: httpx.Response) -> Iterator[bytes]:
    """Return the pieces of an answer.

    Raises:
        JournalError: it is a refusal.
    """
    if answer.is_success:
        return answer.iter_bytes()
    answer.read()
    raise JournalError(f"it answers {answer.status_code}: {answer.text[:500]}")


def _frames(pieces: Iterator[bytes]) -> Iterator[PushFrame]:
    """Yield the frames of an answer.

    Raises:
        JournalError: the answer breaks off.
    """
    content, last = bytearray(), None
    for piece in pieces:
        content += piece
        while (found := first_frame(content)) is not None:
            last, size = found
            del content[:size]
            yield last
    if last is None or last.kind is not FrameKind.END:
        raise JournalError("its answer breaks off")
