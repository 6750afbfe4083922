"""Flows in real kernels: written in cells, interrupted, killed, continued, watched from another kernel."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tests.kernel.kernels import Kernel

pytestmark = pytest.mark.kernel

FLOW = """
import time
from ironflow_nb import flow, step

@step
def work(n):
    with open("bodies.log", "a") as log:
        log.write(f"{n}\\n")
    time.sleep(PAUSE[0])
    return n * 10

@flow
def main(count):
    return [work(n) for n in range(count)]
"""


def define(kernel: Kernel, pause_s: float = 0.0) -> None:
    assert kernel.run("%load_ext ironflow_nb").error is None
    assert kernel.run(f"PAUSE = [{pause_s}]" + FLOW).error is None


def bodies(folder: Path) -> list[int]:
    log = folder / "bodies.log"
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def wait_for_bodies(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(bodies(folder)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_run_of_the_background_is_followed_in_the_cell_that_attaches_to_it(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        define(kernel, pause_s=0.2)
        assert kernel.run("run = main.start(5)").error is None
        shown = kernel.run("%ironflow attach run")
        assert kernel.run("run.result()").of("text/plain") == ["[0, 10, 20, 30, 40]"]
        deadline = time.monotonic() + 30
        while not any("5 of 5" in svg for svg in shown.of("image/svg+xml")):
            assert time.monotonic() < deadline
            kernel.run("import time; time.sleep(0.1)")
        assert shown.error is None


def test_a_flow_of_cells_runs_and_shows_its_picture(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        define(kernel)
        shown = kernel.run("main(5)")
        assert shown.error is None
        assert shown.of("text/plain")[-1] == "[0, 10, 20, 30, 40]"
        (svg,) = shown.of("image/svg+xml")
        assert "work" in svg
        assert "5 of 5" in svg
        assert shown.text == ""


def test_a_killed_kernel_loses_nothing_and_the_next_one_continues(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        define(kernel, pause_s=0.02)
        kernel.send("main(60)")
        wait_for_bodies(tmp_path, 20)
        kernel.kill()
    before = bodies(tmp_path)
    with Kernel(tmp_path) as kernel:
        card = kernel.run("%load_ext ironflow_nb")
        assert "1 unfinished run" in card.of("text/plain")[0]
        assert "main" in card.of("text/html")[0]
        define(kernel)
        shown = kernel.run("sum(main(60))")
        assert shown.of("text/plain")[-1] == str(sum(range(60)) * 10)
        assert "continuing run" in shown.text
        assert "interrupted" in shown.text
        assert shown.text.count("\n") == 1
        frame = kernel.run("import ironflow_nb as iron; print(len(iron.runs()), iron.runs()['n_sessions'][0])")
        assert frame.text == "1 2\n"
    after = bodies(tmp_path)
    # At most the step that was in flight ran again.
    assert after[: len(before)] == before
    assert set(after[len(before) :]) & set(before[:-1]) == set()
    assert sorted(set(after)) == list(range(60))


def test_a_run_of_another_kernel_is_shown_in_the_cell_that_calls_it(tmp_path: Path) -> None:
    with Kernel(tmp_path) as first, Kernel(tmp_path) as second:
        define(first, pause_s=0.1)
        define(second, pause_s=0.1)
        running = first.send("sum(main(30))")
        wait_for_bodies(tmp_path, 3)
        joined = second.run("sum(main(30))")
        assert first.collect(running).error is None
        recorded = second.run("sum(main(30))")
    assert "is going on already, and this call joins it" in joined.text
    assert "its result is returned" in recorded.text
    for shown in (joined, recorded):
        (picture,) = shown.of("image/svg+xml")
        assert "30 of 30" in picture
        assert shown.of("text/plain")[-1] == str(sum(range(30)) * 10)
    assert bodies(tmp_path) == list(range(30))


@pytest.mark.skipif(sys.platform == "win32", reason="interrupts of Windows kernels go another way")
def test_the_stop_button_interrupts_and_the_cell_continues(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        define(kernel, pause_s=0.05)
        cell = kernel.send("result = main(40)")
        wait_for_bodies(tmp_path, 10)
        kernel.interrupt()
        shown = kernel.collect(cell)
        assert shown.error is not None
        assert shown.error.startswith("KeyboardInterrupt")
        status = kernel.run("print(main.last.status)")
        assert status.text == "interrupted\n"
        kernel.run("PAUSE[0] = 0")
        shown = kernel.run("result = main(40)")
        assert shown.error is None
        assert "continuing run" in shown.text
        assert kernel.run("print(sum(result))").text == f"{sum(range(40)) * 10}\n"
    counts = {n: bodies(tmp_path).count(n) for n in range(40)}
    assert sum(counts.values()) <= 41


def test_a_failing_cell_shows_the_users_frames_and_two_lines_of_ours(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        kernel.run("%load_ext ironflow_nb\n%xmode Context")
        kernel.run("""
from ironflow_nb import flow, step
@step
def parse(text):
    return int(text)
@flow
def main(texts):
    return [parse(text) for text in texts]
""")
        shown = kernel.run("main(['1', '2', 'x'])")
        assert shown.error is not None
        assert shown.error.startswith("ValueError")
        assert "ironflow_nb/execution" not in shown.traceback
        assert "2 finished steps are kept" in shown.traceback
        assert "run the cell again, or iron.resume(" in shown.traceback
        assert shown.traceback.index("int(text)") < shown.traceback.index("2 finished steps are kept")
        fixed = kernel.run("""
@step
def parse(text):
    return int(text) if text.isdigit() else -1
""")
        assert fixed.error is None
        shown = kernel.run("main(['1', '2', 'x'])")
        assert shown.of("text/plain")[-1] == "[1, 2, -1]"


def test_a_background_run_is_followed_by_its_picture_while_other_cells_run(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        define(kernel, pause_s=1.0)
        shown = kernel.run("run = main.start(30)\nrun")
        (bundle,) = shown.bundles
        first = bundle["image/svg+xml"]
        assert "running" in bundle["text/plain"]
        kernel.run("1 + 1")
        kernel.take_updates(lambda n_updates: n_updates >= 2)
        assert bundle["image/svg+xml"] != first
        kernel.run("PAUSE[0] = 0")
        shown = kernel.run("sum(run.result())")
        assert shown.of("text/plain")[-1] == str(sum(range(30)) * 10)
        kernel.take_updates(lambda _: "completed" in bundle["text/plain"])
        assert "30 of 30" in bundle["image/svg+xml"]


def test_top_level_await_runs_an_async_flow_and_the_kernel_stays_free(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        kernel.run("%load_ext ironflow_nb")
        kernel.run("""
import asyncio
from ironflow_nb import flow, step
@step
async def fetch(n):
    await asyncio.sleep(0.01)
    return n
@flow
async def main(count):
    return sum(await asyncio.gather(*[fetch(n) for n in range(count)]))
""")
        assert kernel.run("await main(20)").of("text/plain")[-1] == "190"
        assert kernel.run("run = main.start(21)\nawait run").of("text/plain")[-1] == "210"
        assert kernel.run("asyncio.run(main(22))").error is not None
        assert kernel.run("%ironflow nest on").error is None
        assert kernel.run("asyncio.run(main(22))").of("text/plain")[-1] == "231"
        assert kernel.run("await main(23)").of("text/plain")[-1] == "253"


def test_a_map_is_waited_for_in_a_cell_although_a_loop_runs_under_it(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        define(kernel, pause_s=0.01)
        kernel.run("""
@step
async def later(n):
    return n + 1
@flow
def mapped(count):
    first = work.map(range(count))
    return sum(later.map(first)) + work.submit(1).result() + later.submit(2).result()
@flow
def wrong():
    return later(1)
""")
        assert kernel.run("mapped(30)").of("text/plain")[-1] == str(sum(range(30)) * 10 + 30 + 10 + 3)
        assert "later.submit(...).result()" in str(kernel.run("wrong()").error)


def test_two_kernels_on_one_journal_one_executes_and_the_other_watches(tmp_path: Path) -> None:
    with Kernel(tmp_path) as one, Kernel(tmp_path) as two:
        define(one, pause_s=0.02)
        define(two)
        one.run("run = main.start(60)")
        wait_for_bodies(tmp_path, 5)
        shown = two.run(
            "import ironflow_nb as iron\nprint(iron.runs()['status'][0], iron.runs()['n_completed'][0] > 2)"
        )
        assert shown.text == "running True\n"
        shown = two.run("watched = main.last\nprint(watched.result(timeout_s=30)[-1])")
        assert shown.text == "590\n"
        # A call of the same flow attaches to what the other kernel executes.
        one.run("run = main.start(61)")
        wait_for_bodies(tmp_path, 70)
        joined, result = two.run("second = main.start(61)\nprint(second.result(timeout_s=30)[-1])").text.splitlines()
        assert "is going on already, and this call joins it" in joined
        assert result == "600"
    assert bodies(tmp_path) == [*range(60), *range(61)]


def test_an_attached_kernel_takes_over_when_the_owner_dies(tmp_path: Path) -> None:
    with Kernel(tmp_path) as one, Kernel(tmp_path) as two:
        define(one, pause_s=0.05)
        define(two)
        one.run("run = main.start(40)")
        wait_for_bodies(tmp_path, 8)
        cell = two.send("print(main(40)[-1])")
        time.sleep(0.3)
        one.kill()
        assert two.collect(cell).text.endswith("390\n")
        assert two.run("print(list(main.last.events()['type']).count('RunContinued'))").text == "1\n"
    assert len(bodies(tmp_path)) <= 41


def test_loading_unloading_and_reloading_the_extension_works_and_creates_nothing(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        assert kernel.run("%load_ext ironflow_nb").text == ""
        assert kernel.run("%load_ext ironflow_nb").error is None
        assert kernel.run("%reload_ext ironflow_nb").error is None
        assert kernel.run("%ironflow runs").error is None
        assert kernel.run("%unload_ext ironflow_nb").error is None
        assert "ironflow" in (kernel.run("%ironflow runs").text + str(kernel.run("%ironflow runs").error))
        assert kernel.run("%load_ext ironflow_nb").error is None
        assert list(tmp_path.iterdir()) == []


def test_magics_show_runs_and_refuse_typos(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        define(kernel)
        kernel.run("main(3)")
        run_id = kernel.run("print(main.last.id)").text.strip()
        assert run_id[:6] in kernel.run("%ironflow runs").of("text/plain")[0]
        assert "work[2]" in kernel.run("%ironflow steps").of("text/plain")[0]
        assert "StepCompleted" in kernel.run(f"%ironflow events {run_id[:4]}").of("text/plain")[0]
        assert "work" in kernel.run("%ironflow show").of("image/svg+xml")[0]
        overview = kernel.run("%ironflow")
        assert overview.error is None
        assert run_id[:6] in overview.of("text/plain")[0]
        assert "%ironflow runs | show | " in overview.text
        assert "did you mean %ironflow runs" in kernel.run("%ironflow rnus").text
        for line in ("%ironflow show zzzz", "%ironflow steps --status green", "%ironflow runs --limit many"):
            shown = kernel.run(line)
            assert "UsageError" in shown.text, line
        assert "%ironflow resume" in " ".join(kernel.complete("%ironflow re")) or "resume" in kernel.complete(
            "%ironflow re"
        )
        assert kernel.run("%ironflow use other.db").error is None
        assert kernel.run("import ironflow_nb as iron; print(len(iron.runs()))").text == "0\n"
        assert kernel.run("%ironflow?").error is None


def test_widgets_pandas_and_graphviz_are_not_imported_by_loading_or_running(tmp_path: Path) -> None:
    with Kernel(tmp_path, {"IRONFLOW_STATIC": "1"}) as kernel:  # a run that lasts has a card, which is a widget
        kernel.run("import sys; before = set(sys.modules)")
        define(kernel)
        kernel.run("main(3)")
        found = kernel.run(
            "print(sorted({'pandas', 'ipywidgets', 'graphviz', 'pyarrow', 'cloudpickle'} & set(sys.modules) - before))"
        )
        assert found.text == "[]\n"
