"""Whatever is written, PostgreSQL answers as plain Python does; and death at any commit loses nothing there either."""

from __future__ import annotations

from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ironflow_nb.journal.ports import Journal, Select
from ironflow_nb.journal.postgres_journal import PostgresJournal
from ironflow_nb.testing.crash_everywhere import crash_everywhere
from ironflow_nb.testing.memory_journal import MemoryJournal
from tests.conftest import FULL_PROOF
from tests.contracts.histories import answers, folded
from tests.crash import async_flows, control_flows, flows
from tests.journal.test_journals_agree import Deed, Scribe, histories, selects
from tests.postgres.server import Server

FLOWS = flows.FLOWS | async_flows.FLOWS | control_flows.FLOWS
SAMPLE = ("sequential", "mapped", "parent")


@pytest.mark.slow
@settings(max_examples=200 if FULL_PROOF else 12)
@given(history=histories, asked=st.lists(selects, min_size=6, max_size=12))
def test_postgresql_answers_as_plain_python_does_after_any_history(
    server: Server, history: list[list[Deed]], asked: list[Select]
) -> None:
    memory = MemoryJournal()
    with closing(PostgresJournal(server.new_url())) as journal:
        scribe = Scribe(memory, journal)
        for batch in history:
            scribe.write(batch)
        with memory.reading() as expected, journal.reading() as found:
            assert answers(found, [Select(), *asked]) == answers(expected, [Select(), *asked])
            for run, state in scribe.author.states.items():
                assert folded(found.events(Select()), run).run == state.run
                assert found.runs(Select(run_ids=[run])) == [state.run]


@pytest.mark.crash
@pytest.mark.parametrize("name", FLOWS if FULL_PROOF else SAMPLE)
def test_nothing_acknowledged_is_lost_or_done_again_on_a_server(server: Server, name: str) -> None:
    opened: list[PostgresJournal] = []
    again: list[object] = []

    def journal() -> Journal:
        for before in opened[:-1]:
            before.close()
        opened.append(PostgresJournal(server.new_url()))
        return opened[-1]

    def before_each() -> None:
        again.extend([*flows.ran_again(), *flows.other_keys()])
        flows.reset()
        control_flows.REPLIES.clear()

    found = crash_everywhere(FLOWS[name], journal=journal, before_each=before_each)
    before_each()
    for each in opened:
        each.close()
    assert again == []
    assert set(found["moment"]) == {"before", "after"}
