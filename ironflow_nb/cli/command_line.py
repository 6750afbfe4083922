"""The commands of ``python -m ironflow_nb``. Logs go to stderr; the exit code is 0, 1, or 2 for a wrong use."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from ironflow_nb.cli.definition_loader import load_definitions
from ironflow_nb.cli.worker_process import run_worker
from ironflow_nb.errors import IronflowError
from ironflow_nb.execution import REGISTRY, api

_FORMAT = "%(asctime)s %(levelname)-7s %(message)s"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command_line() -> None:
    """Durable workflows: runs that outlive the process that began them."""
    logging.basicConfig(stream=sys.stderr, format=_FORMAT)
    logging.getLogger("ironflow_nb").setLevel(logging.INFO)


@command_line.command("work")
@click.argument("target")
@click.option("--journal", type=click.Path(dir_okay=False, path_type=Path), help="The journal file; by default that of "
              "the definitions, of IRONFLOW_DB, or .ironflow/journal.db.")  # fmt: skip
def work_command(target: str, journal: Path | None) -> None:
    """Execute the due work of what TARGET defines: MODULE.py, package.module or NOTEBOOK.ipynb.

    Detached runs, runs whose waits are over, and effects and timers of deciders. Of a file only definitions are
    executed, and no flow is called. The first SIGINT or SIGTERM lets running steps end and leaves the rest to other
    workers; the second ends it at once.
    """
    path = None if journal is None else journal.absolute()  # a notebook is loaded in its own folder
    try:
        load_definitions(target)
        engine = REGISTRY.engine() if path is None else api.use(path)
        code = run_worker(engine, target)
    except IronflowError as error:
        raise click.ClickException(str(error)) from error
    sys.exit(code)
