"""Checks of a journal on a server: PostgreSQL, or DynamoDB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ironflow_nb.diagnosis.findings import Finding, Severity, in_bytes
from ironflow_nb.execution import Engine, SystemClock

_FACTS: Final = """
    SELECT current_setting('server_version'), current_setting('synchronous_commit'), current_setting('fsync'),
        (SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c
            WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r')
"""
_OFF: Final = "off"
_DYNAMODB: Final = "dynamodb://"
_COPY: Final = "SELECT number, (SELECT file FROM pragma_database_list WHERE name = 'main') FROM replica"


def server(engine: Engine) -> Iterator[Finding]:
    """Yield what the server says of itself and of the journal."""
    yield Finding("journal", "url", engine.journal.location)
    if not engine.journal.exists():
        yield Finding("journal", "tables", "not made yet; the first write makes them")
        return
    if engine.journal.location.startswith(_DYNAMODB):
        yield from _copy_of_dynamodb(engine)
        return
    with engine.journal.reading() as reader:
        version, commits, syncs, size = reader.extension(lambda connection: connection.execute(_FACTS).fetchone())
        n_owners = len(set(engine.access.living_owners(reader)) - {engine.owner})
    yield Finding("journal", "size", in_bytes(size))
    yield Finding("use", "others", f"{n_owners} other processes work on it")
    yield Finding("server", "version", f"PostgreSQL {version}")
    found = f"synchronous_commit={commits}, fsync={syncs}"
    if _OFF in {commits, syncs}:
        found = f"{found}: a crash can take acknowledged commits away"
        yield Finding("server", "durability", found, Severity.WARNING, "set both to on at the server")
    else:
        yield Finding("server", "durability", found)
    ahead_s = (engine.clock.now() - SystemClock().now()) / 1e6
    yield Finding("clock", "server", f"{ahead_s:+.1f} s from that of this machine, and all instants are the server's")


def _copy_of_dynamodb(engine: Engine) -> Iterator[Finding]:
    with engine.journal.reading() as reader:
        number, path = reader.extension(lambda connection: connection.execute(_COPY).fetchone())
        n_owners = len(set(engine.access.living_owners(reader)) - {engine.owner})
    yield Finding("journal", "size", f"{number} commits; their copy {path} has {in_bytes(Path(path).stat().st_size)}")
    yield Finding("use", "others", f"{n_owners} other processes work on it")
