"""DynamoDB as moto's server has it, one for each process of the tests, and journals on it from several machines."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from ironflow_nb.dynamodb.dynamo_journal import DynamoJournal
from ironflow_nb.execution import SystemClock, SystemThreads

Machine = Callable[[str], str]
Open = Callable[..., DynamoJournal]


class _Quiet(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """Return the address of the server. It answers one request at a time: moto's conditions are not atomic."""
    answer, one_at_a_time = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def app(environ: Any, start_response: Any) -> Any:
        with one_at_a_time:
            return answer(environ, start_response)

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, name="moto", daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def on_machine(endpoint: str, tmp_path: Path) -> Machine:
    """Return what gives the URL of one journal, that does not exist yet, as a machine of that name has it."""
    prefix = f"test-{uuid.uuid4().hex[:12]}"

    def url(name: str) -> str:
        return (
            f"dynamodb://{prefix}?region=eu-central-1&endpoint={quote(endpoint)}&replica={quote(str(tmp_path / name))}"
        )

    return url


@pytest.fixture
def url(on_machine: Machine) -> str:
    return on_machine("one")


@pytest.fixture
def opened(on_machine: Machine) -> Iterator[Open]:
    """Return what opens the journal on a machine; all are closed in the end."""
    journals: list[DynamoJournal] = []

    def open_journal(name: str = "one", *, read_only: bool = False) -> DynamoJournal:
        pause = SystemThreads().wakeup().take
        journals.append(DynamoJournal(on_machine(name), SystemClock(), pause, read_only=read_only))
        return journals[-1]

    yield open_journal
    for each in journals:
        each.close()


@pytest.fixture
def journal(opened: Open) -> DynamoJournal:
    return opened("one")


@pytest.fixture
def other_handle(opened: Open) -> DynamoJournal:
    """Return the same journal, as another machine has it."""
    return opened("other")
