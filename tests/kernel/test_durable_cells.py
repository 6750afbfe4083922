"""Durable cells in real kernels: restarted, killed, edited, executed out of order and by two at once."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.kernel.kernels import Kernel, Shown

pytestmark = pytest.mark.kernel

ANSI = re.compile(r"\x1b\[[0-9;]*m")
HELPER = "def scale(df, by):\n    return df * by\n"
LOG = "with open('bodies.log', 'a') as log:\n    log.write('{name}\\n')\n"

CELLS = {
    "load": "import numpy as np\nimport pandas as pd\ndf = pd.DataFrame({'a': np.arange(5)})\nprint('loaded')\ndf",
    "clean": "cleaned = scale(df, 3)\ncleaned['b'] = 1",
    "model": "class Model:\n    __slots__ = ('k',)\n    def __init__(self, k): self.k = k\n"
    "    def __reduce__(self): return Model, (self.k,)\nmodel = Model(int(cleaned.a.sum()))",
    "score": "score = model.k + 1\nscore",
    "wait": "import asyncio\nwaited = await asyncio.sleep(0.01, 'done')",
    "shell": "%time total = df.a.sum()\n!echo from the shell",
    "plot": "from IPython.display import display, HTML\ndisplay(HTML('<b>bold</b>'))",
    "array": "array = np.ones(1000)",
    "tools": "def double(n):\n    return 2 * n\nfactor = double(2)",
    "final": "final = [score, waited, int(total), float(array.sum()), double(factor), type(model) is Model]\nfinal",
}


def run_all(kernel: Kernel, helper: str = HELPER, **edited: str) -> dict[str, Shown]:
    """Execute the notebook from top to bottom."""
    assert kernel.run("%load_ext ironflow_nb").error is None
    kernel.run(helper)
    shown = {}
    for name, source in (CELLS | edited).items():
        shown[name] = kernel.run(f"%%step {name}\n{LOG.format(name=name)}{source}")
        assert shown[name].error is None, shown[name].traceback
    return shown


def bodies(folder: Path) -> list[str]:
    """Return whose bodies were executed, and forget them."""
    log = folder / "bodies.log"
    found = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return found


def test_a_notebook_that_is_run_again_restores_its_cells_and_runs_what_changed(tmp_path: Path) -> None:
    expected = "[31, 'done', 10, 1000.0, 8, True]"
    with Kernel(tmp_path) as kernel:
        shown = run_all(kernel)
        assert bodies(tmp_path) == list(CELLS)
        assert shown["final"].of("text/plain") == [expected]
    with Kernel(tmp_path) as kernel:
        shown = run_all(kernel)
        assert bodies(tmp_path) == []
        assert all(each.text.startswith(f"restored {name} (") for name, each in shown.items())
        assert shown["load"].text.endswith("\nloaded\n")
        assert shown["load"].of("text/html")
        assert shown["shell"].text.rstrip().endswith("from the shell")
        assert shown["plot"].of("text/html") == ["<b>bold</b>"]
        assert shown["final"].of("text/plain") == [expected]
        shown = run_all(kernel, "def scale(df, by):\n    # better\n    return by * df * 2\n")
        assert bodies(tmp_path) == ["clean", "model", "score", "final"]
        assert "clean: edited line 3 of `scale`; it runs again" in shown["clean"].text
        run_all(kernel)
        assert bodies(tmp_path) == []
        run_all(kernel, array="array = np.ones(1000)  # one thousand")
        assert bodies(tmp_path) == []


def test_a_cell_whose_kernel_was_killed_runs_again_and_those_before_it_do_not(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        kernel.run("%load_ext ironflow_nb\nimport time")
        kernel.run(f"%%step load\n{LOG.format(name='load')}n = 1")
        kernel.send(f"%%step slow\n{LOG.format(name='slow')}time.sleep(60)\nm = n + 1")
        deadline = time.monotonic() + 30
        while "slow" not in (tmp_path / "bodies.log").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        kernel.kill()
    assert bodies(tmp_path) == ["load", "slow"]
    with Kernel(tmp_path) as kernel:
        card = kernel.run("%load_ext ironflow_nb\nclass time:\n    sleep = staticmethod(lambda s: None)")
        assert "slow  a cell, interrupted" in card.of("text/plain")[0]
        assert "Run the cell slow again" in card.of("text/plain")[0]
        assert "restored load" in kernel.run(f"%%step load\n{LOG.format(name='load')}n = 1").text
        assert kernel.run(f"%%step slow\n{LOG.format(name='slow')}time.sleep(60)\nm = n + 1").error is None
        assert kernel.run("m").of("text/plain") == ["2"]
    assert bodies(tmp_path) == ["slow"]


def test_the_stop_button_stops_a_cell_and_it_runs_again(tmp_path: Path) -> None:
    source = (
        f"%%step slow\n{LOG.format(name='slow')}import time, os\ntime.sleep(0 if os.path.exists('go') else 60)\nm = 1"
    )
    with Kernel(tmp_path) as kernel:
        kernel.run("%load_ext ironflow_nb")
        message = kernel.send(source)
        while not (tmp_path / "bodies.log").exists():
            time.sleep(0.01)
        time.sleep(0.1)
        kernel.interrupt()
        shown = kernel.collect(message)
        assert shown.error is not None
        assert shown.error.startswith("KeyboardInterrupt")
        assert "the cell slow was interrupted" in shown.traceback
        (tmp_path / "go").touch()
        assert kernel.run(source).error is None
        assert "restored slow" in kernel.run(source).text
    assert bodies(tmp_path) == ["slow", "slow"]


def test_a_cell_that_another_kernel_executes_is_waited_for_and_restored(tmp_path: Path) -> None:
    source = f"%%step slow\n{LOG.format(name='slow')}import time\ntime.sleep(1.5)\nm = 1\nm"
    with Kernel(tmp_path) as first, Kernel(tmp_path) as second:
        for kernel in (first, second):
            kernel.run("%load_ext ironflow_nb")
        message = first.send(source)
        while not (tmp_path / "bodies.log").exists():
            time.sleep(0.01)
        shown = second.run(source)
        assert "slow: it is being executed elsewhere" in shown.text
        assert "restored slow" in shown.text
        assert shown.of("text/plain") == ["1"]
        assert first.collect(message).error is None
    assert bodies(tmp_path) == ["slow"]


def test_cells_may_be_executed_out_of_order(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        kernel.run("%load_ext ironflow_nb\nn = 1")
        kernel.run("%%step second\nm = n * 10")
        kernel.run("%%step first\nn = 2")
        assert "second: input n changed" in kernel.run("%%step second\nm = n * 10").text
    with Kernel(tmp_path) as kernel:
        kernel.run("%load_ext ironflow_nb")
        assert "restored first" in kernel.run("%%step first\nn = 2").text
        assert "restored second" in kernel.run("%%step second\nm = n * 10").text
        assert kernel.run("m").of("text/plain") == ["20"]


FAILING = "def helper(n):\n    m = n + 1\n    return 1 / (m - m)"


def cells_of(shown: Shown) -> list[str]:
    """Return the places that a traceback names, from the outside in."""
    assert shown.error is not None
    return re.findall(r"(?:Cell )?(In\[\d+\], line \d+|File \S+)", ANSI.sub("", shown.traceback))


def test_the_traceback_of_a_failing_cell_names_the_cells_by_their_numbers(tmp_path: Path) -> None:
    with Kernel(tmp_path) as kernel:
        kernel.run("%load_ext ironflow_nb")  # In[1]
        kernel.run(FAILING)  # In[2]
        inner = "In[2], line 3"
        assert cells_of(kernel.run("%%step a\nx = 1\ny = helper(x)")) == ["In[3], line 3", inner]
        assert cells_of(kernel.run("%%step b\nz = 1 / 0")) == ["In[4], line 2"]
        assert cells_of(kernel.run("%%step a\nx = 1\ny = helper(x)\n")) == ["In[5], line 3", inner]
        assert cells_of(kernel.run("%%step c --retries 1\nhelper(1)")) == ["In[6], line 2", inner]
        kernel.run(f"# moved\n{FAILING}")  # In[7]
        inner = "In[7], line 4"
        assert cells_of(kernel.run("%%step a\nx = 1\ny = helper(x)")) == ["In[8], line 3", inner]
        awaiting = "%%step d\nimport asyncio\nawait asyncio.sleep(0)\nhelper(1)"
        assert cells_of(kernel.run(awaiting)) == ["In[9], line 4", inner]
        flow = "%%step e\nimport ironflow_nb as iron\n@iron.step\ndef work(n):\n    return helper(n)\n"
        flow += "@iron.flow\ndef main():\n    return work(1)\nmain()"
        assert cells_of(kernel.run(flow)) == [f"In[10], line {line}" for line in (9, 8, 5)] + [inner]
        assert "In[11], line 2" in cells_of(kernel.run("%%step g\nx = (1,"))
        kernel.run("%%step tools\ndef other(n):\n    return helper(n)")  # In[12]
        assert cells_of(kernel.run("%%step h\nother(1)")) == ["In[13], line 2", "In[12], line 3", inner]
    with Kernel(tmp_path) as kernel:
        kernel.run("1")
        kernel.run("%load_ext ironflow_nb")
        kernel.run(FAILING)
        kernel.run("%%step tools\ndef other(n):\n    return helper(n)")
        shown = kernel.run("%%step h\nother(1)")
        assert cells_of(shown) == ["In[5], line 2", "In[4], line 3", "In[3], line 3"]
        assert "the cell h failed" in shown.traceback
