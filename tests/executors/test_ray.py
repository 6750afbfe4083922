"""Bodies as tasks of Ray, in processes of this machine."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.errors import WorkerLost
from tests.conftest import IN_CI
from tests.executors.test_clusters import Refused, dies, refuses, touched, waits, work
from tests.waits.conftest import until

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

HAS_WHEELS = sys.platform == "linux" and sys.version_info < (3, 14)


@pytest.fixture
def ray() -> Iterator[Any]:
    if not (IN_CI and HAS_WHEELS):
        pytest.importorskip("ray", reason="Ray is not installed, or has no wheels for this Python or system")
    os.environ["RAY_AUTH_MODE"] = "disabled"  # else it writes a token into the folder of the user
    import ray

    yield ray
    ray.shutdown()
    for process in [each for each in gc.get_objects() if isinstance(each, subprocess.Popen)]:
        if "/ray/" in str(process.args):  # which it has ended and waited for by now, unless it could not start
            process.kill()
            process.wait()
    del os.environ["RAY_AUTH_MODE"]


def connect(ray: Any) -> None:
    """Begin a cluster. Ray gives up when that takes half a minute, as it can on a machine that is busy."""
    try:
        ray.init(num_cpus=2, resources={"gpu": 1}, include_dashboard=False, log_to_driver=False)
    except Exception as error:
        if "timed out during startup" not in str(error):
            raise
        pytest.skip(f"this machine is too busy for Ray: {error}")


@step
def pid_of(array: Any) -> tuple[int, float]:
    return os.getpid(), float(array.sum())


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def bodies_are_tasks_and_what_they_raise_comes_back(_: Path) -> None:
    there = iron.RayExecutor(num_cpus=1, resources={"gpu": 1})
    found = flow(lambda: list(work.map([1, 2, 2])), name="main").options(executor=there)()
    assert [n for n, _ in found] == [2, 3, 3]
    assert os.getpid() not in {process for _, process in found}
    with pytest.raises(Refused) as caught:
        flow(lambda: refuses.options(executor=there)(7), name="main2")()
    assert caught.value.where == "here"


def a_worker_that_dies_fails_the_attempt_and_not_the_run(tmp_path: Path) -> None:
    there = dies.options(executor=iron.RayExecutor())
    assert flow(lambda: there(tmp_path / "log", 1), name="main")() == "alive"
    assert iron.attempts()["status"].to_list() == ["failed", "completed"]
    with pytest.raises(WorkerLost, match="was lost with its worker: WorkerCrashedError"):
        flow(lambda: there.options(retries=0)(tmp_path / "other", 9), name="main2")()


def a_cancel_ends_the_process_of_the_body(tmp_path: Path) -> None:
    @step
    def notes_and_waits(path: Path) -> None:
        path.write_text(str(os.getpid()))
        threading.Event().wait(600)

    run = flow(lambda: notes_and_waits.options(executor=iron.RayExecutor())(tmp_path / "pid"), name="main").start()
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
    pid = int((tmp_path / "pid").read_text())
    run.cancel()
    assert run.wait().status == "cancelled"
    until(lambda: not is_running(pid))


def a_pause_lets_a_body_end_whose_result_counts(tmp_path: Path) -> None:
    there = waits.options(executor=iron.RayExecutor())
    run = flow(lambda: there(tmp_path / "log"), name="main").start()
    until((tmp_path / "log").exists)
    run.pause()
    (tmp_path / "go").touch()
    assert run.wait().status == "paused"
    assert iron.steps()["status"].to_list() == ["completed"]
    assert touched(tmp_path / "log", "began")


def large_arrays_go_by_reference(tmp_path: Path) -> None:
    with iron.open(tmp_path / "placed.db", values=tmp_path / "values") as engine:
        there = pid_of.options(executor=iron.RayExecutor())
        assert flow(lambda: there(np.ones(200_000)), name="main")()[1] == 200_000
        assert len([path for path in (tmp_path / "values").rglob("*") if path.is_file()]) == 1
        engine.close()


def test_tasks_of_ray_do_what_bodies_in_other_executors_do(ray: Any, tmp_path: Path) -> None:
    connect(ray)  # one cluster for all of it
    for check in (
        bodies_are_tasks_and_what_they_raise_comes_back,
        a_worker_that_dies_fails_the_attempt_and_not_the_run,
        a_cancel_ends_the_process_of_the_body,
        a_pause_lets_a_body_end_whose_result_counts,
        large_arrays_go_by_reference,
    ):
        (tmp_path / check.__name__).mkdir()
        with iron.open(tmp_path / check.__name__ / "journal.db", durability="process"):
            check(tmp_path / check.__name__)


def test_without_ray_or_a_connection_to_it_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, ray: Any) -> None:
    executor = iron.RayExecutor()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="was shut down, and takes no more calls"):
        executor.submit(int)
    with pytest.raises(RuntimeError, match=r"call ray\.init"):
        iron.RayExecutor().submit(int)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"ironflow-nb\[ray\]"):
        iron.RayExecutor()
