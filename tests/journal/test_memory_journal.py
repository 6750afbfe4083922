"""The journal in memory keeps the contract."""

from __future__ import annotations

import pytest

from ironflow_nb.journal.memory import MemoryJournal
from ironflow_nb.journal.ports import Journal
from tests.contracts.journal import JournalContract
from tests.contracts.projections import ProjectionContract
from tests.contracts.selections import SelectContract
from tests.contracts.stored_values import ValueContract
from tests.contracts.work import WorkContract


@pytest.fixture
def journal() -> Journal:
    return MemoryJournal()


@pytest.fixture
def other_handle(journal: Journal) -> Journal:
    """It ends with its process, in which there is one handle."""
    return journal


class TestMemoryJournal(JournalContract, ValueContract, SelectContract, WorkContract, ProjectionContract):
    pass
