"""What steps write in a real kernel: in the cell that began the run, however many cells came later, and in the log."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.kernel.kernels import TIMEOUT_S, Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

CELL = """
import asyncio, logging, sys, time
from pathlib import Path
import ironflow_nb as iron
from ironflow_nb import flow, step

def bar():
    for n in range(5):
        sys.stderr.write(f"\\r{n + 1}/5")
    sys.stderr.write("\\n")

@step
def talk(n):
    print("begun", n)
    while not Path("go").exists():
        time.sleep(0.01)
    bar()
    logging.getLogger("mine").warning("warned")
    print("done", n)

@step
async def talk_async(n):
    print("begun", n)
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    print("done", n)

@flow
def work():
    print("flow")
    talk.submit(1).result()
    talk(2)

@flow
async def work_async():
    print("flow")
    await asyncio.gather(talk_async(1), talk_async(2))
"""


def written(kernel: Kernel, until: str) -> dict[str, str]:
    """Return what was written to each cell, by its message, until that text came."""
    texts: dict[str, str] = {}
    deadline = time.monotonic() + TIMEOUT_S
    while until not in "".join(texts.values()):
        message = kernel._client.get_iopub_msg(timeout=max(0.1, deadline - time.monotonic()))
        if message["msg_type"] == "stream":
            cell = message["parent_header"]["msg_id"]
            texts[cell] = texts.get(cell, "") + message["content"]["text"]
    return texts


def test_runs_in_the_background_write_into_the_cell_that_began_them(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        kernel.run("%load_ext ironflow_nb")
        assert kernel.run(CELL).error is None
        begun = kernel.send("runs = [work.start(), work_async.start()]")
        assert written(kernel, "begun 2").keys() == {begun}
        other = kernel.send("Path('go').touch(); [run.wait() for run in runs]; print('the other cell')")
        texts = written(kernel, "the other cell")
        assert texts.pop(other) == "the other cell\n"
        assert texts.keys() <= {begun}  # the rest may still come
        log = kernel.run("print('LOGS', *(str(run.log()) for run in runs), sep='|')").text
        of_def, of_async = log.split("LOGS|")[1].split("|")
        assert [line for line in of_def.splitlines() if not line.startswith("--")] == [
            "flow", "begun 1", "5/5", "WARNING mine: warned", "done 1", "begun 2", "5/5", "WARNING mine: warned",
            "done 2",
        ]  # fmt: skip
        assert sorted(line for line in of_async.splitlines() if not line.startswith("--")) == [
            "begun 1", "begun 2", "done 1", "done 2", "flow",
        ]  # fmt: skip
        shown = kernel.run("work.options(fresh=True)()").text
        assert "flow\nbegun 1\ndone 1\n" in shown
        assert "warned" in shown
