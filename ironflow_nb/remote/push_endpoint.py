"""An endpoint that a server pushes runs to: an ASGI application which executes one stretch of a run per request.

The request brings the run with all that is recorded of it. What is committed to it goes back in the answer, while the
stretch goes on: a frame for each commit. The answer ends with the stretch: the run has ended, waits, or has used up its
time. The server records what it gets; if the connection breaks, the run goes on from there with another request.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, MutableMapping, Sequence
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import Any, Final

from ironflow_nb.core.events import StepStarted
from ironflow_nb.core.identity import RunId
from ironflow_nb.errors import (
    DefinitionError,
    InputInvalid,
    IronflowError,
    JournalError,
    NotRetryable,
    SignatureInvalid,
)
from ironflow_nb.execution import REGISTRY, SystemClock, SystemThreads, logger
from ironflow_nb.handles.runnable import Runnable
from ironflow_nb.journal.ports import Lease, Signal, SignalId
from ironflow_nb.remote.remote_run import RemoteRun
from ironflow_nb.remote.wire_format import (
    MEDIA_TYPE,
    BeatMessage,
    CommitMessage,
    EventMessage,
    FrameKind,
    OfferedRun,
    PushAnswer,
    PushMessage,
    ReceivedSignals,
    SignalMessage,
    WireCommit,
    packed,
    packed_frame,
    unpacked,
)
from ironflow_nb.triggers.webhook_signatures import SCHEMES, SHORTEST_SECRET, verified_id
from ironflow_nb.values.stored_value import StoredValue

SIGNING_VARIABLE: Final = "IRONFLOW_SIGNING_KEY"
TOLERANCE_S: Final = 300.0
MOST_BYTES: Final = 64 << 20
"""The size of the largest request: it is in memory as a whole before its signature is known to be right."""
TOO_LARGE: Final = 413
_LOOK_S: Final = 0.02
_PARK_S: Final = 0.1
_N_QUEUED: Final = 100
_N_KNOWN: Final = 10_000

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def endpoint(*flows: Runnable, secret: str | Sequence[str] | None = None, most_bytes: int = MOST_BYTES) -> PushEndpoint:
    """Return an ASGI application that executes runs of these flows for a server, which pushes them to it.

    Mount it in any application, or serve it alone: ``uvicorn app:application``. The server is begun with
    ``ironflow-nb serve FILE --endpoint URL``.

    Args:
        flows: flows and graphs; no others are executed.
        secret: what the server signs with, 16 characters or more; two of them while it changes from one to the other.
            By default ``IRONFLOW_SIGNING_KEY``.
        most_bytes: the size of the largest request, 64 MiB. A run of which more is recorded is left to workers.

    Raises:
        DefinitionError: no flow is given, or no secret.
    """
    if not flows or not all(isinstance(each, Runnable) for each in flows):
        raise DefinitionError("endpoint(flow, ...) takes the flows and graphs that it executes")
    given = secret if secret is not None else os.environ.get(SIGNING_VARIABLE, "")
    return PushEndpoint(flows, checked_secrets([given] if isinstance(given, str) else list(given)), most_bytes)


def checked_secrets(found: list[str]) -> list[str]:
    """Return the secrets of an endpoint.

    Raises:
        DefinitionError: there is none, or one is too short.
    """
    if not found or not all(len(each) >= SHORTEST_SECRET for each in found):
        raise DefinitionError(
            f"an endpoint needs a secret of {SHORTEST_SECRET} characters or more, which its server has, too: "
            f"export {SIGNING_VARIABLE}=$(openssl rand -hex 32)"
        )
    return found


class PushEndpoint:
    """An ASGI application; made by `endpoint`."""

    def __init__(self, flows: Sequence[Runnable], secrets: Sequence[str], most_bytes: int = MOST_BYTES) -> None:
        self._names = {(str(each.kind), each.name) for each in flows}
        self._secrets = secrets
        self._most_bytes = most_bytes
        self._clock = SystemClock()
        self._known: dict[str, None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            return
        if scope["method"] != "POST":
            await _refuse(send, 405, "method_not_allowed", "an endpoint takes POST")
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            body = await _body(receive, headers.get("content-length", ""), self._most_bytes)
            if body is None:
                await _refuse(send, TOO_LARGE, "body_too_large", f"a request has at most {self._most_bytes} bytes")
                return
            message = self._read(headers, body)
        except SignatureInvalid as error:
            await _refuse(send, 401, "signature_invalid", str(error))
        except InputInvalid as error:
            await _refuse(send, 400, "input_invalid", str(error))
        else:
            await self._answer(message, receive, send)

    def _read(self, headers: dict[str, str], body: bytes) -> PushMessage:
        now_s = self._clock.now() / 1e6
        request_id = verified_id(SCHEMES["ironflow"], self._secrets, body, headers, now_s, TOLERANCE_S)
        message = unpacked(body, PushMessage)
        if request_id in self._known:
            raise SignatureInvalid("this request was here before; each has an instant and a number of its own")
        self._known[request_id] = None
        while len(self._known) > _N_KNOWN:
            del self._known[next(iter(self._known))]
        return message

    async def _answer(self, message: PushMessage, receive: Receive, send: Send) -> None:
        offered = message.offered
        if offered is None:
            await _respond(send, 200, MEDIA_TYPE, packed(PushAnswer(sorted(self._names))))
            return
        runs = offered.tables["runs"]
        rows = zip(runs.column("run_id"), runs.column("kind"), runs.column("name"), strict=True)
        if not {(kind, name) for run_id, kind, name in rows if run_id == offered.run_id} & self._names:
            await _refuse(send, 404, "flow_not_defined", f"here are defined: {sorted(self._names)}")
            return
        stretch = Stretch(offered, message.budget_s)
        stretch.start()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", MEDIA_TYPE.encode())]})
        try:
            async for frame in stretch.frames(receive):
                await send({"type": "http.response.body", "body": frame, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            stretch.leave()


class Stretch:
    """One stretch of a run, on a thread of its own; its frames are taken by the answer to the request."""

    def __init__(self, offered: OfferedRun, budget_s: float) -> None:
        self._offered, self._budget_s = offered, budget_s
        self._frames: Queue[bytes | None] = Queue(_N_QUEUED)
        self._is_left = False
        self._clock, self._threads = SystemClock(), SystemThreads()

    def start(self) -> None:
        """Begin to execute the run."""
        self._threads.spawn("ironflow-stretch", self._execute)

    def leave(self) -> None:
        """Note that nobody takes the frames any more."""
        self._is_left = True

    async def frames(self, receive: Receive) -> AsyncIterator[bytes]:
        """Yield the frames as they come, until the stretch is over or the server has gone."""
        import asyncio

        gone = asyncio.ensure_future(_gone(receive))
        try:
            while not gone.done():
                try:
                    frame = await asyncio.to_thread(self._frames.get, True, 0.5)  # noqa: FBT003 -- blocking
                except Empty:
                    continue
                if frame is None:
                    return
                yield frame
        finally:
            gone.cancel()

    def _execute(self) -> None:
        server, wakeup = StreamedRunServer(self._put), self._threads.wakeup()
        until_s, is_given_back = self._clock.monotonic() + self._budget_s, False
        try:
            run = RemoteRun(server, self._offered, "the server that has pushed it", park_s=_PARK_S)
            while not run.is_over and not self._is_left and server.refusal is None:
                self._clock.wait(wakeup, _LOOK_S)
                if not is_given_back and self._clock.monotonic() > until_s:
                    is_given_back = True
                    run.give_back()
            if server.refusal is not None:
                with suppress(JournalError):
                    self._put(packed_frame(FrameKind.REFUSED, str(server.refusal)))
            run.end()
        except (IronflowError, ValueError) as error:
            logger().warning("run %s can't be executed here: %s", self._offered.run_id, error)
            with suppress(JournalError):
                self._put(packed_frame(FrameKind.REFUSED, str(error)))
        with suppress(JournalError):
            self._put(packed_frame(FrameKind.END, None))
            self._put(None)

    def _put(self, frame: bytes | None) -> None:
        while not self._is_left:
            try:
                self._frames.put(frame, timeout=0.5)
            except Full:
                continue
            return
        raise JournalError("the server that has pushed this run has gone; what is done now is not recorded")


class StreamedRunServer:
    """The server of a run that was pushed: it gets everything in the answer, and answers nothing to that."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self._put = put
        self.refusal: NotRetryable | None = None
        """What can't be done here, so that the run is left to workers."""

    def commit(self, lease: Lease, commits: Sequence[WireCommit]) -> None:
        """See `RunServer`.

        Raises:
            NotRetryable: a step that runs once has to be recorded before it begins, and nothing says that it is.
        """
        began = {each.step for commit in commits for each in commit.events if each.type == StepStarted.__name__}
        for row in (row for commit in commits for row in commit.steps if row.step in began):
            spec = REGISTRY.step(row.name)
            if spec is not None and spec.once:
                self.refusal = NotRetryable(
                    f"{row.name} runs once, so its beginning has to be acknowledged, which an endpoint can't wait for: "
                    "execute this flow by a worker, ironflow-nb work --url"
                )
        if self.refusal is not None:
            raise self.refusal
        self._put(packed_frame(FrameKind.COMMIT, CommitMessage(lease, list(commits))))

    def beat(self, lease: Lease, run_ids: Collection[RunId], after: int, *, is_beat: bool) -> ReceivedSignals:
        """See `RunServer`. What has come for the run is there when it is pushed the next time."""
        if is_beat:
            self._put(packed_frame(FrameKind.BEAT, BeatMessage(lease, list(run_ids), after)))
        return ReceivedSignals()

    def send(self, signal: Signal, payload: StoredValue | None, known: SignalId | None) -> SignalId | None:
        """See `RunServer`."""
        self._put(packed_frame(FrameKind.SIGNAL, SignalMessage(signal, payload, known)))
        return None

    def emit(self, name: str, value: StoredValue, key: str) -> None:
        """See `RunServer`."""
        self._put(packed_frame(FrameKind.EVENT, EventMessage(name, value, key)))

    def release(self, lease: Lease) -> None:
        """Do nothing: the server sees the end of the answer."""


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(receive: Receive, told_size: str, most_bytes: int) -> bytes | None:
    """Return the body; None if it is too large, of which no more is read than is allowed."""
    if told_size.isdecimal() and int(told_size) > most_bytes:
        return None
    content = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InputInvalid("the server has left before its request was there", name="body")
        content += message.get("body", b"")
        if len(content) > most_bytes:
            return None
        if not message.get("more_body"):
            return bytes(content)


async def _refuse(send: Send, status: int, code: str, message: str) -> None:
    content = json.dumps({"error": {"code": code, "message": message}}).encode()
    await _respond(send, status, "application/json", content)


async def _respond(send: Send, status: int, media_type: str, content: bytes) -> None:
    headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
