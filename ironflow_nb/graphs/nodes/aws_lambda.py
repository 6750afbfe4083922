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
    __tracebackhide__ = True
    name, payload = options["function"], options.get("payload", {})
    function = context.function(name)
    if function is not None:
        return function(payload)
    context.grants.require(Need("lambda", name))
    if "endpoint_url" in options:
        context.grants.require(Need("http", options["endpoint_url"]))
        _check_endpoint(options["endpoint_url"], context)
    return _answer(*_invoke(options, _encoded(payload, context), context), name, context)


def _check_endpoint(url: str, context: NodeContext) -> None:
    # Errors of boto3 repeat the whole URL.
    if origin_of(url) is None or "@" in url or "?" in url:
        raise failure(context, "endpoint_url is to be an http or https URL without a user and a query")


def _encoded(payload: Any, context: NodeContext) -> bytes:
    try:
        content = write_json(payload).encode()
    except (TypeError, ValueError) as error:
        raise failure(context, f"the payload is no JSON: {error}") from None
    if len(content) > MOST_BYTES:
        raise failure(context, f"the payload has {len(content):,} bytes; AWS takes {MOST_BYTES:,} at most")
    return content


def _invoke(options: Options, payload: bytes, context: NodeContext) -> tuple[Mapping[str, Any], bytes]:
    """Return what AWS answered, and the bytes that the function returned."""
    try:
        import boto3
        from botocore import exceptions as told
        from botocore.config import Config
    except ImportError:
        raise failure(
            context,
            "AWS Lambda needs boto3: pip install 'ironflow-nb[aws]'; or give a function of Python that stands for "
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
        # A session of its own: making clients of the one that boto3 shares is not safe in several threads.
        client = boto3.session.Session().client("lambda", config=config, **where)
        invoked: Mapping[str, Any] = client.invoke(**call)
        return invoked, invoked["Payload"].read()
    except told.ReadTimeoutError:
        message = f"{context.node}: {options['function']} did not answer within {timeout_s:g} s; raise timeout_s"
        late = NodeTimeout(message, node=context.node)
        late.is_retryable = False  # it may have done what it was asked
        raise late from None
    except told.ClientError as error:
        raise failure(context, f"{options['function']}: {error}", is_retryable=_is_passing(error.response)) from None
    except told.BotoCoreError as error:
        is_unsent = isinstance(error, told.EndpointConnectionError | told.ConnectTimeoutError)
        raise failure(context, f"{options['function']}: {error}", is_retryable=is_unsent) from None


def _is_passing(response: Mapping[str, Any]) -> bool:
    """Tell whether AWS refused for a while only: too much was asked of it, or it failed itself."""
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return response.get("Error", {}).get("Code") in _THROTTLED or status == 429 or status >= 500


def _answer(invoked: Mapping[str, Any], content: bytes, name: str, context: NodeContext) -> Any:
    try:
        value = json.loads(content) if content else None
    except (ValueError, RecursionError):
        raise failure(context, f"{name} returned {len(content):,} bytes that are no JSON") from None
    if invoked.get("FunctionError"):
        raise _failed(value, name, context)
    return value


def _failed(value: Any, name: str, context: NodeContext) -> NodeFailed:
    said = value if isinstance(value, Mapping) else {}
    kind = said.get("errorType", "an error")
    what = f"{kind}: {said.get('errorMessage', 'it did not say which')}"
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
