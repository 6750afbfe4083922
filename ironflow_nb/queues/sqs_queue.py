"""Messages of a queue of Amazon SQS, or of a service that speaks its protocol."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from ironflow_nb.queues.notifier import N_RECEIVED, Message
from ironflow_nb.queues.queue_url import QueueUrl

_WAIT_S: Final = 5.0
"""How long one request waits for a message, at most 20 s; each is paid for."""
_N_DELIVERIES: Final = "ApproximateReceiveCount"
_HOST: Final = re.compile(r"(?:sqs\.([\w-]+)|([\w-]+)\.queue)\.amazonaws\.com(?:\.cn)?")


class SqsQueue:
    """A queue of SQS. Who may use it is found as boto3 does: by the environment, a file, or the machine's role."""

    def __init__(self, url: QueueUrl, _group: str, _consumer: str) -> None:
        parts = urlsplit(url.address)
        found = _HOST.fullmatch(parts.hostname or "")
        region = url.options.get("region") or (found and (found[1] or found[2])) or None
        # What fails is told at once, for its consumer tries again.
        config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30)
        self._client = boto3.client(
            "sqs", region_name=region, endpoint_url=f"{parts.scheme}://{parts.netloc}", config=config
        )
        self._url, self._wait_s = url.address, round(url.seconds("wait_s", _WAIT_S))

    def receive(self) -> Sequence[Message]:
        """See `Notifier`."""
        found = self._client.receive_message(
            QueueUrl=self._url, MaxNumberOfMessages=N_RECEIVED, WaitTimeSeconds=self._wait_s,
            AttributeNames=[_N_DELIVERIES], MessageAttributeNames=["All"],
        )  # fmt: skip
        return [_message(each) for each in found.get("Messages", ())]

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """See `Notifier`. What SQS does not delete now comes once more."""
        entries = [{"Id": str(n), "ReceiptHandle": each.receipt} for n, each in enumerate(messages)]
        self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)

    def close(self) -> None:
        """See `Notifier`."""
        self._client.close()


def _message(given: Mapping[str, Any]) -> Message:
    attributes = given.get("MessageAttributes", {})
    return Message(
        message_id=given["MessageId"],
        body=given["Body"].encode(),
        headers={name: each["StringValue"] for name, each in attributes.items() if "StringValue" in each},
        n_deliveries=int(given.get("Attributes", {}).get(_N_DELIVERIES, 1)),
        receipt=given["ReceiptHandle"],
    )
