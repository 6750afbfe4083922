"""One server of PostgreSQL for each process of the tests, and journals on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.journal.postgres_journal import PostgresJournal
from tests.conftest import Lab
from tests.crash.conftest import counted  # noqa: F401 -- a fixture
from tests.postgres.server import Server, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture
def url(server: Server) -> str:
    """Return the URL of a journal that does not exist yet."""
    return server.new_url()


@pytest.fixture
def opened(url: str) -> Iterator[Callable[[], PostgresJournal]]:
    """Return what opens the journal; all are closed in the end."""
    journals: list[PostgresJournal] = []

    def open_journal() -> PostgresJournal:
        journals.append(PostgresJournal(url))
        return journals[-1]

    yield open_journal
    for each in journals:
        each.close()


@pytest.fixture
def journal(opened: Callable[[], PostgresJournal]) -> PostgresJournal:
    return opened()


@pytest.fixture
def other_handle(opened: Callable[[], PostgresJournal]) -> PostgresJournal:
    return opened()


@pytest.fixture
def lab(opened: Callable[[], PostgresJournal]) -> Iterator[Lab]:
    """Return a lab on PostgreSQL."""
    made = Lab(opened)
    made.begin()
    made.cell()
    before = REGISTRY._engine
    yield made
    made.close()
    REGISTRY._engine = None if before in made.engines else before
