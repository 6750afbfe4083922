"""The time, an id and chance in a flow: what the first run got, whenever it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, gather, step
from ironflow_nb.journal.ports import Durability, RunCommit
from ironflow_nb.testing.memory_journal import MemoryJournal
from ironflow_nb.testing.process_death import DyingJournal, process_on
from tests.cells import World
from tests.conftest import Lab

Found = tuple[datetime, UUID, float]


def found() -> Found:
    return iron.now(), iron.uuid4(), iron.random()


def test_a_continued_flow_gets_what_the_first_run_got(lab: Lab, world: World) -> None:
    clock = lab.simulate_time()

    @step
    def keep(what: Found) -> Found:
        if world.is_broken:
            raise RuntimeError
        return what

    @flow
    def main() -> tuple[Found, Found]:
        return keep(found()), found()

    with pytest.raises(RuntimeError):
        main()
    world.is_broken = False
    clock.advance(3600)
    lab.cell()
    (first, second) = main()
    assert list(main.last.steps()["name"]).count("iron.now") == 2
    assert second[0] - first[0] == timedelta(hours=1), "the second time is asked for only now"
    assert len(iron.runs()) == 1
    assert list(main.last.attempts().query("name.str.endswith('keep')")["status"]) == ["failed", "completed"]
    assert first[1] != second[1]
    assert 0 <= first[2] < 1


def test_they_wait_for_no_commit_of_their_own(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    append = lab.engine.journal.append

    def counted(entries: Sequence[RunCommit], **given: Any) -> None:
        commits.append(sum(len(entry.events) for entry in entries))
        append(entries, **given)

    monkeypatch.setattr(lab.engine.journal, "append", counted)

    @flow
    def main() -> None:
        for _ in range(20):
            found()

    main()
    assert sum(commits) == 2 + 2 * 60
    assert len(commits) < 10
    assert main.last.steps()["name"].value_counts().to_dict() == {"iron.now": 20, "iron.uuid4": 20, "iron.random": 20}


def test_a_body_that_dies_is_given_the_same_again(lab: Lab, world: World) -> None:
    @step
    def pay(key: UUID) -> UUID:
        world.did(key)
        if world.is_broken:
            world.is_broken = False
            world.die()
        return key

    @flow
    def main() -> UUID:
        return pay(iron.uuid4())

    with pytest.raises(SystemExit):
        main()
    assert world.log == [main(), main.last.result()]


def test_a_body_commits_nothing_before_it_where_nothing_is_owed() -> None:
    journal = DyingJournal(MemoryJournal(), at_commit=None, moment="before")
    seen: list[int] = []

    @step
    def work() -> None:
        seen.append(journal.n_commits)

    @flow
    def main() -> None:
        work()
        iron.uuid4()
        iron.now()
        work()
        work()

    with process_on(journal, Durability.PROCESS):
        main()
    assert seen == [0, 2, 3]


def test_they_are_what_they_say(lab: Lab) -> None:
    @flow
    def main() -> Found:
        return found()

    at, number, chance = main()
    assert at.tzinfo is UTC
    assert abs(at - datetime.now(UTC)) < timedelta(minutes=1)
    assert number.version == 4
    assert 0 <= chance < 1


def test_they_are_not_drawn(lab: Lab) -> None:
    @flow
    def main() -> Found:
        return found()

    main()
    assert "uuid4" not in main.last._repr_mimebundle_()["image/svg+xml"]


def test_outside_of_flows_and_inside_of_steps_they_are_plain(lab: Lab) -> None:
    @step
    def inner() -> list[UUID]:
        return [iron.uuid4(), iron.uuid4()]

    @flow
    def main() -> list[UUID]:
        return inner()

    assert len({iron.uuid4(), iron.uuid4(), *main()}) == 4
    assert list(main.last.steps()["name"].str.rsplit(".").str[-1]) == ["inner"]


def test_branches_and_async_flows_get_their_own(lab: Lab, world: World) -> None:
    @flow
    def side_by_side() -> list[UUID]:
        return list(gather(iron.uuid4, iron.uuid4))

    @flow
    async def later() -> list[UUID]:
        async def one() -> UUID:
            return iron.uuid4()

        return list(await asyncio.gather(one(), one()))

    async def awaited() -> list[UUID]:
        return await later()

    for found_there in (side_by_side(), asyncio.run(awaited())):
        assert len(set(found_there)) == 2


def test_a_new_version_of_the_package_gives_what_the_old_one_gave(
    lab: Lab, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ironflow_nb.execution import deterministic

    @flow
    def main() -> UUID:
        number = iron.uuid4()
        world.did(number)
        if world.is_broken:
            raise RuntimeError
        return number

    with pytest.raises(RuntimeError):
        main()
    world.is_broken = False
    other = deterministic.StepSpec(found, name="iron.uuid4", options=deterministic._OPTIONS)
    monkeypatch.setattr(deterministic, "_UUID4", other)
    lab.cell()
    main()
    assert world.log[0] == world.log[1]
