"""The kinds ``cache_set`` and ``cache_get``: values that runs leave for one another, by their keys, in the journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ironflow_nb.core.durations import seconds
from ironflow_nb.core.identity import Digest, RunId, StepRef, digest_bytes
from ironflow_nb.errors import ValueUnreadable
from ironflow_nb.execution import REGISTRY, SCOPE, durable_calls
from ironflow_nb.graphs.kinds import Kind, NodeContext, Options, failure, options_schema
from ironflow_nb.journal.ports import CachedResult, RunCommit

_KIND: Final = digest_bytes(b"a value by its key")
"""In the place of the code that made a cached result: no code is looked at for a value that was set."""


def _identity(key: str) -> Digest:
    return digest_bytes(f"cached value\0{key}".encode())


def _set(options: Options, context: NodeContext) -> dict[str, Any]:
    key, value, engine, scope = options["key"], options.get("value"), REGISTRY.engine(), SCOPE.get()
    try:
        ttl_s = seconds(options["ttl"]) if "ttl" in options else None
    except ValueError as error:
        raise failure(context, f"ttl: {error}") from None
    durable_calls.refuse_secrets("a cached value", [key, value])
    now = engine.clock.now()
    until = None if ttl_s is None else now + round(ttl_s * 1e6)
    stored = engine.codecs.store({"value": value, "until": until})[0]
    row = CachedResult(
        identity=_identity(key),
        code=_KIND,
        run_id=RunId("") if scope is None else scope.run_id,
        step=StepRef(context.node) if scope is None or scope.step is None else scope.step,
        output_id=stored.value_id,
        finished_at=now,
    )
    commit = RunCommit(run_id=RunId(""), events=(), values=(stored,), cached=(row,))
    engine.access.exchange(lambda _reader: [commit], engine.durability)
    return {"key": key, "expires_at": None if until is None else engine.access.instant(until).isoformat()}


def _get(options: Options, _context: NodeContext) -> dict[str, Any]:
    engine = REGISTRY.engine()
    with engine.access.current() as reader:
        found = reader.cached(_identity(options["key"]), _KIND)
    missing = {"value": options.get("otherwise"), "is_hit": False}
    if found is None or found.output_id is None:
        return missing
    try:
        entry: Mapping[str, Any] = engine.access.read(found.output_id)
    except ValueUnreadable:  # a class that is not there any more, or the signature of another user
        return missing
    is_late = entry["until"] is not None and entry["until"] <= engine.clock.now()
    return missing if is_late else {"value": entry["value"], "is_hit": True}


_KEY: Final = {"type": "string", "minLength": 1, "description": "The key; all graphs of the journal share it."}

CACHE_SET: Final = Kind(
    name="cache_set",
    description="Keeps a value under a key in the journal, for other runs and later ones.",
    schema=options_schema(
        {
            "key": _KEY,
            "value": {"description": "The value; it replaces the one before."},
            "ttl": {
                "type": ["number", "string"],
                "description": 'How long it is kept: seconds, or a text such as "10m" or "7d"; by default for ever.',
            },
        },
        required=["key", "value"],
    ),
    perform=_set,
    is_outside=True,
)

CACHE_GET: Final = Kind(
    name="cache_get",
    description="Gives the value that cache_set has kept under a key: {value, is_hit}.",
    schema=options_schema(
        {"key": _KEY, "otherwise": {"description": "The value if there is none, or none any more; by default null."}},
        required=["key"],
    ),
    perform=_get,
    shorthand="key",
    is_outside=True,
)
