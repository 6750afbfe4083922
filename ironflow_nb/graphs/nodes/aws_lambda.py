"""The kind ``lambda``: a function of AWS Lambda, or one of Python that stands for it here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ironflow_nb.errors import NodeFailed, NodeTimeout
from ironflow_nb.graphs.grants import Need, origin_of
from ironflow_nb.graphs.kinds import Kind, NodeContext, Options, failure, options_schema
from ironflow_nb.graphs.language.data import write_json
from ironflow_nb.graphs.language.templates import OPENING

TIMEOUT_S: Final = 60.0

MOST_BYTES: Final = 6_000_000
"""The largest payload that AWS takes for a synchronous call."""

_THROTTLED: Final = frozenset({
    "TooManyRequestsException", "ThrottlingException", "ServiceException", "EC2ThrottledException", "RequestTimeout",
})  # fmt: skip

SCHEMA: Final = options_schema(
    {
        "function": {"type": "string", "minLength": 1, "description": "the name or ARN of the function"},
        "payload": {"description": "what the function is given, as JSON; by default an empty object"},
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
    __tracebackhide__ = True
    name, payload = options["function"], options.get("payload", {})
    function = context.function(name)
    if function is not None:
        return function(payload)
    context.grants.require(Need("lambda", name))
    if "endpoint_url" in options:
        context.grants.require(Need("http", options["endpoint_url"]))
        _check_endpoint(options["endpoint_url"], context)
    return _decode_result(*_invoke(options, _encode_payload(payload, context), context), name, context)


def _check_endpoint(url: str, context: NodeContext) -> None:
    # Errors of boto3 repeat the whole URL.
    if origin_of(url) is None or "@" in url or "?" in url:
        raise failure(context, "endpoint_url is to be an http or https URL without a user and a query")


def _encode_payload(payload: Any, context: NodeContext) -> bytes:
    try:
        content = write_json(payload).encode()
    except (TypeError, ValueError) as error:
        raise failure(context, f"the payload is no JSON: {error}") from None
    if len(content) > MOST_BYTES:
        raise failure(context, f"the payload has {len(content):,} bytes; AWS takes {MOST_BYTES:,} at most")
    return content


def _invoke(options: Options, payload: bytes, context: NodeContext) -> tuple[Mapping[str, Any], bytes]:
    """Return the response of AWS, and the bytes that the function returned."""
    try:
        import boto3
        from botocore import exceptions as aws_errors
        from botocore.config import Config
    except ImportError:
        raise failure(
            context,
            "AWS Lambda needs boto3: pip install 'ironflow-nb[aws]'; or give a function of Python that stands for "
            f"{options['function']}: iron.Graph.from_yaml(..., functions={{...}})",
        ) from None
    timeout_s = TIMEOUT_S if context.timeout_s is None else context.timeout_s
    # The node has its own retries; one of boto3 could repeat an effect that must happen once.
    config = Config(read_timeout=timeout_s, connect_timeout=min(timeout_s, 10), retries={"total_max_attempts": 1})
    where = {"region_name": options.get("region"), "endpoint_url": options.get("endpoint_url")}
    call = {"FunctionName": options["function"], "Payload": payload}
    if "qualifier" in options:
        call["Qualifier"] = options["qualifier"]
    try:
        # A session of its own: creating clients from the shared one of boto3 is not thread-safe.
        client = boto3.session.Session().client("lambda", config=config, **where)
        invoked: Mapping[str, Any] = client.invoke(**call)
        return invoked, invoked["Payload"].read()
    except aws_errors.ReadTimeoutError:
        message = f"{context.node}: {options['function']} did not answer within {timeout_s:g} s; raise timeout_s"
        late = NodeTimeout(message, node=context.node)
        late.is_retryable = False  # it may have had its effect
        raise late from None
    except aws_errors.ClientError as error:
        raise failure(context, f"{options['function']}: {error}", is_retryable=_is_transient(error.response)) from None
    except aws_errors.BotoCoreError as error:
        is_unsent = isinstance(error, aws_errors.EndpointConnectionError | aws_errors.ConnectTimeoutError)
        raise failure(context, f"{options['function']}: {error}", is_retryable=is_unsent) from None


def _is_transient(response: Mapping[str, Any]) -> bool:
    """Return True if the refusal may pass: AWS was throttling, or failed itself."""
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return response.get("Error", {}).get("Code") in _THROTTLED or status == 429 or status >= 500


def _decode_result(invoked: Mapping[str, Any], content: bytes, name: str, context: NodeContext) -> Any:
    try:
        value = json.loads(content) if content else None
    except (ValueError, RecursionError):
        raise failure(context, f"{name} returned {len(content):,} bytes that are no JSON") from None
    if invoked.get("FunctionError"):
        raise _function_error(value, name, context)
    return value


def _function_error(value: Any, name: str, context: NodeContext) -> NodeFailed:
    details = value if isinstance(value, Mapping) else {}
    kind = details.get("errorType", "an error")
    what = f"{kind}: {details.get('errorMessage', 'it did not say which')}"
    return failure(context, f"{name} failed with {what}", is_retryable=kind in _THROTTLED, output=value)


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
