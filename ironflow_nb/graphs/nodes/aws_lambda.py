"""The kind ``lambda``: a function of AWS Lambda, or one of Python that stands for it here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ironflow_nb.errors import NodeFailed, NodeTimeout
from ironflow_nb.graphs.grants import Need
from ironflow_nb.graphs.kinds import Kind, NodeContext, Options, options_schema
from ironflow_nb.graphs.nodes.failing import failure
from ironflow_nb.graphs.templates import OPENING

TIMEOUT_S: Final = 60.0

MOST_BYTES: Final = 6_000_000
"""What AWS takes as the payload of a function that is waited for."""

_THROTTLED: Final = frozenset({
    "TooManyRequestsException", "ThrottlingException", "ServiceException", "EC2ThrottledException", "RequestTimeout",
})  # fmt: skip

SCHEMA: Final = options_schema(
    {
        "function": {"type": "string", "minLength": 1, "description": "the name or ARN of the function"},
        "payload": {"description": "what the function is given, as JSON; an empty object unless said"},
        "qualifier": {"type": "string", "minLength": 1, "description": "a version or an alias of the function"},
        "region": {"type": "string", "minLength": 1, "description": "the region; by default that of the environment"},
        "endpoint_url": {"type": "string", "minLength": 1, "description": "another server that speaks for AWS"},
    },
    required=["function"],
)


def _needs(options: Options) -> Iterable[Need]:
    # Whether the function is one of Python, which needs no grant, is only known when the graph runs.
    endpoint = options.get("endpoint_url")
    if isinstance(endpoint, str) and OPENING not in endpoint:
        yield Need("http", endpoint)


def _perform(options: Options, context: NodeContext) -> Any:
    name, payload = options["function"], options.get("payload", {})
    function = context.function(name)
    if function is not None:
        return function(payload)
    context.grants.require(Need("lambda", name))
    if "endpoint_url" in options:
        context.grants.require(Need("http", options["endpoint_url"]))
    return _answer(_invoke(options, _encoded(payload, context), context), name, context)


def _encoded(payload: Any, context: NodeContext) -> bytes:
    try:
        content = json.dumps(payload, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise failure(context, f"the payload is no JSON: {error}") from None
    if len(content) > MOST_BYTES:
        raise failure(context, f"the payload has {len(content):,} bytes; AWS takes {MOST_BYTES:,} at most")
    return content


def _invoke(options: Options, payload: bytes, context: NodeContext) -> Mapping[str, Any]:
    try:
        import boto3  # noqa: PLC0415 -- few use it, and it is an extra
        from botocore.config import Config  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError  # noqa: PLC0415
    except ImportError:
        raise failure(
            context,
            f"AWS Lambda needs boto3: pip install 'ironflow-nb[aws]'; or let a function of Python stand for "
            f"{options['function']}: iron.Graph.from_yaml(..., functions={{...}})",
        ) from None
    timeout_s = TIMEOUT_S if context.timeout_s is None else context.timeout_s
    # How often it is tried says the node; another try of boto3 could do twice what must be done once.
    config = Config(read_timeout=timeout_s, connect_timeout=min(timeout_s, 10), retries={"total_max_attempts": 1})
    where = {"region_name": options.get("region"), "endpoint_url": options.get("endpoint_url")}
    call = {"FunctionName": options["function"], "Payload": payload}
    if "qualifier" in options:
        call["Qualifier"] = options["qualifier"]
    try:
        client = boto3.client("lambda", config=config, **where)
        invoked: Mapping[str, Any] = client.invoke(**call)
    except ReadTimeoutError:
        message = f"{context.node}: {options['function']} did not answer within {timeout_s:g} s; raise timeout_s"
        late = NodeTimeout(message, node=context.node)
        late.is_retryable = False  # it may have done what it was asked
        raise late from None
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        raise failure(context, f"{options['function']}: {error}", is_retryable=code in _THROTTLED) from None
    except BotoCoreError as error:
        raise failure(context, f"{options['function']}: {error}") from None
    return invoked


def _answer(invoked: Mapping[str, Any], name: str, context: NodeContext) -> Any:
    content = invoked["Payload"].read()
    try:
        value = json.loads(content) if content else None
    except ValueError:
        raise failure(context, f"{name} returned {len(content):,} bytes that are no JSON") from None
    if invoked.get("FunctionError"):
        raise _failed(value, name, context)
    return value


def _failed(value: Any, name: str, context: NodeContext) -> NodeFailed:
    said = value if isinstance(value, Mapping) else {}
    what = f"{said.get('errorType', 'an error')}: {said.get('errorMessage', 'it did not say which')}"
    return failure(context, f"{name} failed with {what}", output=value)


LAMBDA: Final = Kind(
    name="lambda",
    description="Calls a function of AWS Lambda and gives what it returns; a function of Python that is given to the "
    "graph under the same name stands for it.",
    schema=SCHEMA,
    perform=_perform,
    shorthand="function",
    needs=_needs,
    is_outside=True,
)
