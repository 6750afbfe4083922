"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import date, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

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
    click.echo(json.dumps(_plain(value), ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    """Return the value made of JSON's types only: frames as lists of rows, arrays as lists, NaN as null."""
    import numpy as np
    import pandas as pd

    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if np.isfinite(value) else None
        case dict():
            return {key if isinstance(key, str) else str(_plain(key)): _plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case pd.DataFrame():
            return _plain(value.to_dict("records"))
        case np.ndarray() | pd.Series() | pd.Index():
            return _plain(value.tolist())
        case np.generic():
            return _plain(value.item())
    if value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, PurePath):
        return str(value)
    try:
        return _plain(msgspec.to_builtins(value))
    except TypeError:
        return repr(value)
