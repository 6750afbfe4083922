"""Deciders over HTTP: commands that are checked, decided once, and shown."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.conftest import Service
from tests.server.test_runs_over_http import code
from tests.waits.conftest import until

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

MACHINE = """
from dataclasses import dataclass, replace
import ironflow_nb as iron

@dataclass(frozen=True)
class Order:
    status: str = "new"

@dataclass(frozen=True)
class Place:
    id: str
    total: float

@dataclass(frozen=True)
class Pay:
    id: str

@dataclass(frozen=True)
class Placed:
    total: float

@dataclass(frozen=True)
class Paid:
    pass

@dataclass(frozen=True)
class Charge:
    total: float

order = iron.Decider("order", initial=Order(), terminal={"paid"})

@order.evolve
def evolve(state: Order, event: Placed | Paid) -> Order:
    return replace(state, status="placed" if isinstance(event, Placed) else "paid")

@order.decide
def decide(state: Order, command: Place | Pay):
    match state.status, command:
        case "new", Place(total=total):
            return iron.accept(Placed(total)).effect(Charge(total))
        case "placed", Pay():
            return iron.accept(Paid())
    return iron.reject(f"it is {state.status}")

@order.perform(Charge)
def charge(effect: Charge, context):
    return Pay(context.instance)
"""


def test_a_command_is_decided_and_its_effect_performed(service: Service) -> None:
    (service.folder / "machine.py").write_text(MACHINE)
    service.begin(files=("machine.py",))
    path = "/deciders/order/o-1"

    def send(**body: Any) -> Any:
        return service.client.post(path, json=body)

    assert service.client.get("/deciders").json() == {"deciders": [{"name": "order", "commands": ["Place", "Pay"]}]}
    assert code(service.client.get(path)) == (404, "instance_not_found")
    assert code(service.client.get("/deciders/parcel")) == (404, "decider_not_defined")
    assert code(send(command="Cancel")) == (422, "command_invalid")
    assert code(send(command="Place")) == (422, "command_invalid")
    assert code(send(command="Place", data={"total": "much"})) == (422, "command_invalid")
    assert code(send(command="Place", data={"total": 1, "id": "o-2"})) == (422, "command_invalid")
    assert send(command="Pay").json() == {
        "instance": "o-1", "outcome": "rejected", "reason": "it is new", "is_repeated": False
    }  # fmt: skip
    assert code(send(command="Place", data={"total": 5}, expected_version=7)) == (409, "version_conflict")
    placed = [send(command="Place", data={"total": 5}, key="first").json() for _ in range(2)]
    assert [(each["outcome"], each["is_repeated"]) for each in placed] == [("accepted", False), ("accepted", True)]
    assert code(send(command="Place", data={"total": 6}, key="first")) == (409, "duplicate_key")
    until(lambda: service.client.get(path).json()["state"] == {"status": "paid"})
    assert send(command="Pay").json()["outcome"] == "already_completed"
    assert [each["event"] for each in service.client.get(path).json()["events"]] == ["Placed", "Paid"]
    [shown] = service.client.get("/deciders/order").json()["instances"]
    assert (shown["instance"], shown["is_completed"]) == ("o-1", True)
