"""Random programs of effects and failures, and deaths at their commits, against a small model of what is undone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.event_codec import decode_as
from ironflow_nb.core.events import CompensationRegistered, CompensationStarted, StepCompensated
from ironflow_nb.core.status import RunStatus, StepStatus
from ironflow_nb.journal.ports import Durability, Journal, Reader, Select
from ironflow_nb.testing.clock import SimClock
from ironflow_nb.testing.memory_journal import MemoryJournal
from ironflow_nb.testing.process_death import AFTER, MOMENTS, Died, DyingJournal, abandon, outcome_of, process_on
from tests.conftest import FULL_PROOF, SEED
from tests.contracts.histories import folded

pytestmark = pytest.mark.crash

N_SEEDS = 1000 if FULL_PROOF else 10
Program = tuple[tuple[str, Any], ...]
UNDONE: list[int] = []
ACTED: list[int] = []
BROKEN: set[int] = set()


@step
def undo(result: int) -> int:
    if result in BROKEN:
        raise ConnectionError(result)
    UNDONE.append(result)
    return result


@step(compensate=undo)
def act(n: int) -> int:
    ACTED.append(n)
    return n


async def undo_async(result: int) -> int:
    return undo.fn(result)


@step(compensate=undo_async)
async def act_async(n: int) -> int:
    return act.fn(n)


@step
def fail() -> None:
    raise KeyError("it fails")


def play(program: Program) -> None:
    for kind, what in program:
        if kind == "act":
            act(what)
        elif kind == "map":
            list(act.map(what, concurrency=1))
        elif kind == "submit":
            act_async.submit(what).result()
        elif kind == "hook":
            iron.on_failure(undo, what)
        elif kind == "child":
            child(what)
        else:
            with suppress(KeyError):
                failing(what)


async def play_async(program: Program) -> None:
    for kind, what in program:
        if kind == "act":
            await act_async(what)
        elif kind == "map":
            await act.map(what, concurrency=1)
        elif kind == "submit":
            await act.submit(what)
        elif kind == "hook":
            iron.on_failure(undo, what)
        elif kind == "child":
            await child_async(what)
        else:
            with suppress(KeyError):
                await failing_async(what)


@flow
def child(program: Program) -> None:
    play(program)


@flow
def failing(program: Program) -> None:
    play(program)
    fail()


@flow
async def child_async(program: Program) -> None:
    await play_async(program)


@flow
async def failing_async(program: Program) -> None:
    await play_async(program)
    fail()


class Model:
    """What a program has done, and the order in which that is undone."""

    def __init__(self) -> None:
        self.standing: list[int] = []
        self.undone: list[int] = []

    def run(self, program: Program) -> None:
        """Play the program, which fails in the end."""
        before = len(self.standing)
        self.play(program)
        mine, self.standing = self.standing[before:], self.standing[:before]
        self.undone += [n for n in reversed(mine) if n not in BROKEN]
        self.standing += [n for n in mine if n in BROKEN]

    def play(self, program: Program) -> None:
        for kind, what in program:
            if kind == "map":
                self.standing += what
            elif kind == "child":
                self.play(what)
            elif kind == "failing":
                self.run(what)
            else:
                self.standing.append(what)


def random_program(dice: Random, numbers: Iterator[int], depth: int = 0) -> Program:
    kinds = ["act", "act", "map", "submit", "hook", *(["child", "failing"] if depth < 2 else [])]
    program: list[tuple[str, Any]] = []
    for _ in range(dice.randrange(1, 4)):
        kind = dice.choice(kinds)
        if kind in {"child", "failing"}:
            program.append((kind, random_program(dice, numbers, depth + 1)))
        else:
            program.append((kind, [next(numbers), next(numbers)] if kind == "map" else next(numbers)))
    return tuple(program)


def made(seed: int) -> tuple[Program, Any]:
    dice = Random(f"{SEED} {seed}")
    numbers = iter(range(100))
    program = random_program(dice, numbers)
    for each in (UNDONE, ACTED, BROKEN):
        each.clear()
    n_used = next(numbers)
    BROKEN.update(n for n in range(n_used) if dice.random() < 0.15)
    return program, dice.choice([failing, failing_async])


def kernel(journal: Journal, clock: SimClock, program: Program, main: Any) -> bool:
    """Call the flow until it has failed, or the kernel died; return True if it has failed."""
    with process_on(journal, Durability.PROCESS, clock) as engine:
        is_dead = (lambda: journal.is_dead) if isinstance(journal, DyingJournal) else lambda: False
        try:
            outcome_of(main, (program,), is_dead=is_dead)
        except KeyError:
            return not is_dead()
        except Died:
            pass
        finally:
            if is_dead():
                owner = engine.owner
                abandon(engine)
                journal.journal.release(owner)  # type: ignore[attr-defined] -- a dead process has no lease
    return False


def check(reader: Reader) -> list[int]:
    """Check what holds however often the run died; return the numbers that were undone, in order."""
    events = reader.events(Select())
    rows = {(row.run_id, row.step, row.attempt): row for row in reader.steps(Select())}
    registered = {
        (each.run_id, each.step, each.attempt): each.position
        for each in events
        if each.type == CompensationRegistered.__name__
    }
    undone: dict[Any, int] = {}
    for each in events:
        place = each.run_id, each.step, each.attempt
        if each.type == StepCompensated.__name__ and place in registered:
            assert place not in undone, f"{place} was undone twice"
            undone[place] = each.position
    for place in registered:
        is_undone = rows[place].status is StepStatus.COMPENSATED
        assert is_undone == (place in undone)
    started = [each.position for each in events if each.type == CompensationStarted.__name__]
    for begin, end in zip(started, [*started[1:], events[-1].position + 1], strict=True):
        within = [registered[place] for place, position in undone.items() if begin < position < end]
        assert within == sorted(within, reverse=True), "the newest is undone first"
    for run in reader.runs(Select()):
        state = folded(events, run.run_id)
        assert state.run == run
        assert state.steps == {key[1:]: row for key, row in rows.items() if key[0] == run.run_id}
    return [_number(reader, events, rows, place) for place in undone]


def _number(reader: Reader, events: Any, rows: Any, place: Any) -> int:
    event = next(e for e in events if e.type == StepCompensated.__name__ and (e.run_id, e.step, e.attempt) == place)
    by = decode_as(StepCompensated, event.data)
    run_id = by.by_run_id or event.run_id
    row = max((row for key, row in rows.items() if key[:2] == (run_id, by.by)), key=lambda row: row.attempt)
    stored = reader.values([row.output_id], of=[row.row_key])[row.output_id]
    return int(bytes(stored.content or b""))


@pytest.mark.parametrize("seed", range(N_SEEDS))
def test_what_is_undone_is_what_the_model_says(seed: int) -> None:
    program, main = made(seed)
    journal = MemoryJournal()
    assert kernel(journal, SimClock(), program, main)
    model = Model()
    model.run(program)
    with journal.reading() as reader:
        assert check(reader) == model.undone == UNDONE, program
        assert {run.status for run in reader.runs(Select(limit=1))} <= {RunStatus.FAILED, RunStatus.COMPLETED}


@pytest.mark.parametrize("seed", range(N_SEEDS))
def test_after_any_deaths_nothing_stands_that_can_be_undone(seed: int) -> None:
    program, main = made(seed)
    dice, journal, clock = Random(f"deaths {SEED} {seed}"), MemoryJournal(), SimClock()
    for _ in range(3):
        dying = DyingJournal(journal, at_commit=dice.randrange(1, 30), moment=dice.choice(MOMENTS))
        kernel(dying, clock, program, main)
        if _is_failed(journal):  # an equal call would begin a new run
            break
    else:
        _finish(journal, clock, program, main)
    _check_end(journal)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("main", [failing, failing_async], ids=["def", "async"])
def test_a_compensation_survives_death_at_each_of_its_commits(main: Any, moment: str) -> None:
    program: Program = (
        ("act", 0), ("child", (("act", 1), ("hook", 2))), ("failing", (("act", 3),)), ("submit", 4), ("act", 5),
    )  # fmt: skip
    BROKEN.clear()
    BROKEN.add(4)
    for commit in range(1, 100):
        journal, clock = MemoryJournal(), SimClock()
        dying = DyingJournal(journal, at_commit=commit, moment=moment)
        has_failed = kernel(dying, clock, program, main)
        if not dying.is_dead:
            assert has_failed
            assert commit > 15
            return
        if not (moment == AFTER and _is_failed(journal)):
            _finish(journal, clock, program, main)
        _check_end(journal)
    raise AssertionError("it commits for ever")


@flow(compensate_on_cancel=True)
def cancelled() -> int:
    return act(0) + stop(1) + act(2)


@flow(compensate_on_cancel=True)
async def cancelled_async() -> int:
    return await act_async(0) + stop(1) + await act_async(2)


@step(compensate=undo)
def stop(n: int) -> int:
    """Be the person who presses the stop button, of the run that calls this step."""
    ACTED.append(n)
    with iron.engine().reading() as reader:
        [run] = reader.runs(Select(limit=1))
    iron.get_run(run.run_id).cancel()
    return n


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("main", [cancelled, cancelled_async], ids=["def", "async"])
def test_a_cancelled_run_whose_process_dies_is_undone_as_a_whole_or_goes_on_as_a_whole(main: Any, moment: str) -> None:
    BROKEN.clear()
    ends: set[RunStatus] = set()
    for commit in range(1, 100):
        UNDONE.clear()
        journal, clock = MemoryJournal(), SimClock()
        dying = DyingJournal(journal, at_commit=commit, moment=moment)
        for each in (dying, journal):
            with process_on(each, Durability.PROCESS, clock) as engine:
                with suppress(Died, iron.RunCancelled):
                    last = main.last
                    if last is None or last.status is not RunStatus.CANCELLED:
                        outcome_of(main, is_dead=lambda: dying.is_dead and each is dying)  # noqa: B023 -- called here
                if each is dying and dying.is_dead:
                    abandon(engine)
                    journal.release(engine.owner)
        with journal.reading() as reader:
            [run] = reader.runs(Select())
            if reader.events(Select(name=CompensationStarted.__name__)):
                check(reader)
            rows = [row for row in reader.steps(Select()) if row.name.rpartition(".")[2] not in {"undo", "undo_async"}]
            is_undone = {row.status is StepStatus.COMPENSATED for row in rows if row.output_id is not None}
        assert is_undone == {run.status is RunStatus.CANCELLED}
        ends.add(run.status)
        if not dying.is_dead:
            assert run.status is RunStatus.CANCELLED
            assert ends <= {RunStatus.CANCELLED, RunStatus.COMPLETED}
            assert commit > 5
            return
    raise AssertionError("it commits for ever")


def _is_failed(journal: Journal) -> bool:
    with journal.reading() as reader:
        roots = [run for run in reader.runs(Select()) if run.parent_run_id is None]
        return bool(roots) and roots[0].status is RunStatus.FAILED


def _finish(journal: Journal, clock: SimClock, program: Program, main: Any) -> None:
    if not _is_failed(journal):
        assert kernel(journal, clock, program, main)


def _check_end(journal: Journal) -> None:
    with journal.reading() as reader:
        check(reader)
        roots = [run for run in reader.runs(Select()) if run.parent_run_id is None]
        assert [run.status for run in roots] == [RunStatus.FAILED]
        noted = {(e.run_id, e.step, e.attempt) for e in reader.events(Select(name=CompensationRegistered.__name__))}
        standing = [
            row
            for row in reader.steps(Select())
            if (row.run_id, row.step, row.attempt) in noted and row.status is not StepStatus.COMPENSATED
        ]
        for row in standing:
            stored = reader.values([row.inputs_id], of=[row.row_key])[row.inputs_id]  # type: ignore[list-item, index]
            numbers = {int(each) for each in "".join(map(_digit, (stored.content or b"").decode())).split()}
            assert numbers & BROKEN, "what can be undone is undone"


def _digit(character: str) -> str:
    return character if character.isdigit() else " "
