"""A worker is killed at each of its commits, before, while and after the server records it: no step that was
acknowledged runs again, and the run goes on with the next worker.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count

import pytest

from tests.remote.conftest import RemoteService
from tests.remote.forked_processes import ForkingProcess
from tests.remote.killing_proxy import KillingProxy, Moment, killing_proxy
from tests.remote.test_push import PushService
from tests.waits.conftest import until

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

pytestmark = [pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL"), pytest.mark.slow, pytest.mark.crash]

COMMITS = ("it is taken over", "work(n)", "work(n + 1)", "it has completed")
"""What the commits of a run of two steps record. An endpoint says besides that its stretch is over."""
INPUTS = count(100, 10)


class Between:
    """A service, and the proxy through which it and those who execute its runs reach each other."""

    def __init__(self, service: RemoteService, proxy: KillingProxy, begin: str) -> None:
        self._service, self._proxy, self._begin = service, proxy, begin
        self._forking = ForkingProcess(service.folder, service.environment)
        self._worker = self._forking.begin(begin)

    def run_with_death(self, flow: str, n: int, moment: Moment) -> None:
        """Kill the worker at its n-th commit, begin another one, and look what was done how often."""
        victim, given = self._worker, next(INPUTS)
        self._proxy.aim(victim, n, moment)
        run_id = self._service.start(flow, input={"n": given})["run_id"]
        until(lambda: not victim.is_alive)
        if n > len(COMMITS) or (n == len(COMMITS) and moment is not Moment.UNSENT):
            self._service.until_status(run_id, "completed")  # without any worker
        self._worker = self._forking.begin(self._begin)
        assert self._service.until_status(run_id, "completed")["result"] == [given**2, (given + 1) ** 2]
        for commit, argument in ((2, given), (3, given + 1)):
            n_times = self._service.bodies().count(f"work {argument}")
            is_acknowledged = commit < n or (commit == n and moment is not Moment.UNSENT)
            if is_acknowledged or (commit, moment) == (n, Moment.UNSENT):
                assert n_times == 2 - is_acknowledged
            assert n_times in {1, 2}

    def close(self) -> None:
        self._forking.close()
        self._service.close()


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Between]:
    """Return a service of which workers take runs."""
    service = RemoteService(tmp_path_factory.mktemp("pulled"))
    service.begin("--no-work", files=("job.py",))
    with killing_proxy(str(service.client.base_url)) as proxy:
        between = Between(service, proxy, f"command_line({['work', 'job.py', '--url', proxy.url]})")
        yield between
        between.close()


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Between]:
    """Return a service that pushes runs to an endpoint."""
    service = PushService(tmp_path_factory.mktemp("pushed"))
    with killing_proxy(f"http://127.0.0.1:{service.port}") as proxy:
        service.begin("--endpoint", f"{proxy.url}/run/", files=("job",))
        between = Between(service, proxy, f"sys.argv[1:] = ['{service.port}']; import app")
        yield between
        between.close()


@pytest.mark.parametrize("n", range(1, len(COMMITS) + 1), ids=COMMITS)
@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("flow", ["two", "two_async"])
def test_a_worker_dies_at_a_commit(pulled: Between, flow: str, moment: Moment, n: int) -> None:
    if (moment, n, flow) == (Moment.UNSENT, 1, "two_async"):
        pytest.skip("as for the other flow: ten seconds pass before the run is offered again")
    pulled.run_with_death(flow, n, moment)


@pytest.mark.parametrize("n", range(1, len(COMMITS) + 2), ids=[*COMMITS, "its stretch is over"])
@pytest.mark.parametrize("moment", [Moment.UNSENT, Moment.ANSWERED])
@pytest.mark.parametrize("flow", ["two", "two_async"])
def test_an_endpoint_dies_at_a_commit(pushed: Between, flow: str, moment: Moment, n: int) -> None:
    pushed.run_with_death(flow, n, moment)
