"""The graphs on the page of graphs are right, and it names every key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ironflow_nb.graphs.kinds import COMMON_KEYS, CONTROL_KEYS
from tests.graphs.mistakes import said

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "graphs.md").read_text()
NODES = (DOCS / "nodes.md").read_text()
WHOLE = [
    text
    for text in re.findall(r"^```yaml\n(.*?)^```", PAGE + NODES, re.MULTILINE | re.DOTALL)
    if text.startswith("graph:")
]


@pytest.mark.parametrize("text", WHOLE, ids=[text.partition("\n")[0] for text in WHOLE])
def test_a_whole_graph_on_the_page_is_right(text: str) -> None:
    assert said(text) == []


def test_the_page_has_whole_graphs_and_every_key() -> None:
    assert len(WHOLE) >= 2
    rows = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert rows >= COMMON_KEYS
    keys = {key for name, own in CONTROL_KEYS.items() for key in (name, *own)}
    assert not [key for key in keys if not any(re.search(rf"\b{key}:", text) for text in WHOLE)]
