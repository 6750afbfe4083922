"""A decider that a real kernel shows: its picture follows while another cell runs, and when another process decides."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.kernels import Kernel

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parent.parent.parent
DEFINE = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from tests.deciders.orders import Pay, Place, orders
order = orders()
"""
BUSY = """
for number in range(20):
    order.send(Place(f"o-{number}", 1.0))
    time.sleep(0.1)
"""
ELSEWHERE = "order.send(Pay('o-3'))"


def test_the_picture_of_a_decider_follows_it(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        assert kernel.run("%load_ext ironflow_nb" + DEFINE).error is None
        (bundle,) = kernel.run("order").bundles
        assert bundle["text/plain"].startswith("order: no instance yet")
        busy = kernel.run(BUSY)
        assert busy.error is None
        assert 2 <= busy.n_updates <= 12
        assert bundle["text/plain"].startswith("order: 20 instances\n")
        assert "20 here" in bundle["image/svg+xml"]
        subprocess.run([sys.executable, "-c", DEFINE + ELSEWHERE], cwd=tmp_path, check=True, timeout=60)
        kernel.take_updates(lambda _: "1 completed" in bundle["text/plain"])
        assert bundle["text/plain"].startswith("order: 20 instances, 1 completed\n")
