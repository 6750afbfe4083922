"""The commands of ``ironflow-nb``. Logs go to stderr; the exit code is 0, 1 for a failure, or 2 for a wrong use."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Final

import click

from ironflow_nb._version import __version__
from ironflow_nb.cli import run_commands, run_views
from ironflow_nb.cli.definition_loader import load_all
from ironflow_nb.cli.journal_option import absolute_place, journal_option, read_settings
from ironflow_nb.cli.key_commands import keys_command
from ironflow_nb.cli.serve_command import serve_command
from ironflow_nb.cli.worker_process import run_pull_worker, run_worker
from ironflow_nb.errors import IronflowError
from ironflow_nb.execution import REGISTRY, api

_FORMAT: Final = "%(asctime)s %(levelname)-7s %(message)s"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
@click.version_option(__version__)
@click.pass_context
def command_line(context: click.Context, *, verbose: bool) -> None:
    """Durable workflows: runs that outlive the process that began them."""
    logging.basicConfig(stream=sys.stderr, format=_FORMAT)
    logging.getLogger("ironflow_nb").setLevel(logging.DEBUG if verbose else logging.INFO)
    context.default_map = read_settings(command_line.commands, Path.cwd())


@command_line.command("work")
@click.argument("files", nargs=-1, required=True, metavar="FILE ...")
@click.option("--url", help="Work on the runs of this server, which is reached over HTTP: https://flows.example.org.")
@click.option("--key", envvar="IRONFLOW_API_KEY", help="The key for the server; better in IRONFLOW_API_KEY.")
@click.option(
    "--runs", "n_runs", type=click.IntRange(1, 100), default=10, show_default=True, help="With --url: at once."
)
@journal_option
def work_command(
    *, files: tuple[str, ...], url: str | None, key: str | None, n_runs: int, journal: Path | str | None
) -> None:
    """Execute the due work of what the FILEs define.

    A FILE ends in .py, .ipynb, .yaml or .lua, or is a folder of such files, or package.module.

    Detached runs, runs whose waits are over, and effects and timers of deciders. Of a file only definitions are
    executed, and no flow is called. The first SIGINT or SIGTERM lets running steps end and leaves the rest to other
    workers; the second ends it at once.

    With --url it needs no journal: it takes runs of the server, and each step is recorded there.
    """
    if url is not None and journal is not None:
        raise click.UsageError("give --url or --journal: the server of the address has the journal")
    path = absolute_place(journal)  # a notebook is loaded in its own folder
    try:
        load_all(files)
        target = ", ".join(files)
        if url is not None:
            sys.exit(run_pull_worker(url, key, target, n_runs))
        engine = REGISTRY.engine() if path is None else api.use(path)
        code = run_worker(engine, target)
    except IronflowError as error:
        raise click.ClickException(str(error)) from error
    sys.exit(code)


for _command in (
    run_commands.run_command, run_commands.validate_command, run_views.list_command, run_views.inspect_command,
    run_views.cancel_command, run_views.pause_command, run_views.detach_command, run_views.signal_command,
    run_views.answer_command, run_views.waiting_command, run_views.emit_command, run_views.schedules_command,
    run_views.lanes_command, run_views.breakers_command, run_views.queue_command, run_views.nodes_command,
    run_views.doctor_command, run_views.verify_command, run_views.usage_command, run_views.prune_command,
    run_views.sql_command, run_views.export_command, run_views.import_command, serve_command,
    keys_command,
):  # fmt: skip
    command_line.add_command(_command)
