"""The URL of a queue: what its library connects to, and options of ours behind the question mark."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import msgspec

from ironflow_nb.core.option_values import a_text
from ironflow_nb.core.plain_text import plain


class Broker(StrEnum):
    """The services whose queues are known; the value is the name of the extra with their library."""

    REDIS = "redis"
    RABBITMQ = "amqp"
    NATS = "nats"
    SQS = "aws"


class _UrlRule(msgspec.Struct, frozen=True):
    broker: Broker
    needed: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    takes_others: bool = False


_REDIS: Final = _UrlRule(Broker.REDIS, ("stream",), ("group", "idle_s"), takes_others=True)
_RABBITMQ: Final = _UrlRule(Broker.RABBITMQ, ("queue",), takes_others=True)
_NATS: Final = _UrlRule(Broker.NATS, ("stream",), ("group", "subject", "idle_s"))
_SQS: Final = _UrlRule(Broker.SQS, (), ("region", "wait_s"))
_RULES: Final = {
    "redis": _REDIS, "rediss": _REDIS, "amqp": _RABBITMQ, "amqps": _RABBITMQ, "nats": _NATS, "tls": _NATS,
    "https": _SQS, "http": _SQS,
}  # fmt: skip
_EXAMPLES: Final = (
    "redis://HOST/0?stream=NAME, amqp://HOST/VHOST?queue=NAME, nats://HOST?stream=NAME, "
    "or the https:// of a queue of SQS"
)


class QueueUrl(msgspec.Struct, frozen=True):
    """A queue of a broker: `address` is for its library, `options` are ours, `shown` has no password."""

    broker: Broker
    address: str
    shown: str
    secrets: tuple[str, ...]
    options: Mapping[str, str]

    def seconds(self, option: str, default: float) -> float:
        """Return an option that is a duration."""
        return float(self.options.get(option, default))

    def hidden(self, text: str) -> str:
        """Return the text without the password, which a library may have put into its error."""
        for each in self.secrets:
            text = text.replace(each, "***")
        return plain(text)


def queue_url(given: object) -> QueueUrl:
    """Return the URL of a queue.

    Raises:
        ValueError: it is that of no queue, lacks an option, or has one that nobody knows.
    """
    parts = urlsplit(a_text("url", given))
    rule = _RULES.get(parts.scheme)
    if rule is None or not parts.hostname:
        raise ValueError(f"{parts.scheme or 'this'}: is no URL of a queue; known are {_EXAMPLES}")
    query = parse_qsl(parts.query, keep_blank_values=True)
    options = {name: value for name, value in query if name in rule.needed + rule.optional}
    missing = [name for name in rule.needed if not options.get(name)]
    others = [(name, value) for name, value in query if name not in options]
    if missing:
        raise ValueError(f"the URL of the queue lacks {missing[0]}=; known are {_EXAMPLES}")
    if others and not rule.takes_others:
        known = ", ".join(rule.needed + rule.optional)
        raise ValueError(f"the URL of the queue has {others[0][0]}=; of this kind it may have {known}")
    for option in ("idle_s", "wait_s"):
        _refuse_no_seconds(option, options.get(option))
    address = urlunsplit(parts._replace(query=urlencode(others)))
    host = parts.netloc.rpartition("@")[2]
    shown = f"{parts.scheme}://{host}{parts.path}?{urlencode(options)}".rstrip("?")
    secrets = (parts.password, unquote(parts.password)) if parts.password else ()
    return QueueUrl(rule.broker, address, plain(shown), secrets, options)


def _refuse_no_seconds(option: str, given: str | None) -> None:
    try:
        is_wrong = given is not None and not 0 < float(given) < 1e6
    except ValueError:
        is_wrong = True
    if is_wrong:
        raise ValueError(f"{option} is a number of seconds, not {given!r}")
