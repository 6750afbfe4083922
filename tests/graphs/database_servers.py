"""A PostgreSQL server of its own for tests, if this machine has the program."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import IN_CI

USER, PASSWORD = "ada", "tea-and-cups"


def _program(name: str) -> str | None:
    found = shutil.which(name)
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return found or (str(installed[-1]) if installed else None)


@contextmanager
def postgresql() -> Iterator[str]:
    """Start a server and yield its host with its port; skip the test where there is no such program."""
    initdb, server = _program("initdb"), _program("postgres")
    if initdb is None or server is None:
        if IN_CI:
            pytest.fail("PostgreSQL is not installed")
        pytest.skip("needs the programs of PostgreSQL: initdb and postgres")
    # The server refuses to run as root.
    run_as = {"user": "postgres", "group": "postgres"} if getpass.getuser() == "root" else {}
    with tempfile.TemporaryDirectory(prefix="ironflow-pg-") as folder, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        taken.close()
        data, word = f"{folder}/data", Path(folder, "word")
        word.write_text(PASSWORD)
        if run_as:
            for path in (folder, str(word)):
                shutil.chown(path, **run_as)
        options = ["-D", data, "-U", USER, "--auth=scram-sha-256", f"--pwfile={word}", "-E", "UTF8", "--no-sync"]
        subprocess.run([initdb, *options], check=True, capture_output=True, cwd=folder, **run_as)
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", f"unix_socket_directories={folder}"]
        process = subprocess.Popen(
            [server, "-D", data, "-p", str(port), *settings], cwd=folder, env={**os.environ, "LC_ALL": "C"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **run_as,
        )  # fmt: skip
        try:
            _wait_until_ready(port, process)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def _wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    import psycopg

    for _ in range(600):
        assert process.poll() is None
        try:
            psycopg.connect(host="127.0.0.1", port=port, user=USER, password=PASSWORD, dbname="postgres").close()
        except psycopg.OperationalError:
            process.poll()
            _pause()
        else:
            return
    raise AssertionError("the server did not start")


def _pause() -> None:
    import time

    time.sleep(0.05)
