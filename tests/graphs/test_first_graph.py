"""The first graph of a process waits for nothing that it does not need."""

from __future__ import annotations

import subprocess
import sys

FRESH = """
import sys
import ironflow_nb as iron
heavy = {"jsonschema", "ruamel", "httpx", "jinja2", "pandas", "boto3", "sqlite_utils", "rfc3987_syntax"}
iron.Graph
graph = iron.Graph("g").node("a", log="{{ input.x }}", retry={"attempts": 2}).node("b", condition=True, then=[])
graph.validate()
print(sorted(heavy & sys.modules.keys()))
"""


def test_a_graph_that_is_fine_needs_no_heavy_library() -> None:
    found = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
