"""A real server of PostgreSQL for the tests, on a socket in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import pytest

from tests.conftest import IN_CI

with contextlib.suppress(ImportError):  # Windows has no such module, and these tests run elsewhere
    import pwd

PLACES = ("/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt")
SETTINGS = (
    "fsync=off", "full_page_writes=off", "shared_buffers=64MB", "max_connections=200", "max_wal_size=2GB",
    "listen_addresses=", "log_min_messages=error", "max_prepared_transactions=0",
)  # fmt: skip
USERS = ("postgres", "nobody")
TIMEOUT_S = 30


def program(name: str) -> str:
    """Return a program of the server; without one, fail in CI and skip elsewhere."""
    found = shutil.which(name)
    for place in map(Path, PLACES):
        newest = sorted(place.glob(f"*/bin/{name}"), key=lambda path: path.parts[-3])
        found = found or (str(newest[-1]) if newest else None)
    if found is not None:
        return found
    if not IN_CI:
        pytest.skip("no PostgreSQL on this machine; install its server to run these tests")
    pytest.fail("no PostgreSQL on this machine; apt-get install postgresql")


class Server:
    """A server with one database, which can be stopped and started again."""

    def __init__(self, folder: Path, settings: Sequence[str] = SETTINGS) -> None:
        self.folder = folder
        self._settings = settings
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        # The server refuses to run as root.
        self._user = next((name for name in USERS if _has_user(name)), None) if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(folder, self._user)
        command = [program("initdb"), "-D", str(self._data), "-U", "ironflow", "-A", "trust", "-E", "UTF8", "-N"]
        self._popen(command).communicate(timeout=120)

    def _popen(self, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                command, user=self._user, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=log,
                start_new_session=True, extra_groups=None if self._user is None else [],
                group=None if self._user is None else pwd.getpwnam(self._user).pw_gid,
            )  # fmt: skip

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [part for setting in self._settings for part in ("-c", setting)]
        self._process = self._popen([program("postgres"), "-D", str(self._data), "-k", str(self.folder), *options])
        until = time.monotonic() + TIMEOUT_S
        while True:
            try:
                psycopg.connect(self.url()).close()
            except psycopg.OperationalError:
                if time.monotonic() > until or self._process.poll() is not None:
                    pytest.fail(f"PostgreSQL does not start: {(self.folder / 'log').read_text()[-2000:]}")
                time.sleep(0.05)
            else:
                return

    def stop(self, number: int = signal.SIGQUIT) -> None:
        """Stop it at once, as in a crash; SIGINT ends its connections and writes a checkpoint."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(TIMEOUT_S)
            self._process = None

    def url(self, schema: str | None = None, user: str = "ironflow") -> str:
        """Return the URL of the database, or of a journal in it."""
        chosen = "" if schema is None else f"&schema={schema}"
        return f"postgresql://{user}@/postgres?host={self.folder}{chosen}"

    def new_url(self) -> str:
        """Return the URL of a journal that does not exist yet."""
        return self.url(f"test_{uuid.uuid4().hex[:12]}")

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Execute a statement as an administrator does; return its rows."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            found = connection.execute(statement)
            return found.fetchall() if found.description else []

    def cut_connections(self) -> None:
        """Cut all connections of others, as a network or an administrator does."""
        self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


@contextlib.contextmanager
def running_server(settings: Sequence[str] = SETTINGS, place: Path | None = None) -> Iterator[Server]:
    """Yield a running server, with a folder in `place`; a short name, for that of a socket has at most 107 letters."""
    program("postgres")
    folder = Path(tempfile.mkdtemp(prefix="ironflow-postgres-", dir=place))
    server = Server(folder, settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
