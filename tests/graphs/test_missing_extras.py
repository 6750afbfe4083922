"""Nodes whose libraries are not installed: each names the extra that brings them."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ironflow_nb.errors import NodeFailed
from ironflow_nb.graphs.catalog import BUILT_IN
from tests.graphs.asking import perform

EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]

NODES: list[tuple[str, str, dict[str, Any]]] = [
    ("bs4", "html", {"html": {"text": "<p>a"}}),
    ("markdownify", "html", {"html": {"text": "<p>a", "to": "markdown"}}),
    ("nh3", "html", {"html": {"text": "<p>a", "to": "safe"}}),
    ("markdown_it", "html", {"markdown": {"text": "a"}}),
    ("xmltodict", "xml", {"parse": {"xml": "<a/>"}}),
    ("xmltodict", "xml", {"format": {"xml": {"a": 1}}}),
    ("openpyxl", "xlsx", {"xlsx": {"content": b"PK"}}),
    ("pypdf", "documents", {"document": {"content": b"%PDF", "format": "pdf"}}),
    ("docx", "documents", {"document": {"content": b"PK", "format": "docx"}}),
    ("pysubs2", "documents", {"document": {"content": "1", "format": "srt"}}),
    ("sqlalchemy", "sql", {"sql": {"url": "postgresql://a@b.test/c", "query": "SELECT 1"}}),
    ("fsspec.core", "s3", {"file": {"read": "s3://b/a"}}),
    ("mcp", "mcp", {"mcp": {"command": ["a"]}}),
]


@pytest.mark.parametrize(("library", "extra", "node"), NODES, ids=[f"{library} {node}" for library, _, node in NODES])
def test_a_node_without_its_library_names_the_extra(
    library: str, extra: str, node: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    [(kind, options)] = node.items()
    with pytest.raises(NodeFailed, match=rf"pip install 'ironflow-nb\[{extra}\]'") as caught:
        perform(BUILT_IN[kind], options)
    assert caught.value.is_retryable is False
    assert extra in EXTRAS
    assert extra in EXTRAS["nodes"][0]


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(NodeFailed, match="the driver of mysql\\+pymysql is not installed"):
        perform(BUILT_IN["sql"], {"url": "mysql+pymysql://a@b.test/c", "query": "SELECT 1"})
