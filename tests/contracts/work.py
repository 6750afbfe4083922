"""What every journal has to keep of work, observations and states, and how it exchanges them for what follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from ironflow_nb.core.events import RunInterrupted
from ironflow_nb.core.identity import RunId
from ironflow_nb.core.wait_rules import NEVER
from ironflow_nb.deciders.store import Observation, StoredState, deciders_of
from ironflow_nb.errors import JournalConflict
from ironflow_nb.journal.ports import Durability, Journal, QueueItem, QueueSelect, Reader, RunCommit, Select, Signal
from tests.contracts.histories import A, Author, B, C, answers, digest, lease, one_run, value

FAST = Durability.PROCESS
ALIVE = ["me"]


def effect(run: RunId, key: str, *, due_at: int = 10, kind: str = "effect", **given: Any) -> QueueItem:
    return QueueItem(run_id=run, kind=kind, key=key, due_at=due_at, created_at=1, **given)


def queued(*works: QueueItem) -> list[RunCommit]:
    return [RunCommit(run_id=work.run_id, events=(), put_work=(work,)) for work in works]


def observation(instance: str = "o-1", **given: Any) -> Observation:
    usual: dict[str, Any] = {
        "name": "order", "instance": instance, "run_id": A, "at": 5, "command": "Place", "data": '{"id":"o-1"}',
        "digest": digest(1), "command_key": None, "source": "user", "execution": "cell 1", "outcome": "accepted",
        "reason": None, "n_events": 1, "version": 2, "status_before": None, "status_after": "placed",
        "effects": '["Charge"]', "timers": "[]",
    }  # fmt: skip
    return Observation(**{**usual, **given})


def observed(*found: Observation) -> RunCommit:
    return RunCommit(run_id=A, events=(), additions=found)


def keys(reader: Reader, **select: Any) -> list[str]:
    return [work.key for work in reader.work(QueueSelect(**select))]


class WorkContract:
    """Inherited by the tests of an adapter, which give the fixtures `journal` and `other_handle` of one store."""

    @pytest.fixture
    def started(self, journal: Journal) -> Journal:
        runs = [one_run(A, kind="decider", name="order"), one_run(B, kind="decider", name="cart"), one_run(C)]
        journal.append(runs, durability=FAST)
        return journal

    # -- waits ---------------------------------------------------------------------------------------------------

    def test_a_wait_has_ended_when_it_is_due_or_a_signal_of_its_name_is_there(self, started: Journal) -> None:
        items = [
            effect(A, "iron.sleep[0]", kind="sleep", due_at=10),
            effect(A, "iron.wait_for[0]:go", kind="signal", due_at=50),
            effect(B, "iron.wait_for[0]:go:on", kind="signals", due_at=60),
            effect(B, "an effect", due_at=1),
        ]
        started.append(queued(*items), durability=FAST)
        with started.reading() as reader:
            assert reader.ended_waits(9) == []
            assert [item.key for item in reader.ended_waits(10)] == ["iron.sleep[0]"]
            assert (reader.next_due_at(0), reader.next_due_at(10)) == (10, 50)
            assert reader.next_due_at(60) == NEVER
            assert [item.kind for item in reader.waits_of(B)] == ["signals"]
        payload = value(b"payload")
        for run, name in ((A, "other"), (B, "go"), (B, "go:on"), (A, "go")):
            started.send(Signal(run_id=run, name=name, sent_at=5, payload_id=payload.value_id), payload)
        with started.reading() as reader:
            assert [item.key for item in reader.ended_waits(0)] == ["iron.wait_for[0]:go", "iron.wait_for[0]:go:on"]
            assert payload.value_id in reader.values([payload.value_id])
            assert [signal.name for signal in reader.signals([A, B])] == ["other", "go", "go:on", "go"]

    def test_waits_that_are_due_come_in_pages_and_those_with_a_signal_in_the_first(self, started: Journal) -> None:
        items = [effect(A, f"iron.sleep[{n}]", kind="sleep", due_at=10 + n) for n in range(5)]
        started.append(queued(*items, effect(B, "iron.wait_for[0]:go", kind="signal", due_at=90)), durability=FAST)
        started.send(Signal(run_id=B, name="go", sent_at=5))
        with started.reading() as reader:
            pages = [[item.key for item in reader.ended_waits(13, start, 2)] for start in (0, 2, 4)]
        assert pages == [
            ["iron.sleep[0]", "iron.sleep[1]", "iron.wait_for[0]:go"], ["iron.sleep[2]", "iron.sleep[3]"], [],
        ]  # fmt: skip

    # -- exchange ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("durability", list(Durability))
    def test_an_exchange_sees_what_is_there_and_writes_what_follows(
        self, journal: Journal, other_handle: Journal, durability: Durability
    ) -> None:
        author = Author()
        author.start(A)
        other_handle.append([author.entry(A)], durability=FAST)
        seen: list[tuple[int, int] | None] = []

        def act(reader: Reader) -> Sequence[RunCommit]:
            seen.append(reader.head(A))
            author.note(A, RunInterrupted(reason="exchanged"))
            return [author.entry(A), one_run(B)]

        journal.exchange(act, durability=durability, lease=lease("me"))
        assert [found and found[0] for found in seen] == [1]
        with other_handle.reading() as reader:
            assert [row.type for row in reader.events(Select())] == ["RunStarted", "RunInterrupted", "RunStarted"]
            assert reader.leases() == {"me": lease("me")}

    def test_what_act_raises_takes_everything_back(self, started: Journal) -> None:
        with started.reading() as reader:
            before = answers(reader)

        def act(reader: Reader) -> Sequence[RunCommit]:
            assert reader.runs(Select())
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            started.exchange(act, durability=FAST, lease=lease("me"))
        with started.reading() as reader:
            assert answers(reader) == before
        started.exchange(lambda _: queued(effect(A, "k")), durability=FAST)
        with started.reading() as reader:
            assert keys(reader) == ["k"]

    def test_an_entry_that_conflicts_takes_those_beside_it_back(self, started: Journal) -> None:
        with started.reading() as reader:
            before = answers(reader)
        batch = [*queued(effect(A, "k")), observed(observation()), one_run(A)]
        with pytest.raises(JournalConflict):
            started.exchange(lambda _: batch, durability=FAST, lease=lease("me"))
        with started.reading() as reader:
            assert answers(reader) == before
            assert reader.work(QueueSelect()) == deciders_of(reader).observations() == []

    def test_an_exchange_of_nothing_is_fine(self, journal: Journal) -> None:
        journal.exchange(lambda _: [], durability=FAST)
        with journal.reading() as reader:
            assert reader.runs(Select()) == []

    # -- work ----------------------------------------------------------------------------------------------------

    def test_every_column_of_work_comes_back(self, started: Journal) -> None:
        payload, error = value(b"p").value_id, value(b"e").value_id
        full = QueueItem(
            run_id=A, kind="timer", key="pay by", due_at=9, created_at=2, payload_id=payload, owner="me",
            leased_until=20, attempts=3, dead_at=30, error_id=error,
        )  # fmt: skip
        started.append(queued(full), durability=FAST)
        with started.reading() as reader:
            (found,) = reader.work(QueueSelect())
        assert replace(found, work_id=None) == full
        assert found.work_id is not None

    def test_work_of_one_kind_and_key_is_replaced_whole_and_keeps_its_place(self, started: Journal) -> None:
        claimed = effect(A, "k", owner="me", leased_until=5, attempts=4, dead_at=6, error_id=value(b"e").value_id)
        started.append(queued(claimed, effect(A, "l")), durability=FAST)
        started.append(queued(effect(A, "k"), effect(A, "k", kind="timer"), effect(B, "k")), durability=FAST)
        with started.reading() as reader:
            found = reader.work(QueueSelect())
        assert [(work.run_id, work.kind, work.key) for work in found] == [
            (A, "effect", "k"), (A, "effect", "l"), (A, "timer", "k"), (B, "effect", "k"),
        ]  # fmt: skip
        assert replace(found[0], work_id=None) == effect(A, "k")

    def test_work_that_is_done_is_gone_and_what_is_put_with_it_stays(self, started: Journal) -> None:
        started.append(queued(effect(A, "k"), effect(A, "k", kind="timer"), effect(B, "k")), durability=FAST)
        again = effect(A, "k", due_at=99)
        done = (("effect", "k"), ("effect", "nobody knows"))
        started.append([RunCommit(run_id=A, events=(), done_work=done, put_work=(again,))], durability=FAST)
        started.append([RunCommit(run_id=B, events=(), done_work=(("effect", "k"),))], durability=FAST)
        with started.reading() as reader:
            found = [(work.kind, work.due_at) for work in reader.work(QueueSelect())]
        assert found == [("timer", 10), ("effect", 99)]

    def test_work_comes_by_when_it_is_due_and_then_as_it_was_put(self, started: Journal) -> None:
        put = [effect(A, "late", due_at=30), effect(B, "two", due_at=20), effect(A, "one", due_at=20)]
        started.append(queued(*put, effect(C, "soon", due_at=-5)), durability=FAST)
        with started.reading() as reader:
            assert keys(reader) == ["soon", "two", "one", "late"]
            assert keys(reader, limit=2) == ["soon", "two"]
            assert keys(reader, limit=0) == []

    @pytest.mark.parametrize(
        ("select", "expected"),
        [
            ({}, ["Charge/1", "Mail/2", "pay-by", "u", "Charge/3"]),
            ({"of": [("decider", "order")]}, ["Charge/1", "Mail/2", "pay-by", "u"]),
            ({"of": [("decider", "cart"), ("flow", "order")]}, ["Charge/3"]),
            ({"of": []}, []),
            ({"run_ids": [B, C]}, ["Charge/3"]),
            ({"run_ids": []}, []),
            ({"kind": "timer"}, ["pay-by"]),
            ({"key": "Mail/2"}, ["Mail/2"]),
            ({"kind": "timer", "key": "Mail/2"}, []),
            ({"is_dead": True}, ["Mail/2"]),
            ({"is_dead": False}, ["Charge/1", "pay-by", "u", "Charge/3"]),
            ({"effects": ["Charge"]}, ["Charge/1", "pay-by", "u", "Charge/3"]),
            ({"effects": []}, ["pay-by", "u"]),
            ({"claimable_at": 10}, ["Charge/1", "Charge/3"]),
            ({"claimable_at": 11, "effects": ["Mail"]}, ["pay-by"]),
            ({"claimable_at": 9}, []),
        ],
    )
    def test_work_is_selected_by_each_field(self, started: Journal, select: Any, expected: list[str]) -> None:
        works = [
            effect(A, "Charge/1"), effect(A, "Mail/2", dead_at=5), effect(A, "pay-by", kind="timer", due_at=11),
            effect(A, "u", kind="unique", due_at=2**62), effect(B, "Charge/3"),
        ]  # fmt: skip
        started.append(queued(*works), durability=FAST)
        with started.reading() as reader:
            assert sorted(keys(reader, **select)) == sorted(expected)

    @pytest.mark.parametrize(
        ("owner", "leased_until", "is_claimable"),
        [
            (None, None, True),
            ("me", 11, False),
            ("me", 10, True),
            ("me", 9, True),
            ("who died", 11, True),
            ("who died", 9, True),
        ],
    )
    def test_work_of_a_living_owner_can_be_claimed_when_its_lease_has_run_out(
        self, started: Journal, owner: str | None, leased_until: int | None, is_claimable: bool
    ) -> None:
        started.append(queued(effect(A, "k", owner=owner, leased_until=leased_until)), durability=FAST)
        with started.reading() as reader:
            assert keys(reader, claimable_at=10, alive=ALIVE) == ["k"] * is_claimable

    # -- observations --------------------------------------------------------------------------------------------

    def test_observations_come_back_in_order_by_decider_and_instance(self, started: Journal) -> None:
        rejected = observation(outcome="rejected", reason='"no"', run_id=None, command_key="k", at=4)
        made = [observation(), rejected, observation("o-2", execution=None), observation(name="cart", source="timer x")]
        started.append([observed(*made[:2]), observed(*made[2:])], durability=FAST)
        with started.reading() as reader:
            assert deciders_of(reader).observations() == made
            assert deciders_of(reader).observations("order") == made[:3]
            assert deciders_of(reader).observations("order", "o-1") == made[:2]
            assert deciders_of(reader).observations("cart", "o-2") == []
            assert deciders_of(reader).observation_of("order", "o-1", "k") == rejected
            assert deciders_of(reader).observation_of("order", "o-2", "k") is None

    @pytest.mark.parametrize("is_one_batch", [True, False])
    def test_a_command_key_is_kept_once_an_instance(self, started: Journal, is_one_batch: bool) -> None:
        first, second = observed(observation(command_key="k")), observed(observation(command_key="k", at=6))
        others = [observation("o-2", command_key="k"), observation(name="cart", command_key="k"), observation()]
        started.append([observed(*others, *others[2:])], durability=FAST)
        if not is_one_batch:
            started.append([first], durability=FAST)
        with pytest.raises(JournalConflict):
            started.append([second] if not is_one_batch else [first, second], durability=FAST)
        with started.reading() as reader:
            assert len(deciders_of(reader).observations()) == 4 + (not is_one_batch)

    def test_the_newest_equal_command_of_another_execution_is_found(self, started: Journal) -> None:
        asked = observation(execution="cell 9")
        made = [
            observation(at=1), observation(at=2, execution="cell 2"), observation(at=3, execution="cell 9"),
            observation(at=4, digest=digest(2)), observation(at=5, outcome="rejected"), observation("o-2", at=6),
            observation(name="cart", at=7), observation(at=8, execution=None),
        ]  # fmt: skip
        with started.reading() as reader:
            assert deciders_of(reader).accepted_before(asked) is None
        started.append([observed(*made)], durability=FAST)
        with started.reading() as reader:
            assert deciders_of(reader).accepted_before(asked) == made[1]
            assert deciders_of(reader).accepted_before(observation(execution="cell 2")) == made[2]

    # -- states --------------------------------------------------------------------------------------------------

    def test_one_state_is_kept_of_a_run(self, started: Journal) -> None:
        for version in (1, 3):
            state = StoredState(version, digest(version), f'{{"n":{version}}}')
            started.append([RunCommit(run_id=A, events=(), additions=(state,))], durability=FAST)
        with started.reading() as reader:
            assert deciders_of(reader).state(A) == StoredState(3, digest(3), '{"n":3}')
            assert deciders_of(reader).state(B) is None

    def test_events_after_a_version_come_in_order(self, journal: Journal) -> None:
        author = Author()
        author.start(A)
        for reason in ("one", "two", "three"):
            author.note(A, RunInterrupted(reason=reason))
        journal.append([author.entry(A), one_run(B)], durability=FAST)
        with journal.reading() as reader:
            assert [number for number, *_ in deciders_of(reader).events_after(A, 0)] == [1, 2, 3, 4]
            found = deciders_of(reader).events_after(A, 2)
            assert [(number, kind, data) for number, _, kind, data in found] == [
                (3, "RunInterrupted", '{"reason":"two"}'), (4, "RunInterrupted", '{"reason":"three"}'),
            ]  # fmt: skip
            assert [number for number, *_ in deciders_of(reader).events_after(A, 1, until=3)] == [2, 3]
            assert [number for number, *_ in deciders_of(reader).events_after(A, 0, at=found[0][1])] == [1, 2, 3]
            assert deciders_of(reader).events_after(A, 4) == deciders_of(reader).events_after(C, 0) == []
