"""Webhooks: signed requests become events or runs, each once, over HTTP and in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow
from ironflow_nb.errors import DefinitionError, InputInvalid, SignatureInvalid
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.testing.clock import SimClock
from ironflow_nb.triggers.webhook_signatures import SCHEMES, verified_id
from tests.server.conftest import HOOKS, Service
from tests.waits.conftest import until

SECRET, OTHER = "a secret of the sender", "the secret before that"
GITHUB = "It's a Secret to Everybody", b"Hello, World!"


@pytest.fixture(autouse=True)
def _engine(tmp_path: Path) -> Any:
    with iron.open(tmp_path / "journal.db", clock=SimClock()):
        yield
    REGISTRY.registered["webhook"].clear()


def test_the_signature_is_that_of_known_senders() -> None:
    secret, body = GITHUB
    found = SCHEMES["github"].headers(secret, body, "", "")
    assert found == {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}
    found = SCHEMES["ironflow"].headers(secret, body, "1492774577", "")
    assert found["x-ironflow-signature"].startswith("t=1492774577,v1=")
    found = SCHEMES["standard"].headers("whsec_" + "c2VjcmV0" * 4, body, "1", "msg_1")
    assert (found["webhook-id"], found["webhook-timestamp"], found["webhook-signature"][:3]) == ("msg_1", "1", "v1,")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_request_is_an_event_once(scheme: str) -> None:
    hook = iron.webhook("orders", secret=SECRET, emit="order", scheme=scheme)
    headers = hook.sign({"n": 1})
    ids = {hook.deliver({"n": 1}, {name.upper(): value for name, value in headers.items()}) for _ in range(3)}
    assert len(ids) == 1
    assert ids != {hook.deliver({"n": 2})}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_not_signed_with_the_secret_is_refused(scheme: str) -> None:
    hook = iron.webhook("orders", secret=SECRET, emit="order", scheme=scheme)
    header = SCHEMES[scheme].header
    right = hook.sign({"n": 1})
    stranger = iron.webhook("others", secret=OTHER, emit="order", scheme=scheme).sign({"n": 1})
    for headers in (
        {},
        stranger,
        right | {header: ""},
        right | {header: right[header][:-1]},
        right | {header: "t=x,v1=é"},
    ):
        with pytest.raises(SignatureInvalid):
            hook.deliver({"n": 1}, headers)
    with pytest.raises(SignatureInvalid):
        hook.deliver({"n": 2}, right)
    if SCHEMES[scheme].has_time:
        iron.engine().clock.advance(301)
        with pytest.raises(SignatureInvalid, match="301 s ago"):
            hook.deliver({"n": 1}, right)


def test_two_secrets_are_right_while_a_sender_changes_them() -> None:
    old = iron.webhook("orders", secret=OTHER, emit="order")
    both = iron.webhook("orders", secret=[SECRET, OTHER], emit="order")
    assert both.deliver(b"1", old.sign(b"1")) == both.deliver(b"1", old.sign(b"1"))
    assert both.deliver(b"2")
    content = SCHEMES["stripe"].content(b"{}", "7", "")
    signatures = [SCHEMES["stripe"].signature(secret, content) for secret in (OTHER, SECRET)]
    headers = {"stripe-signature": f"t=7,v1={signatures[0]},v1={signatures[1]},v0=abc"}
    assert verified_id(SCHEMES["stripe"], [SECRET], b"{}", headers, 8.0, 300.0)


def test_a_request_is_a_run_of_what_is_found_in_it() -> None:
    made = flow(lambda order, sender: (order["n"], sender), name="made_by_order")
    hook = iron.webhook(
        "orders", secret=SECRET, flow=made, when="body.kind == 'placed'", key="body.id",
        data='{order: body.order, sender: headers."x-sender"}',
    )  # fmt: skip
    body = {"kind": "placed", "id": 7, "order": {"n": 3}}
    run = hook.deliver(body, hook.sign(body) | {"X-Sender": "shop"})
    assert isinstance(run, iron.Run)
    assert run.result() == (3, "shop")
    iron.engine().clock.advance(10)  # a sender that tries again signs again
    again = hook.deliver(body, hook.sign(body) | {"X-Sender": "shop"})
    assert isinstance(again, iron.Run)
    assert again.id == run.id
    assert hook.deliver(body | {"kind": "paid"}) is None


@pytest.mark.parametrize("payload", [b"{", b"\xff", "[" * 100_000, "[]", {"kind": 1}])
def test_what_does_not_fit_is_told(payload: Any) -> None:
    made = flow(lambda n: n, name="made_by_order")
    hook = iron.webhook("orders", secret=SECRET, flow=made)
    with pytest.raises(InputInvalid, match="webhook orders"):
        hook.deliver(payload)
    with pytest.raises(InputInvalid, match="identifies nothing"):
        iron.webhook("keyed", secret=SECRET, emit="order", key="body.id").deliver({})


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"secret": "short", "emit": "a"}, ValueError),
        ({"secret": [], "emit": "a"}, ValueError),
        ({"secret": [SECRET] * 3, "emit": "a"}, ValueError),
        ({"secret": SECRET}, DefinitionError),
        ({"secret": SECRET, "flow": len}, DefinitionError),
        ({"secret": SECRET, "emit": "a", "scheme": "fax"}, ValueError),
        ({"secret": SECRET, "emit": "a", "data": "body."}, ValueError),
        ({"secret": SECRET, "emit": ""}, ValueError),
    ],
)
def test_an_option_that_is_wrong_is_refused(options: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        iron.webhook("orders", **options)


def test_a_secret_is_never_shown() -> None:
    hook = iron.webhook("orders", secret=SECRET, emit="order")
    assert repr(hook) == "<webhook orders: event order>"


def test_the_server_takes_signed_requests(service: Service) -> None:
    pytest.importorskip("starlette")
    (service.folder / "hooks.py").write_text(HOOKS)
    service.begin(files=("hooks.py",), IRONFLOW_TOKEN="0123456789abcdef", SENDER=SECRET)
    hook = iron.webhook("orders", secret=SECRET, emit="order.placed")

    def post(body: bytes, headers: Any, name: str = "orders") -> Any:
        return service.client.post(f"/webhooks/{name}", content=body, headers=headers)

    body = json.dumps({"n": 3}).encode()
    with iron.open(":memory:"):  # with the clock of the machine
        headers = hook.sign(body)
        assert [post(body, headers).status_code for _ in range(3)] == [202] * 3
        assert (post(body, {}).status_code, post(body[1:], headers).status_code) == (401, 401)
        assert (post(b"{", hook.sign(b"{")).status_code, post(body, headers, "others").status_code) == (422, 404)
        assert post(b"1" * 2_000_000, headers).status_code == 413
        runs = [post(body, hook.sign(body), "runs").json()["run_id"] for _ in range(1)]
    token = {"Authorization": "Bearer 0123456789abcdef"}

    def found(name: str) -> list[str]:
        rows = service.client.get("/runs", params={"flow": name}, headers=token).json()["runs"]
        return [each["status"] for each in rows]

    until(lambda: found("ordered") == ["completed"])
    until(lambda: found("plain") == ["completed"])
    assert len(runs) == 1
    assert SECRET not in service.said()
