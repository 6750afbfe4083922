"""The code is the same in every process: with other seeds of hashes, and with what else was loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.code_identity.notebook import NOTEBOOK, changed, codes, run
from tests.code_identity.test_edits import EDITS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
PROGRAM = """
import json
from tests.code_identity.notebook import NOTEBOOK, codes, run
print(json.dumps(codes(run(NOTEBOOK))))
"""


@pytest.mark.parametrize("seed", ["0", "1", "4711"])
def test_the_code_is_the_same_with_every_seed_of_hashes(seed: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *(["-O"] if seed == "1" else []), "-c", PROGRAM]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == codes(run(NOTEBOOK))


EDITED = """
import json
from tests.code_identity.notebook import NOTEBOOK, codes, run
from tests.code_identity.test_edits import EDITS
print(json.dumps([codes(run(NOTEBOOK.replace(old, new))) for _, old, new, _ in EDITS]))
"""


def test_every_edit_changes_the_same_steps_when_it_is_made_in_another_process() -> None:
    before = json.loads(fresh(PROGRAM, seed="1"))
    for (what, _, _, steps), after in zip(EDITS, json.loads(fresh(EDITED, seed="2")), strict=True):
        assert changed(before, after) == steps, what


def fresh(program: str, *, seed: str) -> str:
    """Return what the program prints in a process of its own."""
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_the_room_loads_neither_pandas_nor_ipython() -> None:
    program = "import sys, ironflow_nb.code_identity.tracker; print(*{'pandas', 'numpy', 'IPython'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


# What these versions of Python wrote is what every other one has to write.
KEPT = {
    "step_plain": "01131134c0108165835a536df74165d4cd9d4782",
    "step_deep": "02d8cef2e93fca01be4a4351d40cd1ea873661d8",
    "step_label": "02dd6506d1e6bc4758f2b5b034010a4abc89851c",
    "step_point": "021e0d9b1974a6510a5cc91899305b999ee3cfd6",
    "step_make": "0240af10f81e818b0cfadbe490f8252de6857fed",
    "step_twice": "02df7552f00258c282872888ffd12661dcd8e63b",
    "step_first": "022b9d6c639e5dfd132a3cebb515b936dd82ae63",
    "step_text": "020ce8769254e1429d3428767ff0e18436313e65",
    "step_of_job": "024316bfd1b238f278aec4812716d59a3c7050f3",
    "step_values": "0277c04534a65c2eb827c6c9842c0c4aeb85393f",
    "step_declared": "02c784ace8d34c25c0559a7042db0288a9d685d3",
}


@pytest.mark.parametrize("name", KEPT)
def test_the_code_is_what_every_supported_python_makes_of_it(name: str) -> None:
    assert codes(run(NOTEBOOK))[name] == KEPT[name]
