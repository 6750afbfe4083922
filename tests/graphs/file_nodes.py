"""What tests of the kind file share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ironflow_nb.execution.system.system import SystemClock
from ironflow_nb.graphs.compiler import schema_check
from ironflow_nb.graphs.grants import Grants
from ironflow_nb.graphs.nodes.files import FILE
from ironflow_nb.graphs.runtime.node_environment import WorkContext
from ironflow_nb.graphs.secrets import Secrets

ALLOW = {"files": ["data"]}

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files, or no right to make them")


def perform(*, allow: Mapping[str, Any] | None = ALLOW, timeout_s: float | None = None, **options: Any) -> Any:
    grants = Grants.of(allow)
    context = WorkContext(
        node="it", grants=grants, clock=SystemClock(), secrets=Secrets({}, grants), timeout_s=timeout_s
    )
    return FILE.perform(options, context)


def written(**options: Any) -> list[str]:
    return [message for _, message in schema_check.problems(FILE.schema, options, allows_expressions=True)]


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def make_data(tmp_path: Path) -> Path:
    """Return the granted folder, beside which lies what is not granted."""
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "outside.txt").write_text("outside")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "theirs.txt").write_text("theirs")
    return folder


EVERY_WAY: list[dict[str, Any]] = [
    {"read": "{}"}, {"write": "{}", "content": "mine"}, {"append": "{}", "content": "mine"}, {"list": "{}"},
    {"exists": "{}"}, {"copy": "{}", "to": "data/copy"}, {"copy": "data/a", "to": "{}"}, {"move": "{}", "to": "data/b"},
    {"move": "data/a", "to": "{}"}, {"delete": "{}", "recursive": True},
]  # fmt: skip
