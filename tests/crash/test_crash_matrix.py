"""Death before and after every commit of every kind of flow, in both modes and on both journals."""

from __future__ import annotations

from pathlib import Path

import pytest

from ironflow_nb.journal.ports import Journal
from ironflow_nb.testing.crash_everywhere import crash_everywhere
from ironflow_nb.testing.memory_journal import MemoryJournal
from tests.crash import async_flows, control_flows, flows

pytestmark = pytest.mark.crash

FLOWS = flows.FLOWS | async_flows.FLOWS | control_flows.FLOWS


def reset() -> None:
    flows.reset()
    control_flows.REPLIES.clear()


@pytest.mark.sampled(24)
@pytest.mark.parametrize("durability", ["power", "process"])
@pytest.mark.parametrize("name", FLOWS)
def test_nothing_acknowledged_is_lost_or_done_again(name: str, durability: str) -> None:
    again: list[object] = []

    def before_each() -> None:
        again.extend([*flows.ran_again(), *flows.other_keys()])
        reset()

    found = crash_everywhere(FLOWS[name], durability=durability, before_each=before_each)
    before_each()
    assert again == []
    assert set(found["moment"]) == {"before", "after"}
    n_commits = found.groupby("moment")["commit"].max()
    assert n_commits.min() >= 2
    # What was committed when the process died is kept; the first commit brings the first step along.
    assert found["n_kept"].max() == found["n_completed"].max()
    for _, of_moment in found.groupby("moment"):
        if name in {"sequential", "large_values", "retried", "parent", "lived_with"}:
            assert of_moment["n_kept"].is_monotonic_increasing


@pytest.mark.sampled(12)
@pytest.mark.parametrize("name", FLOWS)
def test_the_journal_in_memory_is_as_good(name: str) -> None:
    journals: list[MemoryJournal] = []

    def journal() -> Journal:
        journals.append(MemoryJournal())
        return journals[-1]

    found = crash_everywhere(FLOWS[name], journal=journal, before_each=reset)
    # An undisturbed round first, and for each moment at least one that was not hit: threads vary the number of commits.
    assert len(found) + 3 <= len(journals)


def test_a_flow_that_is_not_repeatable_is_found_out(tmp_path: Path) -> None:
    @flows.flow
    def careless() -> int:
        flows.work(1)
        return len(flows.LOG)  # not recorded: a run that continues counts otherwise

    with pytest.raises(AssertionError, match=r"died (before|after) commit \d: another result"):
        crash_everywhere(careless, before_each=flows.reset)
