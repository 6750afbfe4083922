"""The closed union of events, and how they are written."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ironflow_nb.core.event_codec import decode_event, encode_event
from ironflow_nb.core.events import EVENT_TYPES, DomainEvent, RunCompleted, StepFailed
from ironflow_nb.core.identity import Digest, ValueId
from ironflow_nb.errors import JournalCorrupt
from tests.core.every_event import KINDS, SAMPLES, any_event
from tests.core.made import run_started, step_started

RELEASED = sorted((Path(__file__).parent.parent / "journals").glob("*.db"))
CLOSED_UNION = [
    "RunStarted", "RunContinued", "RunInterrupted", "RunWaiting", "RunDetached", "RunPaused", "RunCancelRequested",
    "RunCompleted", "RunFailed", "RunCancelled", "StepStarted", "StepCompleted", "StepFailed", "StepRetryScheduled",
    "StepReused", "StepDiscarded", "SignalReceived", "WaitStarted", "WaitEnded", "TimerSet", "TimerFired",
    "TimerCancelled", "OutputInjected", "InjectionUndone", "EffectRequested", "EffectSettled", "SessionEnded",
    "DomainEvent", "ItemsCounted", "StepSkipped", "CompensationStarted",
    "CompensationRegistered", "StepCompensated", "RunQueued", "RunAdmitted",
    "StepQueued", "RunDeleted", "StepRedacted", "RunRedacted", "ChildEdited",
]  # fmt: skip


def test_the_union_of_events_is_closed() -> None:
    assert sorted(CLOSED_UNION) == KINDS
    assert {name: kind.__name__ for name, kind in EVENT_TYPES.items()} == {name: name for name in CLOSED_UNION}
    assert sorted(SAMPLES) == KINDS


@pytest.mark.parametrize("name", KINDS)
@given(data=st.data())
@settings(max_examples=25)
def test_an_event_is_read_as_it_was_written(name: str, data: st.DataObject) -> None:
    event = data.draw(any_event(EVENT_TYPES[name]))
    read = decode_event(*encode_event(event))
    assert type(read) is EVENT_TYPES[name]
    assert read == event


@pytest.mark.parametrize("name", KINDS)
def test_an_event_is_written_as_json_with_sorted_keys_and_without_spaces(name: str) -> None:
    _, text = encode_event(SAMPLES[name])
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def test_what_has_its_default_is_not_written() -> None:
    assert set(json.loads(encode_event(step_started())[1])) == {"name", "index", "identity", "code"}
    assert json.loads(encode_event(run_started(key="k", ordinal=2))[1])["ordinal"] == 2


def test_an_event_can_not_be_changed() -> None:
    with pytest.raises(AttributeError):
        SAMPLES["RunCompleted"].output = "another"  # type: ignore[union-attr, misc]


def test_the_type_of_a_deciders_event_is_its_own() -> None:
    assert encode_event(DomainEvent(type="order.Shipped"))[0] == "order.Shipped"
    assert encode_event(RunCompleted(output=ValueId(b"\0")))[0] == "RunCompleted"


def test_a_deciders_data_is_kept_but_for_the_order_of_its_keys() -> None:
    written = DomainEvent(type="order.Shipped", data=msgspec.Raw(b'{ "b": [1, {"z": 1, "a": null}], "a": "\xc3\xa9" }'))
    assert encode_event(written)[1] == '{"a":"é","b":[1,{"a":null,"z":1}]}'
    read = decode_event(*encode_event(written))
    assert read == DomainEvent(type="order.Shipped", data=msgspec.Raw('{"a":"é","b":[1,{"a":null,"z":1}]}'.encode()))


def test_what_a_later_version_adds_to_an_event_is_passed_over() -> None:
    read = decode_event("StepFailed", '{"duration_s":1.5,"error":"00","mood":"bad"}')
    assert read == StepFailed(error=ValueId(b"\0"), duration_s=1.5)


@pytest.mark.parametrize("name", ["", "Unknown", "runstarted", "Event", "RunChange", "DomainEvent"])
def test_an_unknown_type_is_a_corrupt_journal(name: str) -> None:
    with pytest.raises(JournalCorrupt, match="unknown event type") as caught:
        decode_event(name, "{}")
    assert caught.value.event_type == name  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["StepFailed", "order.Shipped"])
@pytest.mark.parametrize("data", ["", "{", "{}}", "nonsense", '{"error":"\ud800","duration_s":1}'])
def test_data_that_is_no_json_is_a_corrupt_journal(name: str, data: str) -> None:
    with pytest.raises(JournalCorrupt, match="can't be read") as caught:
        decode_event(name, data)
    assert caught.value.event_type == name  # type: ignore[attr-defined]


@pytest.mark.parametrize("data", ["[]", "null", "{}", '{"error":"00"}', '{"error":1,"duration_s":1}'])
def test_data_of_another_shape_is_a_corrupt_journal(data: str) -> None:
    with pytest.raises(JournalCorrupt, match="StepFailed can't be read"):
        decode_event("StepFailed", data)


def test_digests_and_ids_are_bytes_in_an_event_and_hex_in_the_journal() -> None:
    event = step_started(identity=Digest(b"\x01\xab"), code=Digest(b"\x01"), inputs=ValueId(b"\xff"))
    text = '{"code":"01","identity":"01ab","index":0,"inputs":"ff","name":"fetch"}'
    assert encode_event(event) == ("StepStarted", text)
    assert decode_event("StepStarted", text) == event
    assert (event.identity, event.inputs) == (b"\x01\xab", b"\xff")  # what was encoded is as it was


@pytest.mark.parametrize("text", ["xyz", "abc", "é"])
@pytest.mark.parametrize("name", ["definition", "inputs_digest", "inputs"])
def test_what_is_no_digest_and_no_id_of_a_value_is_a_corrupt_journal(name: str, text: str) -> None:
    data = json.loads(encode_event(run_started())[1]) | {name: text}
    with pytest.raises(JournalCorrupt, match="RunStarted can't be read"):
        decode_event("RunStarted", json.dumps(data))


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parent.parent / "journals").glob("*.db")), ids=lambda path: path.stem
)
def test_what_released_versions_wrote_is_written_alike(path: Path) -> None:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        rows = connection.execute("SELECT type, data FROM events").fetchall()
    assert len(rows) > 10
    assert [encode_event(decode_event(name, data)) for name, data in rows] == rows
