"""The kinds ``llm`` and ``embed``: language models behind any server that speaks as the API of OpenAI does.

A request is one of the kind ``http``: with its grants, its time limit, its bounds, and what is retried.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ironflow_nb.errors import NodeFailed
from ironflow_nb.graphs.grants import Need
from ironflow_nb.graphs.host_auth import NODE_AUTH
from ironflow_nb.graphs.kinds import RETRY_KEYS, Kind, NodeContext, Options, failure, options_schema
from ironflow_nb.graphs.language.data import coerce_deep, describe
from ironflow_nb.graphs.language.templates import OPENING
from ironflow_nb.graphs.nodes.http import exchange
from ironflow_nb.handles.schema_validator import schema_validator

BASE_URL: Final = "https://api.openai.com/v1"
TIMEOUT_S: Final = 120.0
_MOST_TEXT: Final = 1_000
_FENCED: Final = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)
"""JSON as many models write it: a block of Markdown."""

_SENT: Final = ("model", "temperature", "max_tokens", "tool_choice", "seed")
"""Options that are sent as they are."""


def _needs(options: Options) -> Iterable[Need]:
    url = options.get("base_url", BASE_URL)
    if isinstance(url, str) and OPENING not in url:
        yield Need("http", url)


def _ask(path: str, body: Mapping[str, Any], options: Options, context: NodeContext) -> Mapping[str, Any]:
    """Return the answer of the server.

    Raises:
        NodeFailed: there is none, or it is an error, whose message is told.
    """
    __tracebackhide__ = True
    request: dict[str, Any] = {
        "method": "POST",
        "url": f"{options.get('base_url', BASE_URL).rstrip('/')}/{path}",
        "json": {**options.get("extra", {}), **body},
        "headers": options.get("headers", {}),
        "parse": "json",
    }
    if "api_key" in options:
        request["headers"] = {"authorization": f"Bearer {options['api_key']}", **request["headers"]}
    if "auth" in options:
        request["auth"] = options["auth"]
    try:
        answer = exchange(request, context, timeout_s=TIMEOUT_S)["body"]
    except NodeFailed as error:
        told = _message_in(getattr(error, "output", None))
        if not told:
            raise
        what = str(error).removeprefix(f"{context.node}: ").partition("; fail_on_status")[0]
        refused = failure(
            context, f"{what}: {told}", is_retryable=error.is_retryable, status_code=error.status_code,
            output=error.output,
        )  # fmt: skip
        refused.retry_after_s = error.retry_after_s
        raise refused from None
    if not isinstance(answer, Mapping):
        raise failure(context, f"the server answered {describe(answer)}, not an object")
    return answer


def _message_in(output: Any) -> str:
    """Return what the server says of an error; empty if it says nothing."""
    body = output.get("body") if isinstance(output, Mapping) else None
    error = body.get("error") if isinstance(body, Mapping) else None
    message = error.get("message") if isinstance(error, Mapping) else error
    return message[:_MOST_TEXT] if isinstance(message, str) else ""


# -- chat --------------------------------------------------------------------------------------------------------


def ask_model(options: Options, context: NodeContext) -> dict[str, Any]:
    """Do what an llm node with these options does, and return its output.

    Raises:
        NodeFailed: there is no answer, or it does not fit its schema.
    """
    __tracebackhide__ = True
    _ = _validator(options, context)  # a fault of the schema is told before anything is asked
    body = {name: options[name] for name in _SENT if name in options}
    body["messages"] = _messages(options, context)
    if "tools" in options:
        body["tools"] = [_tool(each) for each in options["tools"]]
    if "schema" in options:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": options["schema"], "strict": True},
        }
    elif "response_format" in options:
        body["response_format"] = options["response_format"]
    answer = _ask("chat/completions", body, options, context)
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, Sequence) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        raise failure(context, "the answer has no choices[0].message; does the server speak as OpenAI's does?")
    text = _text_of(message)
    result = {
        "text": text,
        "tool_calls": [_tool_call(each, context) for each in message.get("tool_calls") or ()],
        "finish_reason": choice.get("finish_reason"),
        "message": {"role": "assistant", **message},
        "model": answer.get("model", options["model"]),
        "usage": answer.get("usage"),
    }
    if "schema" in options and not result["tool_calls"]:
        result["data"] = _data(text, options, result, context)
    return result


def _validator(options: Options, context: NodeContext, value: object = None) -> Any:
    try:
        return schema_validator(coerce_deep(options.get("schema", True)), value, mask="the value")
    except ValueError as error:
        raise failure(context, str(error)) from None


def _messages(options: Options, context: NodeContext) -> list[Any]:
    given: list[Any] = list(coerce_deep(options.get("messages", [])))
    if "system" in options:
        given.insert(0, {"role": "system", "content": options["system"]})
    if "prompt" in options:
        prompt = options["prompt"]
        given.append({"role": "user", "content": prompt if isinstance(prompt, str) else coerce_deep(prompt)})
    if not any(isinstance(each, Mapping) and each.get("role") != "system" for each in given):
        raise failure(context, "there is nothing to say to the model: give prompt, or messages")
    return given


def _tool(given: Any) -> Any:
    """Return the description of a tool as the API takes it; ``{name, description, parameters}`` is short for it."""
    return given if "type" in given else {"type": "function", "function": given}


def _text_of(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def _tool_call(given: Any, context: NodeContext) -> dict[str, Any]:
    called = given.get("function") if isinstance(given, Mapping) else None
    if not isinstance(called, Mapping) or not isinstance(called.get("name"), str):
        raise failure(context, "a tool call of the answer names no function")
    written = called.get("arguments") or "{}"
    try:
        arguments = json.loads(written) if isinstance(written, str) else written
    except ValueError:
        arguments = None  # a model may write anything; the text is in the message
    return {"id": given.get("id"), "name": called["name"], "arguments": arguments}


def _data(text: str, options: Options, result: Mapping[str, Any], context: NodeContext) -> Any:
    """Return the JSON of an answer that is to fit the schema.

    Raises:
        NodeFailed: it does not; another attempt may get a better one.
    """
    fenced = _FENCED.fullmatch(text)
    try:
        data = json.loads(text if fenced is None else fenced[1])
    except (ValueError, RecursionError):
        message = f"the model answered {len(text):,} characters that are no JSON"
        raise failure(context, message, is_retryable=True, output=result) from None
    errors = [error.message for error in _validator(options, context, data).iter_errors(data)]
    if errors:
        message = f"the answer of the model does not fit the schema: {'; '.join(errors[:5])}"
        raise failure(context, message, is_retryable=True, output=result)
    return data


# -- embeddings --------------------------------------------------------------------------------------------------


def _embed(options: Options, context: NodeContext) -> dict[str, Any]:
    __tracebackhide__ = True
    given = options["input"]
    body: dict[str, Any] = {"model": options["model"], "input": given}
    if "dimensions" in options:
        body["dimensions"] = options["dimensions"]
    answer = _ask("embeddings", body, options, context)
    rows = answer.get("data")
    n_wanted = 1 if isinstance(given, str) else len(given)
    try:
        ordered = sorted(rows or (), key=lambda row: row["index"])
        embeddings = [row["embedding"] for row in ordered]
    except (KeyError, TypeError):
        raise failure(context, "the answer has no data[].embedding; does the server speak as OpenAI's does?") from None
    if len(embeddings) != n_wanted:
        raise failure(context, f"the server gave {len(embeddings)} embeddings for {n_wanted} texts")
    return {"embeddings": embeddings, "model": answer.get("model", options["model"]), "usage": answer.get("usage")}


# -- kinds -------------------------------------------------------------------------------------------------------

_TEXT: Final = {"type": "string", "minLength": 1}

_SERVER: Final[Mapping[str, Any]] = {
    "model": {**_TEXT, "description": "The model, as the server calls it."},
    "base_url": {
        "type": "string",
        "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://",
        "default": BASE_URL,
        "description": "The address of the API, up to its version.",
    },
    "api_key": {**_TEXT, "description": "The key, sent as Authorization: Bearer; take it from secrets."},
    "auth": NODE_AUTH,
    "headers": {
        "type": "object",
        "additionalProperties": {"type": ["string", "number", "boolean"]},
        "description": "More headers.",
    },
    "extra": {"type": "object", "description": "More fields of the request, as the server names them."},
}

LLM: Final = Kind(
    name="llm",
    description="Asks a language model and gives {text, tool_calls, finish_reason, message, model, usage}, and data "
    "if it has a schema.",
    schema=options_schema(
        {
            "prompt": {
                "type": ["string", "array"],
                "description": "What the user says, after the messages: a text, or parts with texts and images.",
            },
            "system": {"type": "string", "description": "What the model is told first."},
            "messages": {
                "type": "array",
                "items": {"type": "object"},
                "description": "The conversation so far: {role, content} of each message.",
            },
            "tools": {
                "type": "array",
                "items": {"type": "object"},
                "description": "Tools that it may call: {name, description, parameters}; tool_calls has its calls, "
                "which you answer by messages with role: tool.",
            },
            "tool_choice": {"type": ["string", "object"], "description": "auto, none, required, or one tool."},
            "schema": {
                "type": "object",
                "description": "The JSON schema of the answer, which becomes data; one that does not fit is a failure "
                "that retry tries again.",
            },
            "response_format": {"type": "object", "description": "The form of the answer, as the server names it."},
            "temperature": {"type": "number", "minimum": 0, "description": "How freely it chooses."},
            "max_tokens": {"type": "integer", "minimum": 1, "description": "How long the answer may be."},
            "seed": {"type": "integer", "description": "The same seed asks for the same answer."},
            **_SERVER,
        },
        required=["model"],
    ),
    perform=ask_model,
    needs=_needs,
    is_outside=True,
    retry_keys=RETRY_KEYS,
)

EMBED: Final = Kind(
    name="embed",
    description="Gives the embeddings of texts: {embeddings, model, usage}, with a vector for each text.",
    schema=options_schema(
        {
            "input": {
                "anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}],
                "description": "A text, or a list of them.",
            },
            "dimensions": {"type": "integer", "minimum": 1, "description": "The length of a vector."},
            **_SERVER,
        },
        required=["model", "input"],
    ),
    perform=_embed,
    needs=_needs,
    is_outside=True,
    retry_keys=RETRY_KEYS,
)
