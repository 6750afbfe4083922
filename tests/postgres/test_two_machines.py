"""One of two machines vanishes: the other one goes on when the lease is over, with the values of the first."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ironflow_nb as iron
from tests.postgres import machine
from tests.postgres.server import Server
from tests.postgres.test_engine_on_postgres import ROOT, until

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def worker(name: str, url: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        command = [sys.executable, "-m", "tests.postgres.machine", name, url]
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["in the database", "in a shared folder"])
def test_a_machine_that_vanished_is_replaced_when_its_lease_is_over(
    server: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_elsewhere: bool
) -> None:
    ledger = tmp_path / "ledger"
    ledger.touch()
    schema = url.partition("schema=")[2]
    monkeypatch.setenv("LEDGER", str(ledger))
    monkeypatch.setenv("MACHINE", "here")
    with iron.open(url, values=tmp_path / "shared" if is_elsewhere else None) as engine:
        run = machine.report.start(detach=True)
        with worker("first", url, tmp_path / "log") as first:
            until(lambda: "first total" in ledger.read_text())
            first.kill()
            first.wait()
        assert run.status == "running"  # nobody on another machine can know yet
        server.execute(f"UPDATE {schema}.leases SET heartbeat_at = heartbeat_at - 60000000 WHERE host = 'first'")
        assert run.result(timeout_s=60) == machine.N * (machine.N - 1) // 2
        assert ledger.read_text().split("\n") == ["first table", "first total", "here total", ""]
        assert (tmp_path / "shared").exists() == is_elsewhere
        engine.close()
