"""Bodies in processes: functions of scripts, workers that die or hang, and the end of the process that waits."""

from __future__ import annotations

from pathlib import Path

import pytest

import ironflow_nb as iron
from tests.executors.programs import Program, kill

fcntl = pytest.importorskip("fcntl", reason="forkserver, SIGKILL and locks of files are not on Windows")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["spawn", "forkserver"])
def test_functions_classes_and_exceptions_of_a_script_are_sent_to_its_workers_and_back(
    tmp_path: Path, kind: str
) -> None:
    program = Program(
        tmp_path,
        f"""
class Point:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return type(other) is Point and other.x == self.x

class Odd(Exception):
    def __init__(self, code, hint):
        super().__init__(f"odd {{code}}")
        self.code, self.hint = code, hint

make = lambda: pool("{kind}")

@step
def twice(point): return Point(point.x * 2)

@step(executor=make)
def work(point):
    iron.metric("size", point.x)
    print("not recorded", iron.now() is None, *iron.progress([]), file=open(os.devnull, "w"))
    return twice(point), os.getpid()

@step(executor=make)
async def work_async(point):
    await asyncio.sleep(0)
    return twice(point), os.getpid()

def fails():
    raise KeyError("inside")

@step(executor=make)
def raises(n):
    try:
        fails()
    except KeyError as error:
        raise Odd(n, [1]) from error

@flow
def main():
    found = [work(Point(1)), *work.map([Point(2), Point(3)]), work_async.submit(Point(4)).result()]
    try:
        raises(7)
    except Odd as error:
        import traceback
        return found, error.code, error.hint, repr(error.__cause__), traceback.format_exc()

@flow
async def main_async():
    return [await work.submit(Point(5)), await work_async(Point(6))]

def main_program():
    found, *told, text = main()
    found += asyncio.run(main_async())
    assert [point for point, _ in found] == [Point(2 * n) for n in range(1, 7)]
    assert os.getpid() not in [process for _, process in found]
    assert told == [7, [1], "KeyError('inside')"], told
    print(text)
""",
    )
    shown = program.run()
    assert f'File "{program.script}"' in shown
    assert 'raise KeyError("inside")' in shown
    assert "raise Odd(n, [1]) from error" in shown
    assert "perform_body" not in shown
    assert "dynamic-code" not in shown


def test_a_worker_that_dies_fails_the_attempt_and_the_next_one_has_another(tmp_path: Path) -> None:
    program = Program(
        tmp_path,
        """
@step(executor=lambda: pool(), retries=iron.Retry(attempts=2, delay_s=0))
def dies_once(n):
    note(n)
    if not (HERE / "died").exists():
        (HERE / "died").touch()
        os.kill(os.getpid(), 9)
    return n

given = []

@step(retries=iron.Retry(attempts=3, delay_s=0))
def dies(n):
    os.kill(os.getpid(), 9)

@flow
def main():
    return dies_once(1)

@flow
def main_of_one_pool():
    with pool() as one:
        dies.options(executor=one)(1)

def main_program():
    assert main() == 1
    frame = main.last.attempts()
    assert frame["status"].to_list() == ["failed", "completed"], frame
    assert "WorkerLost: dies_once[0] was lost with its worker: BrokenProcessPool" in frame["error"][0], frame
    try:
        main_of_one_pool()
    except iron.errors.WorkerLost as error:
        assert "takes no more work: BrokenProcessPool" in str(error) and "lambda: ProcessPoolExecutor" in str(error)
        assert main_of_one_pool.last.attempts()["status"].to_list() == ["failed", "failed"]
        print("lost")
""",
    )
    assert program.run() == "lost\n"
    assert program.bodies() == ["1", "1"]


def test_a_body_that_hangs_is_ended_with_its_process_and_the_others_are_done_again(tmp_path: Path) -> None:
    program = Program(
        tmp_path,
        """
make = lambda: pool(n=3)

@step(executor=make)
def work(n):
    note(n)
    wait_for("ended")
    return n

@step(executor=make, timeout_s=0.5)
def hangs():
    while True:  # no signal of Python's ends it
        pass

@flow
def main():
    found = work.map([1, 2])
    while not (HERE / "bodies").exists() or len((HERE / "bodies").read_text().split()) < 2:
        time.sleep(0.01)
    try:
        hangs()
    except iron.errors.StepTimeout as error:
        (HERE / "ended").touch()
        return str(error), list(found)

def main_program():
    print(*main())
    print(main.last.attempts()["status"].to_list())
""",
    )
    text, statuses = program.run().splitlines()
    assert text == "hangs[0] took longer than its timeout_s of 0.5 s; its body was ended with its process [1, 2]"
    assert statuses == "['completed', 'completed', 'timed_out']"
    assert sorted(program.bodies()) == ["1", "1", "2", "2"]


def test_a_cancel_ends_the_process_of_a_body(tmp_path: Path) -> None:
    program = Program(
        tmp_path,
        """
import fcntl

@step(executor=lambda: pool(n=1))
def work():
    with (HERE / "held").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        note("holds")
        wait_for("never")

@flow
def main():
    work()

def main_program():
    run = main.start()
    while not (HERE / "bodies").exists():
        time.sleep(0.01)
    run.cancel()
    print(run.wait().status)
    with (HERE / "held").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
""",
    )
    assert program.run() == "cancelled\n"


@pytest.mark.crash
def test_a_run_whose_process_was_killed_continues_with_what_its_workers_had_brought(tmp_path: Path) -> None:
    program = Program(
        tmp_path,
        """
@step(executor=lambda: pool())
def work(n):
    note(n)
    if n == 2 and not (HERE / "again").exists():
        import fcntl
        with (HERE / "held").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            note("holds")
            wait_for("never")
    return n

@flow
def main():
    return [work(n) for n in range(4)]

def main_program():
    print(main.options(key="k")())
""",
    )
    process = program.start()
    program.await_bodies("holds")
    kill(process)
    with (tmp_path / "held").open() as held:  # the body ends with the process that waits for it
        fcntl.flock(held, fcntl.LOCK_EX)
    program.go("again")
    assert program.run() == "[0, 1, 2, 3]\n"
    assert program.bodies() == ["0", "1", "2", "holds", "2", "3"]


def test_a_process_ends_without_waiting_for_its_workers_and_continues(tmp_path: Path) -> None:
    program = Program(
        tmp_path,
        """
@step(executor=lambda: pool())
def work(n):
    note(n)
    if not (HERE / "again").exists():
        wait_for("never")
    return n

@flow
def main():
    return list(work.map(range(20), concurrency=8))

def main_program():
    if len(sys.argv) > 1:
        print(main.options(key="k")())
    else:
        main.options(key="k").start()
        while not (HERE / "bodies").exists():
            time.sleep(0.01)
""",
    )
    process = program.start()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0
    assert said.startswith("ironflow: run ")
    assert said.endswith("was going on when the process ended; it is interrupted\n")
    assert said.count("\n") == 1, said
    program.go("again")
    assert program.run("again") == f"{list(range(20))}\n"


def test_a_result_that_can_not_be_sent_back_fails_the_step(tmp_path: Path) -> None:
    program = Program(
        tmp_path,
        """
@step(executor=lambda: pool(n=1))
def opens():
    return (n for n in [1])

@flow
def main():
    opens()

def main_program():
    try:
        main()
    except iron.errors.ValueNotStorable as error:
        print(error)
""",
    )
    assert "what opens[0] returned can't be sent back from its worker: TypeError: cannot pickle" in program.run()


def test_the_error_of_a_lost_worker_is_one_of_the_package() -> None:
    assert issubclass(iron.errors.WorkerLost, iron.IronflowError)
