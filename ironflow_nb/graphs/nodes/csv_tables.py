"""Tables as texts of CSV: read with the types of their columns, and written."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

from ironflow_nb.graphs.kinds import Options
from ironflow_nb.graphs.language.data import coerce, describe, write_json

_CHARACTER: Final = {"type": "string", "minLength": 1, "maxLength": 1}
_TYPES: Final = ("text", "integer", "number", "boolean")

_COMMON_OPTIONS: Final[Mapping[str, Any]] = {
    "delimiter": {**_CHARACTER, "default": ",", "description": "Of csv: the character between two cells."},
    "quote": {**_CHARACTER, "default": '"', "description": "Of csv: the character around cells that need it."},
    "header": {"type": "boolean", "default": True, "description": "Of csv: whether the first row names the columns."},
}

PARSE_OPTIONS: Final[Mapping[str, Any]] = {
    **_COMMON_OPTIONS,
    "types": {
        "anyOf": [{"const": "auto"}, {"type": "object", "additionalProperties": {"enum": list(_TYPES)}}],
        "description": "Of csv: the type of each column by its name (text, integer, number, boolean), others stay "
        "texts; auto finds it from the cells. An empty cell is null, except in a column of texts.",
    },
    "decimal": {"enum": [".", ","], "default": ".", "description": "Of csv: the decimal sign of numbers."},
}
"""Options of ``parse`` for CSV, with their schemas."""

FORMAT_OPTIONS: Final[Mapping[str, Any]] = {
    "columns": {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "description": "Of csv: the columns and their order; by default all keys in order of appearance.",
    },
    **_COMMON_OPTIONS,
    "quotes": {"enum": ["needed", "all"], "default": "needed", "description": "Of csv: which cells have quotes."},
}
"""Options of ``format`` for CSV, with their schemas."""


class Unfit(ValueError):
    """A text or data does not have the expected form. The message says where."""


def _characters(options: Options) -> tuple[str, str]:
    """Return delimiter and quote as the library takes them.

    Raises:
        Unfit: they can't be told apart, or from the end of a row.
    """
    delimiter, quote = options.get("delimiter", ","), options.get("quote", '"')
    if delimiter == quote or {delimiter, quote} & {"\r", "\n", "\0"}:
        raise Unfit(
            f"delimiter {delimiter!r} and quote {quote!r} must be two different characters, and no end of a line"
        )
    return delimiter, quote


# -- reading -----------------------------------------------------------------------------------------------------


def read_csv(text: str, options: Options) -> list[Any]:
    """Return the rows of a text of CSV: objects by the names in the header, or lists without a header.

    Raises:
        Unfit: the text is no such table.
    """
    delimiter, quote = _characters(options)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter, quotechar=quote)
    rows: list[tuple[int, list[str]]] = []
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise Unfit(f"line {reader.line_num}: {error}") from None
    types = options.get("types", {})
    if not options.get("header", True):
        if types:
            raise Unfit("types go by the names of columns, so they need a header")
        return [row for _, row in rows]
    return _read_rows(rows, types, options.get("decimal", ".")) if rows else []


def _read_rows(rows: list[tuple[int, list[str]]], types: Any, decimal: str) -> list[dict[str, Any]]:
    (_, names), *others = rows
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Unfit(f"the header names {twice[0]!r} twice; with header: false, rows are lists")
    for line, row in others:
        if len(row) != len(names):
            raise Unfit(f"the row that ends in line {line} has {len(row)} cells, and the header {len(names)}")
    if types == "auto":
        types = {name: _found_type([row[at] for _, row in others], decimal) for at, name in enumerate(names)}
    unknown = [name for name in types if name not in names]
    if unknown:
        raise Unfit(f"types has {unknown[0]!r}, but the columns are {', '.join(names[:20])}")
    typed = [_TYPED[types.get(name, "text")] for name in names]
    return [dict(_typed_cells(line, names, row, typed, decimal)) for line, row in others]


_TypedCell = Callable[[str, str], Any]


def _typed_cells(
    line: int, names: list[str], row: list[str], typed: list[_TypedCell], decimal: str
) -> Iterator[tuple[str, Any]]:
    for name, cell, read in zip(names, row, typed, strict=True):
        try:
            yield name, read(cell, decimal)
        except ValueError as error:
            raise Unfit(f"the row that ends in line {line}: {name}: {error}") from None


_INTEGER: Final = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,299})")
_NUMBER: Final = re.compile(r"[+-]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_BOOLEANS: Final = {"true": True, "false": False}


def _integer(cell: str, _decimal: str) -> int | None:
    text = cell.strip()
    if not text:
        return None
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"a cell of {len(cell)} characters is no whole number")
    return int(text)


def _number(cell: str, decimal: str) -> int | float | None:
    text = cell.strip()
    if not text:
        return None
    point = text.replace(decimal, ".") if decimal != "." and "." not in text else text
    number = float(point) if _NUMBER.fullmatch(point) and (decimal == "." or "." not in text) else math.inf
    if not math.isfinite(number):
        raise ValueError(f"a cell of {len(cell)} characters is no number with decimal sign {decimal}")
    return int(text) if _INTEGER.fullmatch(text) else number


def _boolean(cell: str, _decimal: str) -> bool | None:
    text = cell.strip().lower()
    if text and text not in _BOOLEANS:
        raise ValueError(f"a cell of {len(cell)} characters is neither true nor false")
    return _BOOLEANS.get(text)


_TYPED: Final[Mapping[str, _TypedCell]] = {
    "text": lambda cell, _: cell, "integer": _integer, "number": _number, "boolean": _boolean,
}  # fmt: skip


def _found_type(cells: list[str], decimal: str) -> str:
    """Return the narrowest type that all cells of a column have; text if all are empty. 007 is a text."""
    for name in ("boolean", "integer", "number") if any(map(str.strip, cells)) else ():
        try:
            for cell in cells:
                _TYPED[name](cell, decimal)
        except ValueError:
            continue
        return name
    return "text"


# -- writing -----------------------------------------------------------------------------------------------------


def write_csv(data: Any, options: Options) -> str:
    """Return rows, objects or lists, as a text of CSV.

    Raises:
        Unfit: the data is no such list.
    """
    rows = [[_written_cell(each) for each in row] for row in _rows(data, options)]
    # The writer does not quote a \r by itself, and the reader takes it as the end of a row.
    is_all = options.get("quotes") == "all" or any("\r" in cell for row in rows for cell in row)
    quoting: Literal[0, 1] = csv.QUOTE_ALL if is_all else csv.QUOTE_MINIMAL
    out = io.StringIO(newline="")
    delimiter, quote = _characters(options)
    writer = csv.writer(out, lineterminator="\n", quoting=quoting, delimiter=delimiter, quotechar=quote)
    writer.writerows(rows)
    return out.getvalue()


def _rows(data: Any, options: Options) -> list[list[Any]]:
    if not isinstance(data, list | tuple):
        raise Unfit("it takes a list of objects, or of lists")
    columns = options.get("columns")
    if all(isinstance(row, list | tuple) for row in data):
        return ([list(columns)] if columns else []) + [list(row) for row in data]
    for number, row in enumerate(data):
        if not isinstance(row, Mapping):
            raise Unfit(f"row {number} is {describe(row)}, and not an object as others are")
    names = list(columns) if columns else list(dict.fromkeys(name for row in data for name in row))
    header = [names] if options.get("header", True) else []
    return header + [[row.get(name) for name in names] for row in data]


def _written_cell(value: Any) -> str:
    value = coerce(value)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    try:
        return write_json(value, ensure_ascii=False, separators=None)
    except (TypeError, ValueError) as error:
        raise Unfit(str(error)) from None
