"""The journal of a command: its option, the settings of ``ironflow.toml``, and the engine for the time of a command."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from ironflow_nb.errors import IronflowError
from ironflow_nb.execution import REGISTRY, SERVERS, Engine, api

SETTINGS: Final = "ironflow.toml"
_JOURNAL_VARIABLE: Final = "IRONFLOW_DB"

C = TypeVar("C", bound=Callable[..., Any])


class _JournalPlace(click.Path):
    """A path, or the URL of a journal on a server, which stays a text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.Path`."""
        return value if is_url(value) else super().convert(value, param, ctx)


def is_url(place: object) -> bool:
    """Return True for the URL of a journal on a server."""
    return isinstance(place, str) and place.startswith(SERVERS)


def absolute_place(journal: Path | str | None) -> Path | str | None:
    """Return where the journal is, whatever the working directory will be."""
    return journal.absolute() if isinstance(journal, Path) else journal


def journal_option(command: C) -> C:
    """Add ``--journal PATH`` to a command; the URL of a server is a text."""
    add: Callable[[C], C] = click.option(
        "--journal", type=_JournalPlace(dir_okay=False, path_type=Path),
        help="The journal file, or the URL of one on PostgreSQL; by default that of IRONFLOW_DB, of ironflow.toml, or "
        ".ironflow/journal.db.",
    )  # fmt: skip
    return add(command)


@contextmanager
def existing_journal(path: Path | str | None, *, read_only: bool = True, may_be_new: bool = False) -> Iterator[Engine]:
    """Make the journal the current one for the time of a command.

    Raises:
        ClickException: there is no journal, and it may not be new; or the command failed with an error of this package.
    """
    try:
        with closing(api.open(path, read_only=read_only)) as engine, REGISTRY.replaced(engine):
            if not may_be_new and not engine.journal.exists():
                raise click.ClickException(
                    f"there is no journal at {engine.journal.location}; --journal or IRONFLOW_DB names another one"
                )
            yield engine
    except (IronflowError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def read_settings(commands: Mapping[str, click.Command], folder: Path) -> dict[str, dict[str, Any]]:
    """Return the defaults of the options by command, of ``ironflow.toml`` in the folder; none if there is no such file.

    ``journal`` at its top is the journal of all commands, relative to the file; a table ``[list]`` has the options of
    that command. The environment takes precedence over the file, and flags over both.

    Raises:
        UsageError: it is no TOML, or names a command or an option that does not exist.
    """
    path = folder / SETTINGS
    if not path.is_file():
        return {}
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path} is not TOML: {error}") from error
    journal = found.pop("journal", None)
    if journal is not None:
        os.environ.setdefault(_JOURNAL_VARIABLE, journal if is_url(journal) else str(folder / str(journal)))
    defaults = {}
    for name, table in found.items():
        known = commands.get(name)
        if known is None or not isinstance(table, dict):
            raise click.UsageError(
                f"{path} has {name!r}; it may have journal, and tables {', '.join(sorted(commands))}"
            )
        names = {option.name for option in known.params if isinstance(option, click.Option)}
        if unknown := table.keys() - names:
            raise click.UsageError(
                f"{path}: {name} has no option {min(unknown)!r}; it has {', '.join(sorted(map(str, names)))}"
            )
        defaults[name] = table
    return defaults
