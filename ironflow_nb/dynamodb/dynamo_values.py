"""What is too large for an item of DynamoDB, in pieces: contents of large values, and long commits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ironflow_nb.core.identity import ValueId
from ironflow_nb.dynamodb.dynamo_tables import DynamoTables
from ironflow_nb.errors import ValueUnreadable
from ironflow_nb.values.stored_value import ContentParts

PIECE: Final = 350_000
"""An item has 400 kB at most, with its names and keys."""
_VALUE: Final = "value:"


class DynamoValues:
    """The contents, in items of the table ``PREFIX-values``; the first piece of each is written last."""

    def __init__(self, tables: DynamoTables) -> None:
        self._tables = tables

    def path(self, value_id: ValueId) -> Path:
        """See `LargeValues`."""
        return Path(self._tables.values, value_id.hex())

    def write(self, value_id: ValueId, content: bytes | ContentParts) -> None:
        """See `LargeValues`."""
        self.put(f"{_VALUE}{value_id.hex()}", bytes(content))

    def read(self, value_id: ValueId, size: int) -> bytes:
        """See `LargeValues`."""
        content = self.get(f"{_VALUE}{value_id.hex()}")
        if content is None or len(content) != size:
            what = "is missing" if content is None else f"has {len(content)} bytes and was written with {size}"
            raise ValueUnreadable(f"the content of value {value_id.hex()} {what}", value_id=value_id)
        return content

    def has(self, value_id: ValueId) -> bool:
        """See `LargeValues`."""
        key = _key(f"{_VALUE}{value_id.hex()}", 0)
        found = self._tables.ask("get_item", TableName=self._tables.values, Key=key, ConsistentRead=True,
                                 ProjectionExpression="part_number")  # fmt: skip
        return "Item" in found

    def remove(self, value_id: ValueId) -> None:
        """See `LargeValues`."""
        self.delete(f"{_VALUE}{value_id.hex()}")

    def written_before(self, instant_s: float) -> Iterator[ValueId]:
        """See `LargeValues`. It reads the whole table."""
        given: dict[str, Any] = {
            "TableName": self._tables.values,
            "FilterExpression": "part_number = :first AND begins_with(item_name, :value) AND written_at < :instant",
            "ExpressionAttributeValues": {
                ":first": {"N": "0"}, ":value": {"S": _VALUE}, ":instant": {"N": str(round(instant_s * 1e6))},
            },
            "ProjectionExpression": "item_name",
        }  # fmt: skip
        while True:
            found = self._tables.ask("scan", **given)
            for item in found["Items"]:
                yield ValueId(bytes.fromhex(item["item_name"]["S"].removeprefix(_VALUE)))
            if "LastEvaluatedKey" not in found:
                return
            given["ExclusiveStartKey"] = found["LastEvaluatedKey"]

    # -- pieces --------------------------------------------------------------------------------------------------

    def put(self, name: str, content: bytes) -> None:
        """Write a content under a name; what is there under it is replaced."""
        pieces = [content[start : start + PIECE] for start in range(0, len(content), PIECE)] or [b""]
        written_at = {"N": str(self._tables.clock.now())}
        for part in reversed(range(len(pieces))):
            item = {**_key(name, part), "packed": {"B": pieces[part]}, "written_at": written_at,
                    "n_parts": {"N": str(len(pieces))}}  # fmt: skip
            self._tables.ask("put_item", TableName=self._tables.values, Item=item)

    def get(self, name: str) -> bytes | None:
        """Return the content of that name, or None if it is not there as a whole."""
        items = self._items(name, "packed, n_parts")
        if not items or len(items) < int(items[0]["n_parts"]["N"]):
            return None
        return b"".join(item["packed"]["B"] for item in items[: int(items[0]["n_parts"]["N"])])

    def delete(self, name: str) -> None:
        """Remove the content of that name, the first piece first."""
        for item in self._items(name, "part_number"):
            key = _key(name, int(item["part_number"]["N"]))
            self._tables.ask("delete_item", TableName=self._tables.values, Key=key)

    def _items(self, name: str, wanted: str) -> list[dict[str, Any]]:
        given: dict[str, Any] = {
            "TableName": self._tables.values, "KeyConditionExpression": "item_name = :id", "ConsistentRead": True,
            "ExpressionAttributeValues": {":id": {"S": name}}, "ProjectionExpression": wanted,
        }  # fmt: skip
        items: list[dict[str, Any]] = []
        while True:
            found = self._tables.ask("query", **given)
            items += found["Items"]
            if "LastEvaluatedKey" not in found:
                return items
            given["ExclusiveStartKey"] = found["LastEvaluatedKey"]


def _key(name: str, part: int) -> dict[str, Any]:
    return {"item_name": {"S": name}, "part_number": {"N": str(part)}}
