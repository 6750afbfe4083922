"""A map of five thousand items in a real kernel: mended in a cell, stopped by the guard, kept or done again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kernel.kernels import Kernel

pytestmark = pytest.mark.kernel

N_ITEMS, N_BAD = 5_000, 37
# Sleeping costs the kernel nothing, and 64 at a time are through in a second; what is recorded adds up to 65 s.
STEP = """
@step
def fetch(n):
    with open("bodies.log", "a") as log:
        log.write(f"{n}\\n")
    time.sleep(0.013)
    BODY
    return n
"""
FLOW = """
import time
from pathlib import Path
import ironflow_nb as iron
from ironflow_nb import flow, step
iron.use(".ironflow/journal.db", durability="process")

@step
def publish(total):
    if not Path("shop").exists():
        raise ConnectionError("the shop is closed")
    return total

@flow
def main(count):
    pages = fetch.map(range(count), concurrency=64, on_error="collect")
    if len(pages.errors):
        raise RuntimeError(f"{len(pages.errors)} pages failed")
    return publish(sum(pages))
"""
BROKEN = STEP.replace("BODY", "if n % 135 == 7: raise ValueError(n)")
GUARD = re.compile(
    r"CodeChanged: fetch has changed \(edited: line 6 of `fetch`\) since ([\d,]+) finished steps "
    r"\((1 min \d+ s) of work\)"
)


def n_bodies(folder: Path) -> int:
    """Return how many bodies were run, and forget them."""
    n_lines = len((folder / "bodies.log").read_text().splitlines())
    (folder / "bodies.log").write_text("")
    return n_lines


def test_what_is_kept_and_what_is_done_again_after_a_map_was_mended(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        kernel.run("%load_ext ironflow_nb")
        kernel.run(FLOW)
        kernel.run(BROKEN)
        assert kernel.run(f"main({N_ITEMS})").error == f"RuntimeError: {N_BAD} pages failed"
        assert n_bodies(tmp_path) == N_ITEMS

        kernel.run(STEP.replace("BODY", "n = abs(n)"))
        plan = kernel.run(f"main.plan({N_ITEMS})['action'].value_counts().to_dict()")
        assert plan.of("text/plain") == [f"{{'stop': {N_ITEMS - N_BAD}, 'retry': {N_BAD}}}"]
        stopped = kernel.run(f"main({N_ITEMS})").error or ""
        told = GUARD.search(stopped)
        assert told is not None, stopped
        assert int(told[1].replace(",", "")) == N_ITEMS - N_BAD
        assert n_bodies(tmp_path) == 0

        keep, refresh = re.findall(r"main\.options\(.*?\)\.resume\(\)", stopped)
        assert kernel.run(f"{keep}.result()").error == "ConnectionError: the shop is closed"
        assert n_bodies(tmp_path) == N_BAD

        kernel.run(STEP.replace("BODY", "n = abs(n) + 0"))
        stopped = kernel.run(f"main({N_ITEMS})").error or ""
        assert f"since {N_ITEMS:,} finished steps (1 min" in stopped
        assert n_bodies(tmp_path) == 0
        (tmp_path / "shop").touch()
        total = kernel.run(f"{refresh}.result()")
        assert total.of("text/plain") == [str(sum(range(N_ITEMS)))], total.error
        assert n_bodies(tmp_path) == N_ITEMS
        assert kernel.run("len(iron.runs())").of("text/plain") == ["1"]
