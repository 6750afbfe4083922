"""Nodes of the kind lambda: functions of Python in their place, and a server that speaks as AWS does."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.graphs.nodes.aws_lambda import LAMBDA
from tests.conftest import IN_CI, Lab
from tests.graphs.asking import perform
from tests.graphs.servers import Handler, Server, serving, talking

PATH = "/2015-03-31/functions/shipper/invocations"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    if not IN_CI:
        pytest.importorskip("boto3", reason="the way to AWS needs boto3: pip install 'ironflow-nb[aws]'")
    for name, value in {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_DEFAULT_REGION": "x-1"}.items():
        monkeypatch.setenv(name, value)
    with serving() as server:
        yield server


def invoke(server: Server, *, timeout_s: float | None = 20.0, **options: Any) -> Any:
    given = {"function": "shipper", "payload": {"order": 7}, "endpoint_url": server.url(""), **options}
    return perform(LAMBDA, given, allow={"lambda": ["shipper"], "http": [server.host]}, timeout_s=timeout_s)


def returning(value: Any, status: int = 200, **headers: str) -> Any:
    def answer(handler: Handler) -> None:
        handler.reply(
            status, json.dumps(value).encode(), {name.replace("_", "-"): each for name, each in headers.items()}
        )

    return answer


def test_a_function_of_python_stands_for_one_of_aws() -> None:
    functions = {"shipper": lambda payload: {"shipped": payload["order"]}}
    assert perform(LAMBDA, {"function": "shipper", "payload": {"order": 7}}, allow={}, functions=functions) == {
        "shipped": 7
    }
    assert perform(LAMBDA, {"function": "echo"}, allow={}, functions={"echo": lambda payload: payload}) == {}


def test_a_function_of_python_needs_no_grant_in_a_graph(lab: Lab) -> None:
    text = """
graph: ships
nodes:
  - {id: made, transform: {order: 7}}
  - {id: ship, lambda: {function: shipper, payload: {order: "{{ made.order }}"}}}
"""
    graph = iron.Graph.from_yaml(text, functions={"shipper": lambda payload: payload["order"] + 1})
    assert graph() == 8


def test_aws_is_asked_with_the_payload_as_json(aws: Server) -> None:
    aws.answers(PATH, returning({"shipped": True}))
    assert invoke(aws) == {"shipped": True}
    (seen,) = aws.seen
    assert (seen.method, json.loads(seen.body)) == ("POST", {"order": 7})


def test_an_error_of_the_function_is_one_of_the_node_and_not_tried_again(aws: Server) -> None:
    told = {"errorType": "OutOfStock", "errorMessage": "no more of it"}
    aws.answers(PATH, returning(told, x_amz_function_error="Unhandled"))
    with pytest.raises(iron.NodeFailed, match="OutOfStock: no more of it") as caught:
        invoke(aws)
    assert not caught.value.is_retryable
    assert caught.value.output == told  # type: ignore[attr-defined]


def test_who_is_throttled_may_try_again(aws: Server) -> None:
    aws.answers(
        PATH, returning({"Type": "User", "message": "slow down"}, 429, x_amzn_errortype="TooManyRequestsException")
    )
    with pytest.raises(iron.NodeFailed, match="TooManyRequests") as caught:
        invoke(aws)
    assert caught.value.is_retryable
    assert len(aws.seen) == 1  # boto3 itself has not tried again


def test_a_function_that_there_is_none_of_is_told(aws: Server) -> None:
    aws.answers(PATH, returning({"Message": "no such function"}, 404, x_amzn_errortype="ResourceNotFoundException"))
    with pytest.raises(iron.NodeFailed, match="ResourceNotFound") as caught:
        invoke(aws)
    assert not caught.value.is_retryable


def test_what_is_no_json_is_no_result(aws: Server) -> None:
    aws.answers(PATH, lambda handler: handler.reply(200, b"not json"))
    with pytest.raises(iron.NodeFailed, match="8 bytes that are no JSON"):
        invoke(aws)


def test_a_function_that_takes_too_long_is_not_waited_for(aws: Server) -> None:
    import threading

    release = threading.Event()
    aws.answers(PATH, lambda handler: (release.wait(20), handler.reply(200, b"1"))[0] and None)
    with pytest.raises(iron.errors.NodeTimeout, match=r"within 0\.3 s"):
        invoke(aws, timeout_s=0.3)
    release.set()


def test_only_granted_functions_and_servers_are_asked(aws: Server) -> None:
    with pytest.raises(iron.errors.NotGranted, match="lambda 'shipper' is not granted"):
        perform(LAMBDA, {"function": "shipper"}, allow={"lambda": ["other"]})
    with pytest.raises(iron.errors.NotGranted, match="http"):
        perform(LAMBDA, {"function": "shipper", "endpoint_url": aws.url("")}, allow={"lambda": True})
    assert not aws.seen


@pytest.mark.parametrize(("payload", "said"), [(float("nan"), "no JSON"), ("x" * 7_000_000, "6,000,000 at most")])
def test_a_payload_that_aws_would_not_take_is_refused(aws: Server, payload: Any, said: str) -> None:
    with pytest.raises(iron.NodeFailed, match=said):
        invoke(aws, payload=payload)
    assert not aws.seen


def test_a_function_that_fails_because_it_is_throttled_may_be_tried_again(aws: Server) -> None:
    told = {"errorType": "TooManyRequestsException", "errorMessage": "Rate exceeded"}
    aws.answers(PATH, returning(told, x_amz_function_error="Unhandled"))
    with pytest.raises(iron.NodeFailed, match="Rate exceeded") as caught:
        invoke(aws)
    assert caught.value.is_retryable


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_failure_of_aws_itself_may_pass(aws: Server, status: int) -> None:
    aws.answers(PATH, returning({"message": "later"}, status))
    with pytest.raises(iron.NodeFailed) as caught:
        invoke(aws)
    assert caught.value.is_retryable


def test_an_answer_that_breaks_off_is_a_failure_that_may_have_done_its_work(aws: Server) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(10_000)
        connection.sendall(b'HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"half":')

    with talking(talk) as host:
        given = {"function": "shipper", "endpoint_url": f"http://{host}"}
        with pytest.raises(iron.NodeFailed, match="shipper") as caught:
            perform(LAMBDA, given)
    assert not caught.value.is_retryable


def test_where_nobody_listens_nothing_was_done_and_another_try_may_help(aws: Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        given = {"function": "shipper", "endpoint_url": f"http://127.0.0.1:{unused.getsockname()[1]}"}
        with pytest.raises(iron.NodeFailed, match="Could not connect") as caught:
            perform(LAMBDA, given)
    assert caught.value.is_retryable


@pytest.mark.parametrize("endpoint", ["http://me:hunter2@127.0.0.1:1", "http://127.0.0.1:1/?key=hunter2", "hunter2"])
def test_an_endpoint_with_a_credential_in_it_is_refused_without_showing_it(aws: Server, endpoint: str) -> None:
    with pytest.raises(iron.NodeFailed, match="without a user and a query") as caught:
        perform(LAMBDA, {"function": "shipper", "endpoint_url": endpoint})
    assert "hunter2" not in str(caught.value)


def test_without_credentials_aws_is_not_asked(aws: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "none")
    monkeypatch.setenv("AWS_CONFIG_FILE", "none")
    with pytest.raises(iron.NodeFailed, match="credentials") as caught:
        invoke(aws)
    assert not caught.value.is_retryable
    assert not aws.seen


@pytest.mark.slow
def test_functions_are_called_from_many_threads_at_once(aws: Server) -> None:
    aws.answers(PATH, returning({"shipped": True}))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: invoke(aws), range(16))) == [{"shipped": True}] * 16
