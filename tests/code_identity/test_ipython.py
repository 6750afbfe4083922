"""Cells, classes of cells, scripts of %run and modules of %autoreload, in IPython itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TOOLS = """
import math
def other(): ...
def clean(x):
    return x + 1
class Tool:
    def use(self):
        return 1
"""
SCRIPT = "LIMIT = 3\ndef scripted(x):\n    return x + LIMIT\n"
PROGRAM = """
import os, sys, time
from pathlib import Path
from IPython.core.interactiveshell import InteractiveShell
from ironflow_nb.code_identity.code_parts import changed_parts
from ironflow_nb.code_identity.tracker import Tracker

shell = InteractiveShell.instance()
later = iter(range(2_000_000_000, 2_100_000_000))

def cell(source):
    shell.run_cell(source, store_history=True).raise_error()

def write(name, text):
    Path(name).write_text(text)
    os.utime(name, (next(later),) * 2)

def said():
    return [change.reason for change in changed_parts(first.parts, tracker.current().parts)]

tools, script = Path("own_tools.py").read_text(), Path("own_script.py").read_text()
cell("%load_ext autoreload\\n%autoreload 2")
cell("import enum\\nfrom dataclasses import dataclass\\nclass Color(enum.Enum):\\n    RED = 1\\n"
     "@dataclass\\nclass Point:\\n    x: int = 1\\nclass Box:\\n    def open(self):\\n        return 1")
cell("from own_tools import clean, Tool")
cell("%run own_script.py")
cell("from ironflow_nb import step\\n@step\\ndef work(x):\\n"
     "    return clean(x), Tool().use(), Color(x), Point(), Box().open(), scripted(x)")
tracker = Tracker(shell.user_ns["work"].fn)
first = tracker.current()
assert [part.name for part in first.parts] == [
    "work", "Box", "Color", "Point", "own_tools.Tool", "own_tools.clean", "scripted", "LIMIT"
], first.parts
assert {each.reason for each in first.untracked} == {"built-in", "library"}, first.untracked

write("own_tools.py", tools.replace("x + 1", "x + 2").replace("return 1", "return 2"))
assert tracker.current() is first
cell("1")
assert said() == ["edited: line 3 of `own_tools.Tool`", "edited: line 2 of `own_tools.clean`"], said()
write("own_tools.py", tools)
cell("1")
assert tracker.current() == first, said()

cell("class Box:\\n    def open(self):\\n        return 2")
assert said() == ["edited: line 3 of `Box`"], said()
write("own_script.py", script.replace("x + LIMIT", "x - LIMIT"))
assert said() == ["edited: line 3 of `Box`"], said()
cell("%run own_script.py")
assert said() == ["edited: line 3 of `Box`", "edited: line 2 of `scripted`"], said()
print("done")
"""


def test_code_is_followed_as_it_is_edited_in_ipython(tmp_path: Path) -> None:
    for name, text in (("own_tools", TOOLS), ("own_script", SCRIPT)):
        (tmp_path / f"{name}.py").write_text(text)
    program = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n{PROGRAM}"
    found = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.stdout.endswith("done\n"), found.stdout + found.stderr
