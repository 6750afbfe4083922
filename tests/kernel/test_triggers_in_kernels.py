"""A kernel that is open and has nothing to do starts what another process emits and what a schedule names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ironflow_nb as iron
from tests.kernel.kernels import Kernel
from tests.waits.conftest import until

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

CELL = """
import ironflow_nb as iron
from ironflow_nb import flow

@flow(on="order.placed")
def fulfil(order):
    return order["id"]

@flow
def report():
    return "reported"
"""
EMIT = "import ironflow_nb as iron; iron.emit('order.placed', {'id': 7}); iron.engine().close()"


def test_an_idle_kernel_starts_what_is_due_and_a_new_one_goes_on_with_a_schedule(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        kernel.run("%load_ext ironflow_nb")
        assert kernel.run(CELL).error is None
        subprocess.run([sys.executable, "-c", EMIT], cwd=tmp_path, check=True)
        with iron.open(tmp_path / ".ironflow" / "journal.db") as engine:
            until(lambda: iron.runs(engine=engine)["status"].tolist() == ["completed"])
            assert kernel.run("report.schedule(every_s=0.2)").error is None
            until(lambda: len(iron.runs("report", engine=engine)) >= 2)
            kernel.kill()
    n_fired = 0
    with Kernel(tmp_path) as kernel, iron.open(tmp_path / ".ironflow" / "journal.db") as engine:
        kernel.run("%load_ext ironflow_nb")
        n_fired = len(iron.runs("report", engine=engine))
        assert kernel.run(CELL).error is None
        until(lambda: len(iron.runs("report", engine=engine)) >= n_fired + 2)
        assert iron.runs("report", engine=engine)["key"].is_unique
