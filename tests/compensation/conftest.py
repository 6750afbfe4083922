"""A fresh log for each test."""

from __future__ import annotations

import pytest

from tests.compensation.effects import BROKEN, LOG


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    LOG.clear()
    BROKEN.clear()
