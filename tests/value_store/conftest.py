"""A real S3 server on this machine (moto's), and the places for large values that the tests run on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

import ironflow_nb as iron
from ironflow_nb.execution.registry import REGISTRY

BUCKET = "large-values"


def bucket_of(endpoint: str) -> Any:
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}
    return boto3.session.Session().resource("s3", endpoint_url=endpoint, **keys).Bucket(BUCKET)


def use_endpoint(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give what asks S3 in this process, and in those that it begins, another server and keys of nobody."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    given = {"ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s", "DEFAULT_REGION": "us-east-1", "ENDPOINT_URL": endpoint}
    for name, value in (given | {"MAX_ATTEMPTS": "1"}).items():
        monkeypatch.setenv(f"AWS_{name}", value)


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    use_endpoint(endpoint, monkeypatch)
    made = bucket_of(endpoint)
    made.create()
    yield made
    made.objects.delete()
    made.delete()


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a place for large values that other machines could read, too."""
    if request.param == "folder":
        return str(tmp_path / "shared" / "values")
    request.getfixturevalue("bucket")
    return f"s3://{BUCKET}/journals"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Any]:
    """Return what opens a journal of the test as the default one; the one before is closed, and all in the end."""
    before = REGISTRY._engine

    def open_journal(name: str = "journal.db", **options: Any) -> iron.Engine:
        return iron.use(iron.open(tmp_path / name, durability="process", **options))

    yield open_journal
    if REGISTRY._engine is not None and REGISTRY._engine is not before:
        REGISTRY._engine.close()
    REGISTRY._engine = before
