"""Journals for the doctor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.registry import REGISTRY, make_engine
from tests.diagnosis.doctored import report


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "place" / "journal.db"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    """An engine on a journal that is not there yet, as the default one."""
    path.parent.mkdir()
    with REGISTRY.replaced(make_engine(path)) as _:
        made = REGISTRY.engine()
        yield made
        made.close()


@pytest.fixture
def kept(engine: Engine, path: Path) -> Path:
    """A closed journal with a run of three steps, one with a large value."""
    report(3)
    engine.close()
    return path
