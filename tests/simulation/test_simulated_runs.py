"""Random programs on simulated kernels that die, are refused, are asked to pause, and race each other."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from random import Random
from typing import Any

import pytest

from ironflow_nb.core.identity import RunId
from ironflow_nb.core.run_state import StepRow
from ironflow_nb.core.status import ENDED, RunStatus, StepStatus
from ironflow_nb.core.wait_rules import APPROVE
from ironflow_nb.errors import IronflowError, JournalBusy, NothingToDo, RunFinished
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.execution.runs.signals import send_signal
from ironflow_nb.execution.runs.worker import RunWorker
from ironflow_nb.execution.steps.breaker_gate import BreakerGate
from ironflow_nb.handles.open_questions import answer_question, asked_now
from ironflow_nb.journal.ports import Durability, Journal, LaneChange, Lease, Reader, RunCommit, Select
from ironflow_nb.telemetry.telemetry_rows import TelemetryReader
from ironflow_nb.testing.memory_journal import MemoryJournal
from ironflow_nb.testing.process_death import MOMENTS, Died, DyingJournal
from ironflow_nb.testing.simulator import SimProcess, Simulator
from ironflow_nb.triggers.trigger_rows import triggers_of
from tests.conftest import FULL_PROOF, SEED
from tests.contracts.histories import folded
from tests.simulation import programs
from tests.simulation.world import MEASURING, WORLD, World

# A process that dies while it makes calls never awaits them.
pytestmark = [pytest.mark.crash, pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")]

N_SEEDS = {False: 10_000, True: 4_000} if FULL_PROOF else {False: 120, True: 120}
"""Of def flows, and of async ones."""
N_DEATHS = 4
UNDONE = {"undone", "undone_async"}
REFUSED = 0.05


class Faulty(DyingJournal):
    """A journal that refuses now and then, and whose process dies at one of its commits."""

    def __init__(self, journal: Journal, process: SimProcess, *, at_commit: int | None) -> None:
        dice = process.simulator.chance
        super().__init__(journal, at_commit=at_commit, moment=dice.choice(MOMENTS))
        self._process = process
        self._refused = REFUSED if dice.random() < 0.3 else 0.0

    def append(self, entries: list[RunCommit], *, durability: Durability, lease: Lease | None = None) -> None:  # type: ignore[override]
        self._refuse()
        try:
            super().append(entries, durability=durability, lease=lease)
        except Died:
            self._process.kill()
            raise

    def exchange(
        self, act: Callable[[Reader], Sequence[RunCommit]], *, durability: Durability, lease: Lease | None = None
    ) -> None:
        self._refuse()
        try:
            super().exchange(act, durability=durability, lease=lease)
        except Died:
            self._process.kill()
            raise

    def change_lanes(self, act: Callable[[Reader], LaneChange], *, lease: Lease | None = None) -> None:
        try:
            super().change_lanes(act, lease=lease)
        except Died:
            self._process.kill()
            raise

    def _refuse(self) -> None:
        if self._process.simulator.chance.random() < self._refused:
            raise JournalBusy("somebody else holds the journal", path=self.location)


class Kernel:
    """A kernel that calls the flow until it is completed; when it dies, another one is started."""

    def __init__(
        self, simulator: Simulator, journal: Journal, world: World, program: programs.Program, flow: Any,
        *, has_limits: bool, is_detached: bool,
    ) -> None:  # fmt: skip
        self.simulator = simulator
        self.flow = flow
        self.journal = journal
        self.world = world
        self.program = program
        self.limits = [None, 3.0, 20.0] if has_limits else [None]
        self.is_detached = is_detached
        self.n_deaths = 0
        self.engines: list[Engine] = []
        self.results: list[int] = []

    def live(self, process: SimProcess) -> None:
        dice = self.simulator.chance
        at_commit = dice.randrange(1, 25) if self.n_deaths < N_DEATHS and dice.random() < 0.7 else None
        journal = Faulty(self.journal, process, at_commit=at_commit)
        engine = REGISTRY.adopt(
            Engine(
                journal,
                durability=Durability.PROCESS,
                clock=process,
                threads=process,
                entropy=dice.randbytes,
                execution=lambda: f"{id(process)}",
                park_s=dice.choice([0.2, 2.0, 60.0]),
            )
        )
        self.engines.append(engine)
        if self.is_detached:
            engine.wake_with(RunWorker, replaces=True)
        try:
            with engine:
                self.complete(process)
                self.world.dead.add(engine.owner)  # what it still does is nobody's any more
        except Died:
            self.n_deaths += 1
            self.world.dead.add(engine.owner)
            # What the machine knows at once of a process that ended; the process of this test lives.
            self.journal.release(engine.owner)
            self.simulator.start(self.live)

    def complete(self, process: SimProcess) -> None:
        while True:
            self.world.sleep = process.sleep
            # Its time is up, perhaps before it has ended: what was finished is kept, and the next call goes on.
            call = self.flow.options(key="the one", timeout_s=self.simulator.chance.choice(self.limits))
            call = call.options(lane=self.simulator.chance.choice([None, "the one"]))
            # Refused, taken over, interrupted, or failed by a step that trips: try again.
            with suppress(IronflowError, ConnectionError, ExceptionGroup, asyncio.CancelledError):
                self.results.append(self.called(process, call))
                return
            process.sleep(1.0)
            if self.simulator.chance.random() < 0.2:
                self.simulator.skew_s += self.simulator.chance.choice([-300.0, 10.0])

    def called(self, process: SimProcess, call: Any) -> int:
        """Call the flow here, await it on a loop of the kernel's own, or start it beside."""
        dice = self.simulator.chance
        if self.is_detached and dice.random() < 0.7:
            return int(call.start(self.program, detach=True).result())
        if dice.random() < 0.3:
            return int(call.start(self.program).result())
        if call.name != programs.main_async.name:
            return int(call(self.program))
        loop = process.event_loop()
        task = loop.create_task(call(self.program))
        if dice.random() < 0.4:  # somebody presses the stop button
            loop.call_later(dice.uniform(0.0, 1.0), task.cancel)
        return int(loop.run_until_complete(task))


def send_all(process: SimProcess, journal: Journal, payloads: list[int]) -> None:
    """Send the signals to the run from a process of its own, in any order, each at any time."""
    dice = process.simulator.chance
    engine = REGISTRY.adopt(
        Engine(journal, durability=Durability.PROCESS, clock=process, threads=process, entropy=dice.randbytes)
    )
    dice.shuffle(payloads)
    with engine:
        while payloads:
            process.sleep(dice.choice([0.0, 0.02, 1.0, 5.0]))
            with engine.reading() as reader:
                found = [run for run in reader.runs(Select()) if run.parent_run_id is None]
            if found:
                n = payloads.pop()
                send_signal(engine, found[0].run_id, f"signal {n}", n)


def answer_all(process: SimProcess, journal: Journal, answers: list[int]) -> None:
    """Answer the questions of the run and its children from a process of its own, some of them twice."""
    dice, open_answers = process.simulator.chance, set(answers)
    engine = REGISTRY.adopt(
        Engine(journal, durability=Durability.PROCESS, clock=process, threads=process, entropy=dice.randbytes)
    )
    with engine:
        while open_answers:
            process.sleep(dice.choice([0.02, 1.0, 5.0]))
            asked = [(each, int(each.question.text.split()[1])) for each, _, _ in asked_now(engine)]
            if unanswered := [(each, n) for each, n in asked if n in open_answers]:
                each, n = dice.choice(unanswered)
                for _ in range(dice.choice([1, 1, 2])):
                    with suppress(NothingToDo, RunFinished):  # it is answered already, and its run may have ended
                        answer_question(engine, each.row.run_id, True if each.row.name == APPROVE else n, each.row.step)
                        open_answers.discard(n)


@contextmanager
def probes_watched() -> Iterator[None]:
    """Assert that of living processes one attempt at most is at work to which a half-open breaker has let through."""
    left_s, leave, drop = BreakerGate.left_s, BreakerGate.leave, BreakerGate.drop

    def asked(gate: BreakerGate) -> float | None:
        found = left_s(gate)
        if gate._is_probe:
            WORLD[-1].probe(gate, gate._access.owner)
        return found

    def left(gate: BreakerGate, error: BaseException | None) -> None:
        WORLD[-1].probes.pop(gate, None)
        leave(gate, error)

    def dropped(gate: BreakerGate) -> None:
        WORLD[-1].probes.pop(gate, None)
        drop(gate)

    BreakerGate.left_s, BreakerGate.leave, BreakerGate.drop = asked, left, dropped  # type: ignore[method-assign]
    try:
        yield
    finally:
        BreakerGate.left_s, BreakerGate.leave, BreakerGate.drop = left_s, leave, drop  # type: ignore[method-assign]


@contextmanager
def uncollected() -> Iterator[None]:
    """Let the garbage collector run between seeds only: in one, it would end coroutines at a time of its own."""
    gc.disable()
    gc.freeze()  # what other tests have left in this process is not looked at again after each seed
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # some coroutines of the dead were never awaited
            gc.collect()
        gc.unfreeze()
        gc.enable()


def simulated(seed: str, *, is_async: bool = False, kinds: list[str] | None = None, is_detached: bool = False) -> int:
    """Live through one seed; return how many switches of threads it took."""
    dice = Random(seed)
    world = World(dice)
    WORLD.append(world)
    program = programs.random_program(dice, world, is_async=is_async, of=kinds)
    flow = programs.main_async if is_async else programs.main
    expected = programs.expected(program)
    simulator, journal = Simulator(seed), MemoryJournal()
    options = {"has_limits": "undone" not in (kinds or ()), "is_detached": is_detached}
    n_kernels = dice.choice([1, 1, 2])
    kernels = [Kernel(simulator, journal, world, program, flow, **options) for _ in range(n_kernels)]
    for kernel in kernels:
        simulator.start(kernel.live)
    if payloads := programs.signals(program):
        simulator.start(lambda process: send_all(process, journal, payloads))
    if answers := programs.questions(program):
        simulator.start(lambda process: answer_all(process, journal, answers))
    with probes_watched():
        simulator.play()
    for engine in (engine for kernel in kernels for engine in kernel.engines):
        engine.sessions.clear()  # a process that died has none; in this one they would go on being heard
    # One that dies when it gives back its places has its result already, and asks for it again.
    assert [{*kernel.results} for kernel in kernels] == [{expected}] * len(kernels)
    assert world.again == []
    assert world.standing == set(), "what a failed run did is undone"
    with journal.reading() as reader:
        assert {each.event_id for each in triggers_of(reader).events()} == set(world.emitted.values())
    check_history(journal)
    return simulator.n_switches


def check_history(journal: MemoryJournal) -> None:
    """Assert that all runs are completed, and that their rows are those of their events."""
    with journal.reading() as reader:
        events = reader.events(Select())
        steps = defaultdict(list)
        for row in reader.steps(Select()):
            steps[row.run_id].append(row)
        for run in reader.runs(Select()):
            assert (run.status is RunStatus.FAILED) == (run.name.rpartition(".")[2] in UNDONE)
            assert run.status in ENDED
            state = folded(events, run.run_id)
            assert state.run == run
            assert sorted(state.steps.values(), key=repr) == sorted(steps[run.run_id], key=repr)
            check_reports(reader, run.run_id, steps[run.run_id])
            completed = [row.step for row in steps[run.run_id] if row.status is StepStatus.COMPLETED]
            assert len(completed) == len(set(completed))


def check_reports(reader: Reader, run_id: RunId, rows: list[StepRow]) -> None:
    """Assert that each attempt of a body has measured once, if it is completed, and no attempt twice."""
    found = Counter((row.step, row.attempt) for _, row in reader.extension(TelemetryReader).metrics([run_id]))
    assert set(found.values()) <= {1}
    for row in rows:
        if row.status is StepStatus.COMPLETED and row.name.rpartition(".")[2] in MEASURING:
            assert (row.step, row.attempt) in found


@pytest.mark.parametrize("part", range(20))
@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_whatever_the_seed_the_program_comes_to_its_result_and_nothing_is_done_again(part: int, is_async: bool) -> None:
    for number in range(N_SEEDS[is_async] // 20):
        seed = f"{SEED}{' async' if is_async else ''} {part} {number}"  # owners are named by it, so none comes twice
        try:
            with uncollected():
                assert simulated(seed, is_async=is_async) > 0, "no thread ever gave way to another"
        except BaseException as error:
            error.add_note(f"seed {seed!r}")
            raise
        finally:
            WORLD.clear()


def test_a_child_that_ends_after_an_interrupt_is_waited_for_beside_the_loop_that_ends_it() -> None:
    """Its parent is continued at once, and `begin` on the loop would wait for what only the loop can bring about."""
    try:
        with uncollected():
            kinds = [kind for kind in programs.ASYNC_KINDS if kind != "question"]
            assert simulated("0 async 0 176", is_async=True, kinds=kinds) > 0
    finally:
        WORLD.clear()


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_whatever_the_seed_one_attempt_at_a_time_probes_a_breaker(is_async: bool) -> None:
    for number in range(N_SEEDS[is_async] // 10):
        seed = f"{SEED} breaker{' async' if is_async else ''} {number}"
        with uncollected():
            simulated(seed, is_async=is_async, kinds=programs.GUARDED)


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_whatever_the_seed_each_question_is_answered_once(is_async: bool) -> None:
    for number in range(N_SEEDS[is_async] // 20):
        seed = f"{SEED} people{' async' if is_async else ''} {number}"
        with uncollected():
            simulated(seed, is_async=is_async, kinds=programs.PEOPLE)


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_whatever_the_seed_what_a_failed_run_did_is_undone_once(is_async: bool) -> None:
    for number in range(N_SEEDS[is_async] // 20):
        seed = f"{SEED} undo{' async' if is_async else ''} {number}"
        with uncollected():
            simulated(seed, is_async=is_async, kinds=programs.UNDOING)


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_whatever_the_seed_workers_go_on_with_detached_runs(is_async: bool) -> None:
    for number in range(N_SEEDS[is_async] // 20):
        seed = f"{SEED} detached{' async' if is_async else ''} {number}"
        with uncollected():
            simulated(seed, is_async=is_async, is_detached=True)


FOUND: dict[str, dict[str, Any]] = {
    "11 undo async 44": {"is_async": True, "kinds": programs.UNDOING},
    "11 people 443": {"kinds": programs.PEOPLE},
    "23 detached async 16": {"is_async": True, "is_detached": True},
}


@pytest.mark.parametrize("seed", FOUND)
def test_seeds_that_have_found_faults(seed: str) -> None:
    with uncollected():
        simulated(seed, **FOUND[seed])
