"""How long a notebook of ten durable cells needs when it is run again in a new process: all of them are restored."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.samples import Figures
from benchmarks.start import a_process

SHELL: Final = """
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))

def run(cell):
    shell.run_cell(cell, store_history=True).raise_error()

run("import numpy as np, pandas as pd")
"""
CELLS: Final = """
run("%load_ext ironflow_nb")
import sys, io
sys.stdout, shown = io.StringIO(), sys.stdout
run("%%step c0\\nframe0 = pd.DataFrame(np.random.default_rng(0).random((100_000, 4)), columns=list('abcd'))\\nn0 = 0")
for n in range(1, 10):
    run(f"%%step c{n}\\nframe{n} = frame{n - 1} * 2\\nn{n} = n{n - 1} + 1\\nframe{n}.head()")
text, sys.stdout = sys.stdout.getvalue(), shown
assert text.count("restored") == RESTORED, text
"""
DONE: Final = "print('done', flush=True)"


def restored_cells(folder: Path) -> Figures:
    """Measure a process that restores ten cells, each with a frame of 100,000 x 4, beside one that restores nothing."""
    a_process(folder, SHELL + "RESTORED = 0\n" + CELLS + DONE)
    return {
        "shell with pandas": a_process(folder, SHELL + DONE),
        "ten restored cells": a_process(folder, SHELL + "RESTORED = 10\n" + CELLS + DONE),
    }
