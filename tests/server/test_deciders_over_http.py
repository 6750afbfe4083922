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


PARCELS = """
from dataclasses import dataclass
from pathlib import Path
import ironflow_nb as iron

@dataclass(frozen=True)
class Post:
    id: str

@dataclass(frozen=True)
class Posted:
    pass

@dataclass(frozen=True)
class Label:
    pass

parcel = iron.Decider("parcel", initial=0)

@parcel.evolve
def evolve(state: int, event: Posted) -> int:
    return state + 1

@parcel.decide
def decide(state: int, command: Post):
    return iron.accept(Posted()).effect(Label())

@parcel.perform(Label, attempts=1)
def label(effect: Label):
    if not Path("paper").exists():
        raise OSError("no paper")
    Path("labels.txt").open("a").write("label\\n")

@iron.projection("posted", initial={}, of=parcel)
def posted(state, event):
    return {**state, event.instance: state.get(event.instance, 0) + 1}

@iron.projection("broken", initial=[], of=parcel)
def broken(state, event):
    raise ValueError("no fold")
"""


def test_what_has_failed_for_good_is_listed_and_tried_again_and_projections_are_read(service: Service) -> None:
    (service.folder / "parcels.py").write_text(PARCELS)
    service.begin(files=("parcels.py",))
    get, post = service.client.get, service.client.post
    for instance in ("p-1", "p-2"):
        assert post(f"/deciders/parcel/{instance}", json={"command": "Post"}).json()["outcome"] == "accepted"
    assert get("/projections/posted").json()["state"] == {"p-1": 1, "p-2": 1}
    broken = get("/projections/broken").json()
    assert (broken["state"], "no fold" in broken["error"]) == ([], True)
    assert {row["name"]: row["status"] for row in get("/projections").json()["projections"]} == {
        "posted": "current", "broken": "failed"
    }  # fmt: skip
    assert code(get("/projections/other")) == (404, "projection_not_defined")

    def dead(**query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = get("/dead-letters", params=query).json()["dead_letters"]
        return found

    until(lambda: {row["instance"] for row in dead()} == {"p-1", "p-2"})
    [row] = dead(decider="parcel", instance="p-1")
    assert (row["decider"], row["kind"], row["name"], row["attempts"]) == ("parcel", "effect", "Label", 1)
    assert "no paper" in row["error"]
    assert len(dead(limit=1)) == 1
    assert code(get("/dead-letters", params={"decider": "order"})) == (404, "decider_not_defined")
    assert code(post("/dead-letters/requeue", json={"decider": "order"})) == (404, "decider_not_defined")
    (service.folder / "paper").touch()
    assert post("/dead-letters/requeue", json={"decider": "parcel", "key": row["key"]}).json() == {"requeued": 1}
    assert post("/dead-letters/requeue", json={"decider": "parcel"}).json() == {"requeued": 1}
    labels = service.folder / "labels.txt"
    until(lambda: labels.exists() and labels.read_text() == "label\n" * 2)
    assert dead() == []
