"""The command ``serve``: definitions, their worker, and the HTTP server beside it in one process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ironflow_nb.cli.definition_loader import load_definitions
from ironflow_nb.cli.journal_option import journal_option
from ironflow_nb.cli.worker_process import PAUSE_S, StopSignals, Work
from ironflow_nb.errors import DefinitionError, IronflowError
from ironflow_nb.execution import REGISTRY, Engine, api, logger
from ironflow_nb.graphs.graph import Graph

if TYPE_CHECKING:
    from ironflow_nb.server.http_server import HttpServer

_SHORTEST_TOKEN: Final = 16
_GRAPHS: Final = frozenset({".yaml", ".yml", ".lua"})


@click.command("serve")
@click.argument("files", nargs=-1, metavar="[FILE ...]")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=9123, show_default=True, help="0 takes a free one.")
@click.option("--token", envvar="IRONFLOW_TOKEN", help="Answer only who gives it: Authorization: Bearer TOKEN.")
@journal_option
def serve_command(*, files: tuple[str, ...], host: str, port: int, token: str | None, journal: Path | None) -> None:
    """Serve the flows and graphs of FILEs over HTTP, and execute their runs and due work, as `work` does.

    A FILE ends in .py, .ipynb, .yaml or .lua, or is package.module; only definitions in it are executed. Without one,
    runs are shown and steered. The first SIGINT or SIGTERM lets running steps end; what was accepted goes on with the
    next start. The second ends the process at once.
    """
    from ironflow_nb.server.http_server import HttpServer

    _refuse_open_door(host, token)
    path = None if journal is None else journal.absolute()  # a notebook is loaded in its own folder
    try:
        _load_all(files)
        engine = REGISTRY.engine() if path is None else api.use(path)
        code = run_server(engine, HttpServer(engine, host, port, token))
    except (IronflowError, FileNotFoundError, ModuleNotFoundError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(code)


def _refuse_open_door(host: str, token: str | None) -> None:
    from ironflow_nb.server.access_guard import is_loopback

    if token is not None and (len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise click.UsageError(f"a token has {_SHORTEST_TOKEN} characters of ASCII or more: openssl rand -hex 32")
    if not is_loopback(host) and token is None:
        raise click.UsageError(
            f"on {host} others reach the server, and every one of them could run and change everything: give a token "
            "with IRONFLOW_TOKEN or --token, or leave out --host"
        )
    if not is_loopback(host):
        logger().warning("on %s the token and all data go unencrypted; put a proxy with TLS before the server", host)


def _load_all(files: tuple[str, ...]) -> None:
    """Load the definitions of all files.

    Raises:
        DefinitionError: one can't be loaded, or two define the same name.
    """
    owners: dict[str, tuple[str, object]] = {}
    for file in files:
        if Path(file).suffix in _GRAPHS:
            Graph.from_file(file).validate()
        else:
            load_definitions(str(Path(file).absolute()) if Path(file).suffix in {".py", ".ipynb"} else file)
        for key, found in REGISTRY.startable().items():
            first, known = owners.setdefault(key, (file, found))
            if known is not found:
                raise DefinitionError(f"{key} is defined by {first} and by {file}; give one of them another name=")


def run_server(engine: Engine, server: HttpServer) -> int:
    """Answer requests and execute what is due until a signal ends it; return the exit code."""
    signals, work, wakeup = StopSignals(), Work(engine), engine.threads.wakeup()
    work.begin()
    server.start()
    is_told = False
    while not signals.n and server.is_running:
        engine.clock.wait(wakeup, PAUSE_S)
        if server.is_ready and not is_told:
            is_told = True
            logger().info("serving %s on %s", engine.journal.location, server.url)
    has_failed = not signals.n
    server.stop()
    while server.is_running and signals.n < 2:
        engine.clock.wait(wakeup, PAUSE_S)
    return work.end(signals) or int(has_failed)
