"""The server of runs, reached over HTTP: what a worker asks and tells it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

from ironflow_nb.core.identity import RunId
from ironflow_nb.errors import DefinitionError, JournalConflict, JournalError, NotGranted
from ironflow_nb.execution import SystemClock, SystemThreads, logger
from ironflow_nb.journal.ports import Lease, Signal, SignalId
from ironflow_nb.remote.wire_format import (
    MEDIA_TYPE,
    BeatMessage,
    ClaimMessage,
    CommitMessage,
    EventMessage,
    OfferedRun,
    ReceivedSignals,
    SignalMessage,
    WireCommit,
    packed,
    unpacked,
)
from ironflow_nb.values.stored_value import StoredValue

if TYPE_CHECKING:
    import httpx

_AWAY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_PAUSE_S: Final = 5.0
_ANSWER_S: Final = 60.0
COMMIT_S: Final = 600.0
"""How long a commit is tried again while the server is away; its run is interrupted then."""


def checked_address(url: str) -> str:
    """Return the address of a server or an endpoint.

    Raises:
        DefinitionError: it is no address.
    """
    import httpx

    try:
        known = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise DefinitionError(f"{url!r} is no address of a server: {error}") from error
    if known.scheme not in {"http", "https"} or not known.host:
        raise DefinitionError(f"{url!r} is no address of a server, such as http://127.0.0.1:9123")
    return url


class HttpRunServer:
    """A server over HTTP. Any thread may use it."""

    def __init__(self, url: str, key: str | None) -> None:
        """Take the address and the key.

        Raises:
            DefinitionError: it is no address.
        """
        import httpx

        headers = {"Content-Type": MEDIA_TYPE} | ({} if key is None else {"Authorization": f"Bearer {key}"})
        self.url = checked_address(url).rstrip("/")
        limits = httpx.Limits(max_connections=200, keepalive_expiry=4.0)  # the server closes idle ones after 5 s
        self._client = httpx.Client(base_url=self.url, headers=headers, timeout=_ANSWER_S, limits=limits)
        self._clock, self._wakeup = SystemClock(), SystemThreads().wakeup()
        self._gives_up = False

    def give_up(self) -> None:
        """Try nothing again from now on."""
        self._gives_up = True
        self._wakeup.set()

    def claim(self, message: ClaimMessage) -> list[OfferedRun]:
        """Return runs to execute.

        Raises:
            JournalError: the server can't be reached now.
            NotGranted: it does not allow it.
        """
        return unpacked(self._asked("claims", message), list[OfferedRun])

    def commit(self, lease: Lease, commits: Sequence[WireCommit]) -> None:
        """See `RunServer`."""
        self._asked("commits", CommitMessage(lease, list(commits)), within_s=COMMIT_S)

    def beat(self, lease: Lease, run_ids: Collection[RunId], after: int, *, is_beat: bool) -> ReceivedSignals:
        """See `RunServer`."""
        return unpacked(self._asked("beats", BeatMessage(lease, list(run_ids), after, is_beat)), ReceivedSignals)

    def send(self, signal: Signal, payload: StoredValue | None, known: SignalId | None) -> SignalId | None:
        """See `RunServer`."""
        answer = self._asked("signals", SignalMessage(signal, payload, known), within_s=COMMIT_S)
        return None if unpacked(answer, dict[str, bool])["is_new"] else known

    def emit(self, name: str, value: StoredValue, key: str) -> None:
        """See `RunServer`."""
        self._asked("events", EventMessage(name, value, key), within_s=COMMIT_S)

    def release(self, lease: Lease) -> None:
        """See `RunServer`."""
        self._asked("releases", BeatMessage(lease, []))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _asked(self, path: str, message: object, *, within_s: float = 0.0) -> bytes:
        import httpx

        content, pause_s, left_s = packed(message), 0.1, within_s
        while True:
            try:
                answer = self._client.post(f"/work/{path}", content=content)
                trouble = f"it answers {answer.status_code}"
            except httpx.TransportError as error:
                answer, trouble = None, str(error) or type(error).__name__
            if answer is not None and answer.status_code not in _AWAY:
                return _content(self.url, answer)
            if left_s <= 0 or self._gives_up:
                raise JournalError(f"the server {self.url} can't be reached: {trouble}")
            if left_s == within_s:
                logger().warning("the server %s can't be reached (%s); it is tried again", self.url, trouble)
            self._clock.wait(self._wakeup, pause_s)
            left_s -= pause_s
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


def _content(url: str, answer: httpx.Response) -> bytes:
    """Return the content of an answer.

    Raises:
        JournalConflict, NotGranted, JournalError: the answer is a refusal.
    """
    if answer.is_success:
        return answer.content
    told: Any = answer.text
    if answer.headers.get("content-type", "").startswith("application/json"):
        told = answer.json().get("error", {}).get("message", told)
    if answer.status_code == 409:
        raise JournalConflict(str(told))
    if answer.status_code in {401, 403, 421}:
        raise NotGranted(f"the server {url} refuses: {told}", grant="key", what=url)
    raise JournalError(f"the server {url} refuses with {answer.status_code}: {told}")
