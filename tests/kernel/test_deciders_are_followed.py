"""A decider that a real kernel shows: its picture follows while another cell runs, and when another process decides."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ironflow_nb.notebook.live_pictures import EVERY_S
from tests.kernel.kernels import Kernel

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parent.parent.parent
DEFINE = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from tests.deciders.orders import Pay, Place, orders
order = orders()
"""
BUSY = """
began, number = time.monotonic(), 0
while number < 9 or not os.path.exists("seen"):
    order.send(Place(f"o-{number}", 1.0))
    number += 1
    time.sleep(0.1)
print(number, time.monotonic() - began)
"""
ELSEWHERE = "order.send(Pay('o-3'))"


def test_the_picture_of_a_decider_follows_it(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        assert kernel.run("%load_ext ironflow_nb" + DEFINE).error is None
        (bundle,) = kernel.run("order").bundles
        assert bundle["text/plain"].startswith("order: no instance yet")
        message_id = kernel.send(BUSY)
        n_updates = kernel.take_updates(lambda n: n >= 3)
        (tmp_path / "seen").touch()
        busy = kernel.collect(message_id)
        assert busy.error is None
        number, duration_s = busy.text.split()
        assert n_updates + busy.n_updates <= float(duration_s) / EVERY_S + 2
        if not bundle["text/plain"].startswith(f"order: {number} instances\n"):
            kernel.take_updates(lambda _: bundle["text/plain"].startswith(f"order: {number} instances\n"))
        assert f"{number} here" in bundle["image/svg+xml"]
        subprocess.run([sys.executable, "-c", DEFINE + ELSEWHERE], cwd=tmp_path, check=True, timeout=60)
        kernel.take_updates(lambda _: "1 completed" in bundle["text/plain"])
        assert bundle["text/plain"].startswith(f"order: {number} instances, 1 completed\n")
