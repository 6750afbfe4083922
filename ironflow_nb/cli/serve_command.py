"""The command ``serve``: definitions, their worker, and the HTTP server beside it in one process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ironflow_nb.access.access_keys import has_admin, make_key
from ironflow_nb.access.permissions import Role
from ironflow_nb.access.resource_names import part_of_name
from ironflow_nb.cli.definition_loader import load_all
from ironflow_nb.cli.journal_option import absolute_place, journal_option
from ironflow_nb.cli.worker_process import PAUSE_S, Dispatch, StopSignals, Work
from ironflow_nb.errors import IronflowError
from ironflow_nb.execution import REGISTRY, Engine, api, logger
from ironflow_nb.remote.push_dispatcher import PushDispatcher
from ironflow_nb.remote.push_endpoint import SIGNING_VARIABLE, checked_secrets
from ironflow_nb.remote.run_offers import RunOffers

if TYPE_CHECKING:
    from ironflow_nb.server.http_server import HttpServer

_SHORTEST_TOKEN: Final = 16


@click.command("serve")
@click.argument("files", nargs=-1, metavar="[FILE ...]")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=9123, show_default=True, help="0 takes a free one.")
@click.option("--token", envvar="IRONFLOW_TOKEN", help="A key that stands in no journal and allows everything.")
@click.option("--work/--no-work", default=True, show_default=True, help="Whether it executes runs, or workers do.")
@click.option(
    "--endpoint",
    "endpoints",
    multiple=True,
    metavar="URL",
    help="Push the runs to this endpoint, signed with IRONFLOW_SIGNING_KEY, and execute none here.",
)
@click.option("--require-key", is_flag=True, help="Ask for a key on this machine, too, as behind a proxy.")
@click.option(
    "--certificate",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Speak TLS with this certificate (PEM), with --certificate-key.",
)
@click.option(
    "--certificate-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The private key of the certificate (PEM).",
)
@click.option("--project", default="default", show_default=True, help="The project in the names of all that is served.")
@click.option("--env", default="default", show_default=True, help="The environment in these names.")
@journal_option
def serve_command(  # noqa: PLR0913 -- the options of a command
    *, files: tuple[str, ...], host: str, port: int, token: str | None, work: bool, endpoints: tuple[str, ...],
    require_key: bool,
    certificate: Path | None, certificate_key: Path | None, project: str, env: str, journal: Path | str | None,
) -> None:  # fmt: skip
    """Serve the flows and graphs of FILEs over HTTP, and execute their runs and due work, as `work` does.

    A FILE ends in .py, .ipynb, .yaml or .lua, or is a folder of such files, or package.module; only definitions in it
    are executed. Without one, runs are shown and steered. The web page is at the address itself. The first SIGINT or
    SIGTERM lets running steps end; what was accepted goes on with the next start. The second ends the process at once.
    """
    from ironflow_nb.server.access_guard import AccessGuard, is_loopback
    from ironflow_nb.server.http_server import HttpServer, allow_many_connections

    _check_token(token)
    if (certificate is None) != (certificate_key is None):
        raise click.UsageError("TLS needs both --certificate and --certificate-key")
    tls = None if certificate is None or certificate_key is None else (certificate, certificate_key)
    is_open = not is_loopback(host)
    path = absolute_place(journal)  # a notebook is loaded in its own folder
    try:
        load_all(files)
        engine = REGISTRY.engine() if path is None else api.use(path)
        project, env = part_of_name("--project", project), part_of_name("--env", env)
        guard = AccessGuard(
            host, token, needs_key=is_open or require_key or token is not None, project=project, env=env
        )
        offers = RunOffers(engine)
        allow_many_connections()
        server = HttpServer(engine, guard, port, offers, tls)
        pushes = _dispatchers(engine, offers, endpoints)
        if is_open and tls is None:
            logger().warning("on %s keys and all data go unencrypted; use --certificate, or a proxy with TLS", host)
        if guard.needs_key and token is None:
            _make_first_key(engine)
        code = run_server(engine, server, Work(engine) if work and not pushes else Dispatch(engine, pushes))
    except (IronflowError, ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(code)


def _check_token(token: str | None) -> None:
    if token is not None and (len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise click.UsageError(f"a token has {_SHORTEST_TOKEN} characters of ASCII or more: openssl rand -hex 32")


def _make_first_key(engine: Engine) -> None:
    """Make the key of an admin and show it, if there is none: this is the only time that it can be read."""
    with engine.reading() as reader:
        if has_admin(reader, engine.clock.now()):
            return
    name = f"admin-{engine.entropy(3).hex()}"
    key = make_key(engine, name, Role.ADMIN)
    click.echo(f"the key of {name}, who may do everything; it is shown this once:\n\n    {key}\n")


def _dispatchers(engine: Engine, offers: RunOffers, endpoints: tuple[str, ...]) -> list[PushDispatcher]:
    if not endpoints:
        return []
    [secret] = checked_secrets([os.environ.get(SIGNING_VARIABLE, "")])
    return [PushDispatcher(engine, offers, url, secret) for url in endpoints]


def run_server(engine: Engine, server: HttpServer, work: Work | Dispatch) -> int:
    """Answer requests, and execute what is due or leave it to workers, until a signal ends it; return the exit code."""
    signals, wakeup = StopSignals(), engine.threads.wakeup()
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
