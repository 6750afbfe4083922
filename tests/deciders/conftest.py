"""What the tests of deciders share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import ironflow_nb as iron
from ironflow_nb.execution.registry import REGISTRY


@pytest.fixture(autouse=True)
def own_projections() -> Iterator[None]:
    """Let no test meet the projections of another one."""
    yield
    for each in REGISTRY.definitions("projection"):
        assert isinstance(each, iron.Projection)
        each.stop()
        REGISTRY.forget("projection", each.name)
