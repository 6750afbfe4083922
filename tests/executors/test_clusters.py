"""The same bodies in loky, and in a Dask cluster of processes on this machine."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.errors import StepTimeout, WorkerLost
from tests.conftest import IN_CI
from tests.waits.conftest import until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("engine")]

Given = Executor | Callable[[], Executor]
AGAIN = iron.Retry(attempts=2, delay_s=0)


class Refused(Exception):
    def __init__(self, code: int, where: str) -> None:
        super().__init__(code)
        self.where = where


@step
def plus_one(n: int) -> int:
    return n + 1


@step
def work(n: int) -> tuple[int, int]:
    return plus_one(n), os.getpid()


@step
async def work_async(n: int) -> tuple[int, int]:
    await asyncio.sleep(0)
    return plus_one(n), os.getpid()


@step
def refuses(n: int) -> None:
    raise Refused(n, "here")


def touched(path: Path, word: str) -> bool:
    """Note a word; return True if it was noted before."""
    with path.open("a") as log:
        log.write(f"{word}\n")
    return path.read_text().split().count(word) > 1


@step(retries=AGAIN)
def dies(path: Path, n_times: int) -> str:
    for n in range(n_times):
        if not touched(path, f"death{n}"):
            os._exit(1)
    return "alive"


@step
def waits(path: Path) -> int:
    touched(path, "began")
    while not path.with_name("go").exists():
        threading.Event().wait(0.01)
    return 1


def needed(name: str) -> Any:
    """Return the library; without it, fail in CI and skip elsewhere."""
    return __import__(name) if IN_CI else pytest.importorskip(name, reason=f"{name} is not installed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = needed("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "resources": {"gpu": 1}}
    with distributed.LocalCluster(**options) as made, distributed.Client(made) as client:
        yield client


@pytest.fixture(scope="module")
def loky() -> Iterator[Any]:
    library = needed("loky")
    yield library.get_reusable_executor
    library.get_reusable_executor().shutdown(wait=True, kill_workers=True)


@pytest.fixture(params=["loky", "dask"])
def given(request: pytest.FixtureRequest) -> Given:
    if request.param == "loky":
        return request.getfixturevalue("loky")  # type: ignore[no-any-return]
    return request.getfixturevalue("cluster").get_executor()  # type: ignore[no-any-return]


def test_bodies_run_in_the_processes_of_a_cluster(given: Given) -> None:
    @flow
    def main() -> Any:
        equal = work.map([5] * 3)  # Dask takes equal calls for one
        return [work(1), *work.map([2, 3]), work_async.submit(4).result(), *equal]

    @flow
    async def main_async() -> Any:
        return [await work.submit(1), await work_async(2), *await work_async.map([3])]

    found = main.options(executor=given)()
    assert [n for n, _ in found] == [2, 3, 4, 5, 6, 6, 6]
    assert os.getpid() not in [process for _, process in found]
    assert [n for n, _ in asyncio.run(main_async.options(executor=given)())] == [2, 3, 4]


def test_a_body_gets_the_resources_that_its_executor_asks_for(cluster: Any) -> None:
    there = work.options(executor=cluster.get_executor(resources={"gpu": 1}))
    assert [n for n, _ in flow(lambda: list(there.map([1, 2, 3])), name="main")()] == [2, 3, 4]
    nowhere = work.options(executor=cluster.get_executor(resources={"gpu": 2}), timeout_s=0.2)
    with pytest.raises(StepTimeout):
        flow(lambda: nowhere(1), name="main2")()


def test_an_exception_in_a_cluster_comes_back_as_it_was_with_its_own_lines(given: Given) -> None:
    with pytest.raises(Refused) as caught:
        flow(lambda: refuses.options(executor=given)(7), name="main")()
    assert caught.value.where == "here"
    last = caught.traceback[-1]
    assert (last.frame.code.name, Path(str(last.path)).name) == ("refuses", "test_clusters.py")
    assert str(last.statement).strip() == 'raise Refused(n, "here")'


def test_a_worker_of_loky_that_dies_fails_the_attempt_and_not_the_run(loky: Given, tmp_path: Path) -> None:
    assert flow(lambda: dies.options(executor=loky)(tmp_path / "log", 1), name="main")() == "alive"
    assert iron.attempts()["status"].to_list() == ["failed", "completed"]
    assert "WorkerLost: " in iron.attempts()["error"][0]


def test_a_cluster_of_dask_tries_again_itself_before_the_worker_counts_as_lost(cluster: Any, tmp_path: Path) -> None:
    there = dies.options(executor=cluster.get_executor(), retries=0)
    assert flow(lambda: there(tmp_path / "log", 1), name="main")() == "alive"
    with pytest.raises(WorkerLost, match=r"was lost with its worker: KilledWorker"):
        flow(lambda: there(tmp_path / "other", 9), name="main2")()


def test_a_cancel_reaches_a_cluster(cluster: Any, tmp_path: Path) -> None:
    there = waits.options(executor=cluster.get_executor())
    run = flow(lambda: there(tmp_path / "log"), name="main").start()
    until((tmp_path / "log").exists)
    run.cancel()
    assert run.wait().status == "cancelled"
    until(lambda: not any("waits" in key for key in cluster.cluster.scheduler.tasks))
    (tmp_path / "go").touch()


def test_a_time_limit_reaches_a_cluster(given: Given, tmp_path: Path) -> None:
    there = waits.options(executor=given, timeout_s=0.5)
    with pytest.raises(StepTimeout):
        flow(lambda: there(tmp_path / "log"), name="main")()
    (tmp_path / "go").touch()
    assert flow(lambda: work.options(executor=given)(1)[0], name="main2")() == 2
