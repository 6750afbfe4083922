"""The page of graphs lists every function of expressions, as the functions themselves describe them."""

from __future__ import annotations

import re
from pathlib import Path

from ironflow_nb.graphs.language.functions import EXTRA_FUNCTIONS

PAGE = Path(__file__).parent.parent.parent / "docs" / "graphs.md"


def table() -> str:
    rows = [f"| `{each.signature}` | {each.description.replace('``', '`')} |" for each in EXTRA_FUNCTIONS.values()]
    return "\n".join(["| function | gives |", "| --- | --- |", *rows])


def test_the_page_has_the_table_of_all_functions() -> None:
    found = re.search(r"<!-- functions -->\n(.*?)\n?<!-- /functions -->", PAGE.read_text(), re.DOTALL)
    assert found is not None
    assert found[1] == table(), f"write this between the marks:\n{table()}"
