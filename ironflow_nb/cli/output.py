"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from ironflow_nb.history.plain_json import json_of

if TYPE_CHECKING:
    import pandas as pd

_WIDE: Final = 10_000


def print_frame(frame: pd.DataFrame, *, as_json: bool) -> None:
    """Print a frame as a table as wide as the terminal, a row a line elsewhere; or as a JSON list of its rows."""
    import pandas as pd

    if as_json:
        print_json(frame.to_dict("records"))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDE
    with pd.option_context("display.width", width, "display.max_columns", _WIDE, "display.max_rows", None):
        click.echo(repr(frame) if len(frame) else "none")


def print_json(value: Any) -> None:
    """Print the value as JSON; what JSON does not have is printed as its nearest relative, or as its text."""
    click.echo(json.dumps(json_of(value), ensure_ascii=False, allow_nan=False))
