"""The kinds ``email`` and ``slack``: a message for people, by a mail server or by Slack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ironflow_nb.graphs.grants import SERVER_PATTERN, Need
from ironflow_nb.graphs.kinds import RETRY_KEYS, Kind, NodeContext, Options, failure, options_schema
from ironflow_nb.graphs.language.data import describe
from ironflow_nb.graphs.language.templates import OPENING
from ironflow_nb.graphs.nodes.http import exchange

# -- email -------------------------------------------------------------------------------------------------------


def _send_email(options: Options, context: NodeContext) -> dict[str, Any]:
    __tracebackhide__ = True
    from ironflow_nb.graphs.nodes.mail_submission import send_email

    return send_email(options, context)


def _needs_of_email(options: Options) -> Iterable[Need]:
    server = options.get("server")
    if isinstance(server, str) and OPENING not in server:
        yield Need("servers", server.lower())
    for each in options.get("attachments", ()) if isinstance(options.get("attachments"), list) else ():
        if isinstance(each, str) and OPENING not in each:
            yield Need("files", each)


_TEXT: Final = {"type": "string", "minLength": 1}
_PEOPLE: Final = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}

EMAIL: Final = Kind(
    name="email",
    description="Sends a mail by a mail server and gives {message_id, accepted, refused}.",
    schema=options_schema(
        {
            "server": {
                "type": "string",
                "pattern": SERVER_PATTERN,
                "description": "The mail server with its port, of allow: {servers: [...]}: smtp.example.org:587.",
            },
            "tls": {
                "enum": ["starttls", "tls", "none"],
                "default": "starttls",
                "description": "How it is encrypted: after the greeting (port 587), from the start (465), or not.",
            },
            "user": {**_TEXT, "description": "Who logs in; without it nobody does."},
            "password": {**_TEXT, "description": "The password; take it from secrets."},
            "from": {**_TEXT, "description": "The sender: ada@example.org, or Ada <ada@example.org>."},
            "to": {**_PEOPLE, "description": "Who gets it: an address, or a list of them."},
            "cc": {**_PEOPLE, "description": "Who gets a copy."},
            "bcc": {**_PEOPLE, "description": "Who gets a copy that the others do not see."},
            "reply_to": {**_PEOPLE, "description": "Who gets the answers."},
            "subject": {"type": "string", "description": "The subject."},
            "text": {"type": "string", "description": "The message as a text."},
            "html": {"type": "string", "description": "The message as HTML, beside the text or in its place."},
            "attachments": {
                "type": "array",
                "items": {
                    "anyOf": [
                        _TEXT,
                        options_schema(
                            {
                                "name": _TEXT,
                                "content": {},
                                "type": {"type": "string", "pattern": "^[\\w.+-]+/[\\w.+-]+$"},
                            },
                            required=["name", "content"],
                        ),
                    ]
                },
                "description": "Granted files, or {name, content, type} of texts and bytes.",
            },
            "headers": {"type": "object", "additionalProperties": {"type": "string"}, "description": "More headers."},
        },
        required=["server", "from"],
    ),
    perform=_send_email,
    needs=_needs_of_email,
    is_outside=True,
)

# -- slack -------------------------------------------------------------------------------------------------------

SLACK_URL: Final = "https://slack.com/api"
_PASSING: Final = frozenset({"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable"})


def _send_slack(options: Options, context: NodeContext) -> dict[str, Any]:
    __tracebackhide__ = True
    body = {name: options[name] for name in ("channel", "text", "blocks", "thread_ts") if name in options}
    body |= options.get("payload", {})
    if not body.keys() & {"text", "blocks", "attachments"}:
        raise failure(context, "there is nothing to say: give text, blocks or payload")
    if "webhook_url" in options:
        exchange({"method": "POST", "url": options["webhook_url"], "json": body, "parse": "text"}, context)
        return {"channel": body.get("channel"), "ts": None}
    if "channel" not in body:
        raise failure(context, "a message by token needs channel; the URL of a webhook has one itself")
    request = {
        "method": "POST", "url": f"{options.get('base_url', SLACK_URL).rstrip('/')}/chat.postMessage", "json": body,
        "headers": {"authorization": f"Bearer {options['token']}"}, "parse": "json",
    }  # fmt: skip
    answer = exchange(request, context)["body"]
    if not isinstance(answer, Mapping) or answer.get("ok") is not True:
        error = answer.get("error") if isinstance(answer, Mapping) else describe(answer)
        raise failure(context, f"Slack refuses: {error}", is_retryable=error in _PASSING, output=answer)
    return {"channel": answer.get("channel"), "ts": answer.get("ts")}


def _needs_of_slack(options: Options) -> Iterable[Need]:
    url = options.get("webhook_url", options.get("base_url", SLACK_URL))
    if isinstance(url, str) and OPENING not in url:
        yield Need("http", url)


_URL: Final = {"type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://"}

SLACK: Final = Kind(
    name="slack",
    description="Posts a message to Slack, by a webhook or the token of an app, and gives {channel, ts}.",
    schema=options_schema(
        {
            "text": {"type": "string", "description": "The message."},
            "blocks": {"type": "array", "items": {"type": "object"}, "description": "Its blocks, as Slack takes them."},
            "channel": {**_TEXT, "description": "Of a token: the channel, by its id or name."},
            "thread_ts": {**_TEXT, "description": "The ts of the message that it answers."},
            "payload": {"type": "object", "description": "More fields of the message, as Slack names them."},
            "webhook_url": {**_URL, "description": "The URL of an incoming webhook; take it from secrets."},
            "token": {**_TEXT, "description": "The token of an app; take it from secrets."},
            "base_url": {
                **_URL,
                "default": SLACK_URL,
                "description": "Of a token: another server that speaks as Slack.",
            },
        },
        oneOf=[{"required": ["webhook_url"]}, {"required": ["token"]}],
    ),
    perform=_send_slack,
    needs=_needs_of_slack,
    is_outside=True,
    retry_keys=RETRY_KEYS,
)
