"""The frames of keys, policies, and of what was allowed to whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ironflow_nb.access.access_rows import access_of
from ironflow_nb.execution import REGISTRY, Engine
from ironflow_nb.history.lookup import When, instant_us
from ironflow_nb.history.tables import INSTANT, TEXT, frame_of_records

if TYPE_CHECKING:
    import pandas as pd

_AUDIT: Final = {
    "at": INSTANT, "who": TEXT, "key_id": TEXT, "action": TEXT, "resource": TEXT, "is_allowed": "bool", "reason": TEXT,
}  # fmt: skip
_KEYS: Final = {
    "name": TEXT, "key_id": TEXT, "role": TEXT, "project": TEXT, "env": TEXT, "status": TEXT, "created_at": INSTANT,
    "expires_at": INSTANT, "revoked_at": INSTANT,
}  # fmt: skip
_POLICIES: Final = {
    "policy_id": "int64", "effect": TEXT, "subject": TEXT, "action": TEXT, "resource": TEXT, "created_at": INSTANT,
}  # fmt: skip


def audit(
    who: str | None = None, *, since: When = None, limit: int = 1000, engine: Engine | None = None
) -> pd.DataFrame:
    """Return what the server has allowed and refused to the holders of keys, newest first.

    It has every change that was asked for, and every refusal; what was read is not in it.

    Columns: at, who (the name of the key), key_id, action (``flow:start``), resource (its name, ``irn:...``),
    is_allowed, reason (the role or the policy that decided).

    Args:
        who: the name of a key.
        since: a datetime, an ISO text, or a duration before now: ``"7d"``.
        limit: at most as many, the newest.
        engine: the journal to read; by default the current one.
    """
    engine = engine or REGISTRY.engine()
    with engine.reading() as reader:
        found = list(access_of(reader).audit(who, instant_us(since, engine.clock.now()), limit))
    return frame_of_records(_AUDIT, [_record(each) | {"is_allowed": bool(each.is_allowed)} for each in found])


def keys_frame(engine: Engine) -> pd.DataFrame:
    """Return the keys in the order of making, without their secrets.

    Columns: name, key_id (the part of the key after ``ifk_``), role, project, env, status (``valid``, ``expired``,
    ``revoked``), created_at, expires_at, revoked_at.
    """
    now = engine.clock.now()
    with engine.reading() as reader:
        found = access_of(reader).all_keys()
    return frame_of_records(_KEYS, [_record(each) | {"status": each.status(now)} for each in found])


def policies_frame(engine: Engine) -> pd.DataFrame:
    """Return the policies in the order of making.

    Columns: policy_id, effect (``allow`` or ``deny``), subject (a key, a role, or ``*``), action, resource, created_at.
    """
    with engine.reading() as reader:
        found = access_of(reader).policies()
    return frame_of_records(_POLICIES, _records(found))


def _records(found: Sequence[msgspec.Struct]) -> list[dict[str, Any]]:
    return [_record(each) for each in found]


def _record(found: msgspec.Struct) -> dict[str, Any]:
    return msgspec.structs.asdict(found)
