"""Routes of workers that execute runs of this server over HTTP: MessagePack both ways."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from ironflow_nb.access.permissions import Permission
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.remote.run_offers import mail_of, record_commits, release_owner, send_for
from ironflow_nb.remote.wire_format import (
    MEDIA_TYPE,
    BeatMessage,
    ClaimMessage,
    CommitMessage,
    EventMessage,
    SignalMessage,
    packed,
    unpacked,
)
from ironflow_nb.server.http_calls import HttpCall, HttpRoute, Reply
from ironflow_nb.server.server_threads import in_thread
from ironflow_nb.triggers.emission import emit_event
from ironflow_nb.triggers.event_rules import event_name

_LOOK_S: Final = 0.1
_MOST_WAIT_S: Final = 30.0
_MOST_BYTES: Final = 1 << 30
_TWIN: Final = "ironflow-nb work --url"


def _is_open(call: HttpCall, run: RunRow) -> bool:
    return call.may(Permission.RUN_WORK, f"{run.name}/{run.run_id}")


def _answer(message: object = None) -> Reply:
    return Reply(status=204) if message is None else Reply(content=packed(message), media_type=MEDIA_TYPE)


async def claim_runs(call: HttpCall) -> Reply:
    """Return runs that the worker can execute; wait a while if there is none."""
    asked = unpacked(call.body, ClaimMessage)
    loop = asyncio.get_running_loop()
    until = loop.time() + min(asked.wait_s, _MOST_WAIT_S)
    while True:
        if await call.is_gone():  # what a dead worker is offered would be offered to no other one for a while
            return _answer([])
        found = await in_thread(call.offers.offer, asked, lambda run: _is_open(call, run))
        if found or call.feed.is_stopped or loop.time() >= until:
            return await in_thread(_answer, found)
        await asyncio.sleep(_LOOK_S)


def take_commits(call: HttpCall) -> Reply:
    """Record what the owner of runs commits."""
    message = unpacked(call.body, CommitMessage)
    record_commits(call.engine, message, lambda run: _is_open(call, run))
    call.offers.end([each.run_id for each in message.commits])
    return _answer()


def take_beat(call: HttpCall) -> Reply:
    """Note that an owner lives, and return the signals to its runs."""
    return _answer(mail_of(call.engine, unpacked(call.body, BeatMessage)))


def take_signal(call: HttpCall) -> Reply:
    """Send a signal of a run."""
    return _answer({"is_new": send_for(call.engine, unpacked(call.body, SignalMessage))})


def take_event(call: HttpCall) -> Reply:
    """Record an event that a run emits, which starts flows."""
    asked = unpacked(call.body, EventMessage)
    data = call.engine.codecs.decode(asked.value)
    return _answer({"event_id": emit_event(call.engine, event_name(asked.name), data, asked.key)})


def take_release(call: HttpCall) -> Reply:
    """Note that an owner has ended."""
    release_owner(call.engine, unpacked(call.body, BeatMessage).lease)
    return _answer()


def _route(path: str, act: Any, summary: str) -> HttpRoute:
    return HttpRoute(
        "POST", f"/work/{path}", Permission.RUN_WORK, act, summary, _TWIN, is_raw=True, media_type=MEDIA_TYPE,
        most_bytes=_MOST_BYTES, resource=None,
    )  # fmt: skip


WORK_ROUTES: Final = (
    _route("claims", claim_runs, "runs for a worker"),
    _route("commits", take_commits, "what the owner of a run records"),
    _route("beats", take_beat, "an owner lives; signals to its runs"),
    _route("signals", take_signal, "a signal of a run"),
    _route("events", take_event, "an event of a run"),
    _route("releases", take_release, "an owner has ended"),
)
