"""The log of commits in DynamoDB: numbered without a gap, each in an item of its own.

An item is written on condition that its number is free, so of several processes one has it, and the others read what it
has committed before they try the next number. The condition is the fence: who was frozen finds its number taken.

Who has to know that nobody else commits meanwhile reserves the next number first. A reservation that stands for longer
than `RESERVED_S` is of a process that is dead or frozen, and is made void; its owner can't commit any more.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import msgspec

from ironflow_nb.dynamodb.dynamo_tables import ConditionFailed, DynamoTables, TableMissing
from ironflow_nb.dynamodb.dynamo_values import PIECE, DynamoValues
from ironflow_nb.errors import ConnectionLost, JournalCorrupt, JournalTooNew
from ironflow_nb.journal.ports import Lease
from ironflow_nb.journal.schema import SCHEMA_VERSION

RESERVED_S: Final = 10.0
_MOST_READ: Final = 100
_MOST_PASSED: Final = 2000
_LONG: Final = "commit:"

Statement = tuple[str, Sequence[Any] | Mapping[str, Any]]
"""A statement that writes, and its parameters."""

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(list[tuple[str, Any]])
_LEASES: Final = msgspec.msgpack.Decoder(Lease)


class LoggedCommit(NamedTuple):
    """A commit as every copy of the journal applies it; a void one has no statements."""

    number: int
    statements: list[Statement]


class NewCommits(NamedTuple):
    """The commits after a number, in their order, and who has reserved the number after them."""

    commits: list[LoggedCommit]
    reserved_by: str | None = None
    is_all: bool = True


class CommitLog:
    """The log; any thread may use it."""

    def __init__(self, tables: DynamoTables) -> None:
        self.tables, self._long = tables, DynamoValues(tables)

    def journal_id(self, new_id: str | None) -> str | None:
        """Return the id that the journal got when it was begun; give it this one if it has none."""
        if new_id is not None:
            with suppress(ConditionFailed):
                self._put({"commit_number": {"N": "0"}, "commit_id": {"S": new_id}})
        try:
            found = self._item(0)
        except TableMissing:
            return None
        return None if found is None else str(found["commit_id"]["S"])

    # -- reading -------------------------------------------------------------------------------------------------

    def after(self, number: int) -> NewCommits:
        """Return the commits after that number, at most some thousands."""
        found: list[LoggedCommit] = []
        n_asked, items = 1, self._items([number + 1])
        while True:
            item = items.pop(number + 1, None)
            if item is None and len(found) == n_asked:
                n_asked += (n_read := min(4 * n_asked, _MOST_READ))
                items = self._items(range(number + 1, number + 1 + n_read))
                item = items.pop(number + 1, None)
            if item is None:
                return NewCommits(found)
            if "is_reserved" in item:
                return NewCommits(found, item["commit_id"]["S"])
            number += 1
            found.append(LoggedCommit(number, self._statements(number, item)))
            if len(found) >= _MOST_PASSED:
                return NewCommits(found, is_all=False)

    def _item(self, number: int) -> dict[str, Any] | None:
        key = {"commit_number": {"N": str(number)}}
        found = self.tables.ask("get_item", TableName=self.tables.commits, Key=key, ConsistentRead=True)
        return found.get("Item")

    def _items(self, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
        if len(numbers) == 1:
            item = self._item(numbers[0])
            return {} if item is None else {numbers[0]: item}
        found = self._batch(self.tables.commits, [{"commit_number": {"N": str(number)}} for number in numbers])
        return {int(item["commit_number"]["N"]): item for item in found}

    def _batch(self, table: str, keys: list[dict[str, Any]]) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        wanted: dict[str, Any] = {table: {"Keys": keys, "ConsistentRead": True}}
        while wanted:
            answer = self.tables.ask("batch_get_item", RequestItems=wanted)
            items += answer["Responses"].get(table, ())
            wanted = answer.get("UnprocessedKeys") or {}
        return items

    def _statements(self, number: int, item: Mapping[str, Any]) -> list[Statement]:
        if "is_void" in item:
            return []
        schema = int(item["schema"]["N"])
        if schema > SCHEMA_VERSION:
            raise JournalTooNew(
                f"commit {number} of the journal {self.tables.place.location} has schema {schema}, and this version "
                f"of ironflow_nb knows {SCHEMA_VERSION}; upgrade ironflow-nb to use it",
                schema=schema,
            )
        content = item["packed"]["B"] if "packed" in item else self._long.get(f"{_LONG}{item['commit_id']['S']}")
        try:
            return _DECODER.decode(zlib.decompress(content or b""))
        except (zlib.error, msgspec.MsgspecError) as error:
            where = self.tables.place.location
            raise JournalCorrupt(f"commit {number} of the journal {where} is damaged: {error}") from error

    # -- writing -------------------------------------------------------------------------------------------------

    def put(self, number: int, commit_id: str, statements: Sequence[Statement]) -> bool:
        """Write the commit; return False if its number is another one's.

        Raises:
            ConnectionLost: AWS can't be reached, and it may come to be written.
        """
        content = self._content(commit_id, statements)
        try:
            self._put({"commit_number": {"N": str(number)}, "commit_id": {"S": commit_id}, **content})
        except ConditionFailed:
            found = self._item(number)  # it may be this one: the answer to the first request was lost
            return found is not None and found["commit_id"]["S"] == commit_id and "is_reserved" not in found
        return True

    def reserve(self, number: int, commit_id: str) -> bool:
        """Reserve the number; return False if it is another one's."""
        try:
            self._put(
                {"commit_number": {"N": str(number)}, "commit_id": {"S": commit_id}, "is_reserved": {"BOOL": True}}
            )
        except ConditionFailed:
            found = self._item(number)
            return found is not None and found["commit_id"]["S"] == commit_id
        return True

    def fill(self, number: int, commit_id: str, statements: Sequence[Statement]) -> None:
        """Write the commit whose number is reserved for it.

        Raises:
            ConnectionLost: it took too long, and the reservation was made void.
        """
        content = self._content(commit_id, statements)
        item = {"commit_number": {"N": str(number)}, "commit_id": {"S": commit_id}, **content}
        try:
            self._put(item, "commit_id = :id AND attribute_exists(is_reserved)", commit_id)
        except ConditionFailed:
            found = self._item(number)
            if found is None or found["commit_id"]["S"] != commit_id or "is_void" in found:
                raise ConnectionLost(
                    f"this process stood still for more than {RESERVED_S:g} s in a commit to the journal "
                    f"{self.tables.place.location}, so that others went on, and nothing of it is recorded"
                ) from None

    def free(self, number: int, commit_id: str) -> None:
        """Give back a number that was reserved."""
        with suppress(ConditionFailed):
            self.tables.ask(
                "delete_item", TableName=self.tables.commits, Key={"commit_number": {"N": str(number)}},
                ConditionExpression="commit_id = :id AND attribute_exists(is_reserved)",
                ExpressionAttributeValues={":id": {"S": commit_id}},
            )  # fmt: skip

    def make_void(self, number: int, commit_id: str) -> None:
        """Take the number from the process that has reserved it, unless it has committed meanwhile."""
        item = {"commit_number": {"N": str(number)}, "commit_id": {"S": commit_id}, "is_void": {"BOOL": True}}
        with suppress(ConditionFailed):
            self._put(item, "commit_id = :id AND attribute_exists(is_reserved)", commit_id)

    def _put(self, item: Mapping[str, Any], condition: str = "", commit_id: str = "") -> None:
        given: dict[str, Any] = {"ConditionExpression": condition or "attribute_not_exists(commit_id)"}
        if condition:
            given["ExpressionAttributeValues"] = {":id": {"S": commit_id}}
        self.tables.ask("put_item", TableName=self.tables.commits, Item=item, **given)

    def _content(self, commit_id: str, statements: Sequence[Statement]) -> dict[str, Any]:
        content = zlib.compress(_ENCODER.encode(statements))
        schema = {"schema": {"N": str(SCHEMA_VERSION)}}
        if len(content) <= PIECE:
            return {**schema, "packed": {"B": content}}
        self._long.put(f"{_LONG}{commit_id}", content)
        return schema

    # -- signs of life -------------------------------------------------------------------------------------------

    def beat(self, lease: Lease) -> None:
        """Write a sign of life beside the log, which would grow by it."""
        packed = {"packed": {"B": _ENCODER.encode(lease)}}
        self.tables.ask("put_item", TableName=self.tables.values, Item={**_lease_key(lease.owner), **packed})

    def beats(self, owners: Sequence[str]) -> list[Lease]:
        """Return the last signs of life of these owners, as far as they have any."""
        found: list[Lease] = []
        for start in range(0, len(owners), _MOST_READ):
            keys = [_lease_key(owner) for owner in owners[start : start + _MOST_READ]]
            found += [_LEASES.decode(item["packed"]["B"]) for item in self._batch(self.tables.values, keys)]
        return found

    def end(self, owner: str) -> None:
        """Forget the signs of life of an owner."""
        self.tables.ask("delete_item", TableName=self.tables.values, Key=_lease_key(owner))


def _lease_key(owner: str) -> dict[str, Any]:
    return {"item_name": {"S": f"lease:{owner}"}, "part_number": {"N": "0"}}
