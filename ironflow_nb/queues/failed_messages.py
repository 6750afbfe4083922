"""Messages that could not be used: kept in the queue of work of the journal, tried again, and dead letters in the end.

So they are acknowledged as all others are, and none comes round for ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from ironflow_nb.core.identity import RunId, ValueId
from ironflow_nb.core.wait_rules import StartKind
from ironflow_nb.errors import DuplicateKey, EngineClosed, InputInvalid, JournalConflict, JournalError, NotRetryable
from ironflow_nb.execution import Engine, logger
from ironflow_nb.history.tables import COUNT, INSTANT, TEXT, frame_of_records
from ironflow_nb.journal.ports import QueueItem, QueueSelect, Reader, RunCommit
from ironflow_nb.queues.notifier import Message
from ironflow_nb.triggers.claims import claim, failed, give_back, settle
from ironflow_nb.triggers.trigger_rows import ReplacedItem
from ironflow_nb.values.failures import store_failure
from ironflow_nb.values.stored_value import StoredValue

if TYPE_CHECKING:
    import pandas as pd

Use = Callable[[Message], object]
"""Begins what a message begins."""

_NEVER_FIT: Final = (InputInvalid, DuplicateKey, NotRetryable)
"""What the same message raises each time."""
_COLUMNS: Final = {
    "message_id": TEXT, "body": TEXT, "headers": "object", "attempts": COUNT, "error": TEXT, "created_at": INSTANT,
    "dead_at": INSTANT, "key": TEXT,
}  # fmt: skip


def put_failed(engine: Engine, key: str, message: Message, error: BaseException) -> None:
    """Queue a message for another attempt, or as a dead letter, unless it is queued already; see `QueueItem.key`."""
    stored, failure = engine.codecs.store(_plain(message))[0], store_failure(error)
    now = engine.clock.now()
    first = QueueItem(
        run_id=_item_id(engine, message),
        kind=StartKind.EVENT.value,
        key=key,
        due_at=now,
        created_at=now,
        payload_id=ValueId(stored.value_id),
        attempts=1,
    )
    item = _after(engine, first, error, failure)

    def act(reader: Reader) -> Sequence[RunCommit]:
        if reader.work(QueueSelect(run_ids=[item.run_id], key=key)):
            return []
        return [RunCommit(run_id=item.run_id, events=(), values=(stored, failure), put_work=(item,))]

    engine.access.exchange(act, engine.durability)


def try_again(engine: Engine, item: QueueItem, use: Use) -> None:
    """Claim a queued message and use it; another process may be faster.

    Raises:
        JournalError, EngineClosed: the journal refuses now; the claim is given back.
    """
    claimed = claim(engine, item)
    if claimed is None:
        return
    try:
        use(_message(engine.access.read(_payload(claimed))))
        settle(engine, claimed, ReplacedItem(claimed=claimed))
    except JournalConflict as error:
        with suppress(JournalConflict):  # the claim is lost, and with it the message
            _put_back(engine, claimed, error)
    except (JournalError, EngineClosed):
        give_back(engine, claimed)
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- code of the user: tried again, then dead
        _put_back(engine, claimed, error)


def _put_back(engine: Engine, claimed: QueueItem, error: BaseException) -> None:
    failure = store_failure(error)
    after = _after(engine, claimed, error, failure)
    settle(engine, claimed, ReplacedItem(claimed=claimed, following=(after,)), values=(failure,))


def _after(engine: Engine, item: QueueItem, error: BaseException, failure: StoredValue) -> QueueItem:
    """Return the item after a failed attempt, and say what becomes of it."""
    after = failed(engine, item, error, failure)
    if isinstance(error, _NEVER_FIT):
        after = replace(after, dead_at=engine.clock.now())
    name, text = item.key.partition(" ")[2], f"{type(error).__name__}: {error}"
    if after.dead_at is None:
        logger().warning("%s of queue %s is tried again: %s", item.run_id, name, text)
    else:
        logger().warning("%s of queue %s begins nothing: %s; its dead_letters() has it", item.run_id, name, text)
    return after


def dead_messages(engine: Engine, key: str) -> pd.DataFrame:
    """Return the messages of a queue that are not tried again; see `MessageQueue.dead_letters`."""
    with engine.reading() as reader:
        items = reader.work(QueueSelect(key=key, is_dead=True))
        errors = reader.values({each.error_id for each in items if each.error_id is not None})
    records = []
    for each in items:
        message = _message(engine.access.read(_payload(each)))
        error = None if each.error_id is None else errors.get(each.error_id)
        records.append({
            "message_id": message.message_id, "body": message.body.decode(errors="replace"),
            "headers": dict(message.headers), "attempts": each.attempts,
            "error": None if error is None else error.preview, "created_at": each.created_at, "dead_at": each.dead_at,
            "key": each.run_id,
        })  # fmt: skip
    return frame_of_records(_COLUMNS, records)


def _payload(item: QueueItem) -> ValueId:
    assert item.payload_id is not None
    return item.payload_id


def _plain(message: Message) -> dict[str, Any]:
    """Return the message as the journal keeps it: text where it is text, so that SQL reads it."""
    try:
        body: bytes | str = message.body.decode()
    except UnicodeDecodeError:
        body = message.body
    return {"message_id": message.message_id, "body": body, "headers": dict(message.headers)}


def _message(plain: dict[str, Any]) -> Message:
    body = plain["body"]
    return Message(
        message_id=plain["message_id"], body=body.encode() if isinstance(body, str) else body, headers=plain["headers"]
    )


def _item_id(engine: Engine, message: Message) -> RunId:
    """Return what the message is called in the queue of work: no id of a run looks like it."""
    own = message.message_id
    if own is None:
        return RunId(f"message {engine.entropy(12).hex()}")
    is_short = own.isprintable() and len(own) <= 200
    return RunId(f"message {own if is_short else hashlib.sha256(own.encode(errors='replace')).hexdigest()}")
