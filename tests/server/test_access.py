"""Who may ask: keys, roles and policies of a real server, and what the audit has of it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

import ironflow_nb as iron
from tests.server.conftest import Service
from tests.server.test_runs_over_http import code
from tests.waits.conftest import until

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from ironflow_nb.access.permissions import Permission, Role
from ironflow_nb.server.application import ROUTES
from ironflow_nb.server.http_calls import HttpRoute

NAMES = count()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service on all addresses, which so needs keys; its client has the one that it made."""
    service = Service(tmp_path_factory.mktemp("guarded"))
    service.begin("--host", "0.0.0.0", "--env", "test")
    service.client.headers["Authorization"] = f"Bearer {shown_key(service)}"
    yield service
    service.close()


def shown_key(service: Service) -> str:
    found = re.search(r"\bifk_\w+", service.printed())
    assert found is not None, service.printed()
    return found[0]


def a_key(service: Service, role: str, **options: Any) -> tuple[str, dict[str, str]]:
    name = f"{role}-{next(NAMES)}"
    return name, service.key(name, role, **options)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def audited(service: Service, who: str) -> list[dict[str, Any]]:
    with iron.open(service.folder / ".ironflow" / "journal.db", read_only=True) as engine:
        found: list[dict[str, Any]] = iron.audit(who, engine=engine).to_dict("records")
    return found


@pytest.mark.slow
def test_the_first_server_for_others_makes_the_key_of_an_admin_and_shows_it_once(service: Service) -> None:
    service.begin("--host", "0.0.0.0")
    key = shown_key(service)
    assert "certificate" in service.said()
    assert service.client.get("/health").status_code == 200
    for given in ({}, {"Authorization": f"Bearer {key}x"}, {"Authorization": "Bearer"}, {"X-API-Key": key[:-1]},
                  {"Authorization": f"Basic {key}"}, {"Authorization": b"Bearer \xe9"}):  # fmt: skip
        assert code(service.client.get("/runs", headers=given)) == (401, "unauthorized")
        assert code(service.client.get("/nothing", headers=given)) == (401, "unauthorized")
    for given in ({"Authorization": f"Bearer {key}"}, {"Authorization": f"bearer {key}"}, {"X-API-Key": key}):
        assert service.client.get("/runs", headers=given).status_code == 200
    service.end()
    service.begin("--host", "0.0.0.0")
    assert service.printed() == ""
    assert service.client.get("/runs", headers={"X-API-Key": key}).status_code == 200
    secret = key.rpartition("_")[2].encode()
    files = [path for path in service.folder.rglob("*") if path.is_file() and path.name != "server 0.out"]
    assert [path for path in files if secret in path.read_bytes()] == []


def requested(service: Service, route: HttpRoute, headers: dict[str, str]) -> httpx.Response:
    path = re.sub(r"{\w+}", "nothing", route.path)
    body = {} if route.method == "GET" else {"json": {}}
    return service.client.request(route.method, path, headers=headers, **body)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_no_route_answers_without_a_key_that_allows_it(
    guarded: Service, route: HttpRoute, keys: dict[str, dict[str, str]]
) -> None:
    without = code_of(requested(guarded, route, {"Authorization": ""}))
    if route.action in {Permission.OPEN, Permission.SIGNED}:
        assert without not in {401, 403}
        return
    assert without == 401
    is_read = route.action.value.endswith(":read")
    assert is_read or route.method != "GET"
    of_role = {role: code_of(requested(guarded, route, headers)) for role, headers in keys.items()}
    assert (of_role["viewer"] == 403) is (not is_read)
    assert (of_role["worker"] == 403) is (route.action is not Permission.RUN_WORK)
    assert (of_role["developer"] == 403) is (route.action in {Permission.RUN_DELETE, Permission.RUN_WORK})
    assert of_role["admin"] not in {401, 403}


def code_of(response: httpx.Response) -> int:
    return response.status_code


@pytest.fixture(scope="module")
def keys(guarded: Service) -> dict[str, dict[str, str]]:
    return {role.value: a_key(guarded, role)[1] for role in Role}


def test_a_policy_about_a_flow_holds_for_its_runs_wherever_they_are_shown(guarded: Service) -> None:
    name, headers = a_key(guarded, "developer")
    guarded.command("keys", "deny", name, "*", "run:*squares/*")
    guarded.command("keys", "deny", name, "flow:start", "flow:*squares")
    hidden = guarded.start("squares", input={"n": 1}, wait=True, status=200)["run_id"]
    shown = guarded.start("bad", wait=True, status=200)["run_id"]
    listed = guarded.client.get("/runs", headers=headers).json()["runs"]
    assert shown in {run["run_id"] for run in listed}
    assert hidden not in {run["run_id"] for run in listed}
    for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/resume")):
        assert code(guarded.client.request(method, f"/runs/{hidden[:8]}{path}", headers=headers)) == (403, "forbidden")
    assert guarded.client.get(f"/runs/{shown}", headers=headers).status_code == 200
    for flow in ("squares", "job.squares", "__main__.squares"):
        asked = guarded.client.post("/runs", json={"flow": flow, "input": {"n": 1}}, headers=headers)
        assert asked.status_code in {403, 404}
    assert code(guarded.client.get("/runs/zzzz", headers=headers)) == (404, "run_not_found")
    denied = [row for row in audited(guarded, name) if not row["is_allowed"]]
    assert {row["action"] for row in denied} >= {"run:read", "run:steer", "flow:start"}
    assert all("deny" in str(row["reason"]) for row in denied)


def test_a_policy_can_be_taken_away(guarded: Service) -> None:
    name, headers = a_key(guarded, "viewer")
    guarded.command("keys", "allow", name, "event:emit", "event:order.*")
    body = {"name": "order.placed", "data": {"n": 1}}
    assert guarded.client.post("/events", json=body, headers=headers).status_code == 202
    other = guarded.client.post("/events", json=body | {"name": "other"}, headers=headers)
    assert code(other) == (403, "forbidden")
    assert "irn:ironflow:default:default:event:test:other" in other.json()["error"]["message"]
    [policy] = [each for each in json.loads(guarded.command("keys", "policies", "--json")) if each["subject"] == name]
    guarded.command("keys", "drop-policy", str(policy["policy_id"]))
    assert code(guarded.client.post("/events", json=body, headers=headers)) == (403, "forbidden")


def test_a_key_of_another_environment_opens_nothing(guarded: Service) -> None:
    _, headers = a_key(guarded, "admin", env="live")
    assert code(guarded.client.get("/flows", headers=headers)) == (403, "forbidden")
    assert guarded.client.get("/runs", headers=headers).json()["runs"] == []
    _, headers = a_key(guarded, "admin", env="te*", project="default")
    assert guarded.client.get("/flows", headers=headers).status_code == 200


def test_a_revoked_key_opens_nothing_and_a_rotated_one_for_its_grace_only(guarded: Service) -> None:
    name, first = a_key(guarded, "viewer")
    second = json.loads(guarded.command("keys", "rotate", name, "--grace", "1h", "--json"))["key"]
    third = json.loads(guarded.command("keys", "rotate", name, "--json"))["key"]
    opened = [
        guarded.client.get("/flows", headers=headers).status_code for headers in (first, bearer(second), bearer(third))
    ]
    assert opened == [200, 401, 200]
    guarded.command("keys", "revoke", name)
    for headers in (first, bearer(third)):
        assert code(guarded.client.get("/flows", headers=headers)) == (401, "unauthorized")
    listed = [row for row in json.loads(guarded.command("keys", "list", "--json")) if row["name"] == name]
    assert sorted(row["status"] for row in listed) == ["expired", "revoked", "revoked"]
    assert not any("digest" in row for row in listed)


def test_an_expired_key_opens_nothing(guarded: Service) -> None:
    _, headers = a_key(guarded, "viewer", expires="0s")
    assert code(guarded.client.get("/flows", headers=headers)) == (401, "unauthorized")


def test_what_is_asked_for_is_recorded_under_the_name_of_the_key(guarded: Service) -> None:
    name, headers = a_key(guarded, "developer")
    begun = guarded.start("asks", input={"question": "Go?"})["run_id"]
    until(lambda: any(row["run_id"] == begun for row in guarded.client.get("/waiting").json()["waiting"]))
    answered = guarded.client.post(f"/waiting/{begun}/answer", json={"value": True}, headers=headers)
    assert answered.status_code == 202
    guarded.until_status(begun, "completed")
    waits = guarded.start("waits")["run_id"]
    guarded.until_status(waits, "waiting")
    assert guarded.client.post(f"/runs/{waits}/signals/go", json={"payload": 1}, headers=headers).status_code == 202
    guarded.until_status(waits, "completed")
    gone = guarded.start("waits")["run_id"]
    guarded.until_status(gone, "waiting")
    assert guarded.client.post(f"/runs/{gone}/pause", headers=headers).status_code == 202
    guarded.until_status(gone, "paused")
    edited = guarded.client.post(
        f"/runs/{gone}/inject", json={"step": "work", "value": 7, "reason": "known"}, headers=headers
    )
    assert edited.status_code == 202
    with iron.open(guarded.folder / ".ironflow" / "journal.db", read_only=True) as engine:
        events = iron.events(limit=None, engine=engine)
    by = {
        (row["run_id"], row["type"]): data.get("sent_by") or data.get("asked_by") or data.get("edited_by")
        for row in events.to_dict("records")
        if (data := row["data"])
    }
    assert by[begun, "SignalReceived"] == name
    assert by[gone, "RunPaused"] == by[gone, "OutputInjected"] == name
    actions = [row["action"] for row in audited(guarded, name)]
    assert actions == ["run:edit", "run:steer", "run:signal", "run:answer"]
    assert all(row["is_allowed"] for row in audited(guarded, name))


def test_a_key_may_be_required_on_this_machine_too(service: Service) -> None:
    service.begin("--require-key")
    assert code(service.client.get("/runs")) == (401, "unauthorized")
    assert service.client.get("/runs", headers={"X-API-Key": shown_key(service)}).status_code == 200


def test_on_this_machine_no_key_is_needed_and_a_wrong_one_refused(served: Service) -> None:
    assert served.client.get("/runs").status_code == 200
    assert code(served.client.get("/runs", headers={"Authorization": "Bearer x"})) == (401, "unauthorized")
    _, headers = a_key(served, "viewer")
    refused = served.client.post("/runs", json={"flow": "bad"}, headers=headers)
    assert code(refused) == (403, "forbidden")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("create", "a b"), "letters, digits"),
        (("create", "viewer"), "all keys of that role"),
        (("create", "ann", "--expires", "soon"), "soon"),
        (("rotate", "nobody"), "no valid key"),
        (("revoke", "nobody"), "no valid key"),
        (("allow", "nobody", "run:read", "*"), "no key and no role"),
        (("allow", "viewer", "run:fly", "*"), "no action"),
        (("deny", "viewer", "run:read", "run"), "no pattern"),
        (("drop-policy", "99"), "no policy 99"),
    ],
)
def test_a_wrong_use_of_keys_is_told(guarded: Service, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        guarded.command("keys", *words)


@pytest.mark.slow
def test_a_certificate_makes_it_speak_tls(service: Service, tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    try:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-subj", "/CN=localhost", "-out", certificate, "-keyout", key],
            check=True, capture_output=True,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("there is no openssl")
    service.begin("--host", "0.0.0.0", "--certificate", str(certificate), "--certificate-key", str(key))
    assert service.client.base_url.scheme == "https"
    assert "unencrypted" not in service.said()
    assert service.client.get("/runs", headers={"X-API-Key": shown_key(service)}).status_code == 200
