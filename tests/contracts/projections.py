"""What every journal keeps for projections: events of deciders in the order of all, and places that only grow."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from ironflow_nb.core.events import DomainEvent
from ironflow_nb.core.identity import RunId
from ironflow_nb.deciders.store import DomainSelect, ProjectionProgress, SkippedEvent, deciders_of
from ironflow_nb.errors import JournalConflict
from ironflow_nb.journal.ports import Durability, Journal, RunCommit
from tests.contracts.histories import A, Author, B, C, digest, value

FAST = Durability.PROCESS
STATE = value(b"[1]")
FIRST = ProjectionProgress(name="p", generation=1, position=3, code=digest(1), updated_at=7, state=STATE)
SKIPPED = SkippedEvent(
    name="p", position=2, decider="order", instance="o", sequence=1, event="Placed", error="no", at=5
)


def entry(*projected: ProjectionProgress) -> RunCommit:
    return RunCommit(run_id=RunId(""), events=(), additions=projected)


def happened(author: Author, run: RunId, kind: str) -> None:
    author.note(run, DomainEvent(type=kind, data=msgspec.Raw(b'{"n":1}')))


class ProjectionContract:
    """Inherited by the tests of an adapter, which give the fixtures `journal` and `other_handle` of one store."""

    @pytest.fixture
    def orders(self, journal: Journal) -> Journal:
        """Two orders, a bill, and a flow with an event of its own, in two commits."""
        author = Author()
        author.start(A, kind="decider", name="order", key="a")  # position 1
        happened(author, A, "order.Placed")  # 2
        happened(author, A, "order.Paid")  # 3
        author.start(B, kind="decider", name="bill", key="b")  # 4
        happened(author, B, "bill.Placed")  # 5
        journal.append([author.entry(A), author.entry(B)], durability=FAST)
        author.start(C, kind="flow", name="f")  # 6
        happened(author, C, "f.Placed")  # 7
        happened(author, A, "order.Placed")  # 8
        journal.append([author.entry(C), author.entry(A)], durability=FAST)
        return journal

    @pytest.mark.parametrize(
        ("select", "expected"),
        [
            (DomainSelect(), [2, 3, 5, 8]),
            (DomainSelect(after=2), [3, 5, 8]),
            (DomainSelect(after=2, limit=2), [3, 5]),
            (DomainSelect(after=8), []),
            (DomainSelect(deciders=["order"]), [2, 3, 8]),
            (DomainSelect(deciders=["order", "bill"], classes=["Placed"]), [2, 5, 8]),
            (DomainSelect(classes=["Paid", "Expired"]), [3]),
            (DomainSelect(deciders=["orde", "order.Placed", "%"]), []),
        ],
    )
    def test_events_of_deciders_are_selected_by_position(
        self, orders: Journal, select: DomainSelect, expected: list[int]
    ) -> None:
        with orders.reading() as reader:
            assert [row.position for row in deciders_of(reader).domain_events(select)] == expected
            if select.limit is None:
                assert deciders_of(reader).n_domain_events(select) == len(expected)
            assert reader.last_position() == 8

    def test_an_event_of_a_decider_is_numbered_within_its_instance(self, orders: Journal) -> None:
        with orders.reading() as reader:
            rows = deciders_of(reader).domain_events(DomainSelect(after=2))
            chosen = deciders_of(reader).domain_events(DomainSelect(after=3, deciders=["order"], classes=["Placed"]))
        found = [(row.instance, row.sequence, row.type, row.data, row.run_id) for row in rows]
        assert found == [
            ("a", 2, "order.Paid", '{"n":1}', A),
            ("b", 1, "bill.Placed", '{"n":1}', B),
            ("a", 3, "order.Placed", '{"n":1}', A),
        ]
        assert [row.sequence for row in chosen] == [3]

    def test_a_new_journal_has_no_projection(self, journal: Journal) -> None:
        for view in (journal.reading, journal.current):
            with view() as reader:
                known = deciders_of(reader)
                assert (reader.last_position(), known.domain_events(DomainSelect())) == (0, [])
                assert (known.projections(), known.projection("p"), known.projection_state("p")) == ([], None, None)
                assert (known.skipped("p"), known.n_domain_events(DomainSelect())) == ([], 0)

    def test_place_and_state_of_a_projection_come_back(self, journal: Journal, other_handle: Journal) -> None:
        large = value(b"x" * 100_000)
        other = replace(FIRST, name="a", state=large)
        journal.append([entry(FIRST, other)], durability=FAST)
        moved = replace(FIRST, position=9, state=None, error="no", updated_at=8, before=(1, 3))
        journal.append([entry(moved)], durability=FAST)
        with other_handle.reading() as reader:
            assert deciders_of(reader).projections() == [replace(other, state=None), replace(moved, before=None)]
            assert deciders_of(reader).projection("p") == replace(moved, before=None)
            assert [deciders_of(reader).projection_state(name) for name in "pa"] == [STATE, large]

    @pytest.mark.parametrize(
        "late",
        [
            FIRST,
            replace(FIRST, position=5, before=(1, 2)),
            replace(FIRST, position=2, before=(1, 3)),
            replace(FIRST, generation=0, position=9, before=(1, 3)),
            replace(FIRST, name="unknown", before=(1, 3)),
        ],
    )
    def test_who_was_overtaken_or_would_go_back_writes_nothing(
        self, journal: Journal, late: ProjectionProgress
    ) -> None:
        journal.append([entry(FIRST)], durability=FAST)
        with pytest.raises(JournalConflict, match=f"folded projection {late.name} meanwhile") as caught:
            journal.append([entry(replace(FIRST, name="beside")), entry(late)], durability=FAST)
        assert caught.value.ids == {"name": late.name}
        with journal.reading() as reader:
            assert deciders_of(reader).projections() == [replace(FIRST, state=None)]

    def test_what_was_skipped_is_kept_until_the_projection_begins_again(self, journal: Journal) -> None:
        journal.append([entry(replace(FIRST, skipped=(SKIPPED,)))], durability=FAST)
        later = replace(SKIPPED, position=4)
        journal.append([entry(replace(FIRST, position=4, before=(1, 3), skipped=(later,)))], durability=FAST)
        with journal.reading() as reader:
            assert deciders_of(reader).skipped("p") == [SKIPPED, later]
        journal.append([entry(replace(FIRST, generation=2, position=1, before=(1, 4)))], durability=FAST)
        with journal.reading() as reader:
            assert deciders_of(reader).skipped("p") == []
            assert deciders_of(reader).projection("p") == replace(FIRST, generation=2, position=1, state=None)
