"""The two tables of a journal in DynamoDB, and the errors of AWS as errors of the journal."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import parse_qsl, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 -- that of botocore
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)

from ironflow_nb.errors import ConnectionLost, JournalBusy, JournalError, JournalReadOnly

RECONNECT_S: Final = 30.0
"""So long a request is repeated while AWS can't be reached or throttles."""
PAUSE_S: Final = 0.2
TOLERANCE_US: Final = 2_000_000
"""The clock of AWS is known to the second."""
_OPTIONS: Final = frozenset({"region", "endpoint", "profile", "replica"})
_PREFIX: Final = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_BUSY: Final = frozenset({
    "ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded", "InternalServerError",
    "ServiceUnavailable", "TransactionInProgressException", "LimitExceededException",
})  # fmt: skip
_REFUSED: Final = frozenset({
    "AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException",
    "MissingAuthenticationTokenException",
})  # fmt: skip
_NO_TABLE: Final = "ResourceNotFoundException"
_CONDITION: Final = "ConditionalCheckFailedException"
_RETRIES: Final = MappingProxyType({"mode": "standard", "total_max_attempts": 3})


class ProcessClock(Protocol):
    """The clock of the process."""

    def now(self) -> int:
        """Return the instant, microseconds UTC."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""


class ConditionFailed(Exception):
    """The condition of a write does not hold, so that nothing was written."""


class TableMissing(Exception):
    """There is no such table."""


class DynamoPlace(NamedTuple):
    """Where a journal is: the prefix of its tables, what the client is made with, and its name in messages.

    `folder` is the one for copies on this machine, if one is given.
    """

    prefix: str
    client: Mapping[str, str]
    profile: str | None
    folder: Path | None
    location: str


def dynamo_place(url: str) -> DynamoPlace:
    """Return the place that a URL names: ``dynamodb://prefix?region=eu-central-1``.

    Raises:
        ValueError: it is no such URL.
    """
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query))
    if not _PREFIX.fullmatch(parts.netloc) or parts.path not in {"", "/"}:
        raise ValueError(f"{url!r} can't be read: dynamodb://PREFIX names the tables PREFIX-commits and PREFIX-values")
    if unknown := given.keys() - _OPTIONS:
        raise ValueError(f"{url!r} has the option {min(unknown)!r}; there are {', '.join(sorted(_OPTIONS))}")
    names = {"region": "region_name", "endpoint": "endpoint_url"}
    client = {names[name]: each for name, each in given.items() if name in names}
    folder = Path(given["replica"]).expanduser().absolute() if "replica" in given else None
    return DynamoPlace(parts.netloc, client, given.get("profile"), folder, url)


class DynamoTables:
    """Requests to the tables ``PREFIX-commits`` and ``PREFIX-values``; any thread may make them.

    What AWS refuses for a moment is asked again, `RECONNECT_S` at most.
    """

    ahead_us = 0
    """By how much the clock of AWS is ahead of that of this machine."""

    def __init__(self, place: DynamoPlace, clock: ProcessClock, pause: Callable[[float], object]) -> None:
        self.place, self.clock, self.pause = place, clock, pause
        self.commits, self.values = f"{place.prefix}-commits", f"{place.prefix}-values"
        self._client: Any = None
        self._pid = 0

    def ask(self, action: str, /, **given: Any) -> dict[str, Any]:
        """Make one request; return the answer.

        Raises:
            ConditionFailed, TableMissing: it is so.
            ConnectionLost: AWS can't be reached, and nobody knows whether the request took effect.
            JournalBusy: AWS throttles, and nothing took effect.
            JournalReadOnly, JournalError: AWS refuses.
        """
        until = self.clock.monotonic() + RECONNECT_S
        while True:
            try:
                found: dict[str, Any] = self._made(action)(**given)
            except ClientError as error:
                code = error.response.get("Error", {}).get("Code", "")
                if code == _CONDITION:
                    raise ConditionFailed from error
                if code == _NO_TABLE:
                    raise TableMissing from error
                if code not in _BUSY or self.clock.monotonic() > until:
                    raise self._refusal(error, code) from error
            except (ConnectionError, HTTPClientError) as error:
                if self.clock.monotonic() > until:
                    raise ConnectionLost(
                        f"DynamoDB can't be reached for the journal {self.place.location}: {error}; run the cell again "
                        "when it can: it continues from what was recorded"
                    ) from error
            except BotoCoreError as error:
                raise self._unusable(error) from error
            else:
                self._compare_clocks(found)
                return found
            self.pause(PAUSE_S)

    def _compare_clocks(self, answer: Mapping[str, Any]) -> None:
        """Note by how much the clock of AWS is ahead, if that is more than clocks that are kept right differ."""
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if date is not None:
            ahead_us = round(parsedate_to_datetime(date).timestamp() * 1e6) + 500_000 - self.clock.now()
            if abs(ahead_us - self.ahead_us) > TOLERANCE_US:
                self.ahead_us = ahead_us

    def _made(self, action: str) -> Callable[..., dict[str, Any]]:
        if self._client is None or self._pid != os.getpid():  # a forked child does not share connections
            try:
                profile = self.place.profile
                session: Any = boto3 if profile is None else boto3.Session(profile_name=profile)
                config = Config(connect_timeout=5, read_timeout=10, retries=dict(_RETRIES), max_pool_connections=16)
                self._client = session.client("dynamodb", config=config, **self.place.client)
            except (BotoCoreError, ValueError) as error:
                raise self._unusable(error) from error
            self._pid = os.getpid()
        found: Callable[..., dict[str, Any]] = getattr(self._client, action)
        return found

    def _refusal(self, error: ClientError, code: str) -> JournalError:
        where, why = self.place.location, str(error)
        if code in _BUSY:
            return JournalBusy(
                f"DynamoDB has throttled the journal {where} for {RECONNECT_S:g} s: {why}; give its tables more "
                "capacity, then run the cell again: it continues from what was recorded",
                pids=[],
            )
        if code in _REFUSED:
            return JournalReadOnly(
                f"the journal {where} can't be used for this: {why}; the role needs DescribeTable, GetItem, "
                "BatchGetItem, Query and Scan, to write also PutItem and DeleteItem, and CreateTable for new tables"
            )
        return JournalError(f"DynamoDB has refused a request for the journal {where}: {why}")

    def _unusable(self, error: Exception) -> JournalError:
        what = f"the journal {self.place.location} can't be opened: {error}"
        if isinstance(error, NoRegionError):
            return JournalError(f"{what}; name it: dynamodb://{self.place.prefix}?region=eu-central-1")
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return JournalError(f"{what}; give the credentials of AWS in the environment, in ~/.aws, or by a role")
        return JournalError(what)

    # -- the tables ----------------------------------------------------------------------------------------------

    def exist(self) -> bool:
        """Return True if both tables are there and can be used."""
        try:
            found = [self.ask("describe_table", TableName=name) for name in (self.commits, self.values)]
        except TableMissing:
            return False
        return all(each["Table"]["TableStatus"] in {"ACTIVE", "UPDATING"} for each in found)

    def make(self) -> None:
        """Make the tables that are missing, and wait until they can be used.

        Raises:
            JournalBusy: it takes longer than a minute.
        """
        keys = {
            self.commits: [("commit_number", "N", "HASH")],
            self.values: [("item_name", "S", "HASH"), ("part_number", "N", "RANGE")],
        }
        for table, columns in keys.items():
            try:
                self.ask("describe_table", TableName=table)
            except TableMissing:
                self._make_table(table, columns)
        until = self.clock.monotonic() + 2 * RECONNECT_S
        while not self.exist():
            if self.clock.monotonic() > until:
                raise JournalBusy(f"the tables of the journal {self.place.location} are not ready; try again", pids=[])
            self.pause(PAUSE_S)

    def _make_table(self, table: str, columns: list[tuple[str, str, str]]) -> None:
        try:
            self._made("create_table")(
                TableName=table,
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind} for name, kind, _ in columns],
                KeySchema=[{"AttributeName": name, "KeyType": key} for name, _, key in columns],
            )
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code != "ResourceInUseException":  # another process was faster
                raise self._refusal(error, code) from error
