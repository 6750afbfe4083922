"""Laws of random histories: what is undone leaves no trace, an unchanged fork is equal, and the journal is whole."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ironflow_nb as iron
from tests.history.test_edited_runs import LIMIT_S, awaited, calls, done, mapped, ran

PAGES = st.lists(st.sampled_from([1, 2, 3, 13]), min_size=1, max_size=4)  # of page 13 the step fails
EDITS = st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), max_size=4)
few = settings(max_examples=12, deadline=None, derandomize=True)
BOTH = pytest.mark.parametrize("any_flow", [mapped, awaited], ids=["def", "async def"])


def state(run: Any) -> Any:
    """Return what a person sees of the run, without how many events it has."""
    return run.status, run.at().steps().to_dict("records")


def n_begun(run: Any) -> int:
    """Return how many items of the map have begun: after a failure the later ones do not."""
    return int(run.steps()["name"].str.endswith(".fetch").sum())


@BOTH
@few
@given(pages=PAGES, edits=EDITS)
def test_edits_that_are_all_undone_leave_the_run_as_it_was(any_flow: Any, pages: list[int], edits: Any) -> None:
    calls.clear()
    with tempfile.TemporaryDirectory() as folder, iron.open(Path(folder) / "journal.db", durability="process"):
        run = ran(any_flow, pages)
        before, made = state(run), 0
        for index, value in edits:
            if index < n_begun(run):
                run.inject(f"fetch[{index}]", value, reason="a try")
                assert run.value(f"fetch[{index}]") == value
                made += 1
        for _ in range(made):
            run.undo()
        assert state(run) == before
        run.resume()
        run.wait(LIMIT_S)
        assert run.status == before[0]
        assert run.status == "failed" or done() == []
        assert iron.verify().ok


@pytest.mark.slow
@BOTH
@few
@given(pages=PAGES, at=st.integers(0, 100), edits=EDITS)
def test_a_fork_is_equal_where_nothing_changed_and_lives_on_without_what_is_pruned(
    any_flow: Any, pages: list[int], at: int, edits: Any
) -> None:
    calls.clear()
    with tempfile.TemporaryDirectory() as folder, iron.open(Path(folder) / "journal.db", durability="process"):
        run = ran(any_flow, pages)
        versions = run.events()["version"].tolist()
        fork = run.fork(at=versions[at % len(versions)]).wait(LIMIT_S)
        done()
        assert fork.status == run.status
        assert run.status == "failed" or iron.compare(run, fork).changed.empty
        replace = {f"fetch[{index}]": value for index, value in edits if index < n_begun(run)}
        other = run.fork(replace=replace).wait(LIMIT_S)
        results = [replace.get(f"fetch[{n}]", page * 2) for n, page in enumerate(pages)]
        is_whole = all(page != 13 or f"fetch[{n}]" in replace for n, page in enumerate(pages))
        assert (other.status == "completed") is is_whole
        if is_whole:
            assert other.result() == sum(results)
        path = iron.export(other, Path(folder) / "other.run")
        iron.prune(keep=1, dry_run=False)
        assert state(other)[0] == other.status
        assert iron.verify().ok
        with iron.open(Path(folder) / "elsewhere.db", durability="process"):
            moved = iron.import_(path)
            assert state(moved) == state(other)
            assert iron.verify().ok
