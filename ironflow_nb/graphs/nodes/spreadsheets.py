"""The kind ``xlsx``: the rows of a workbook of Excel, read or written."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from typing import IO, Any, Final
from zipfile import BadZipFile

from ironflow_nb.graphs.grants import Need
from ironflow_nb.graphs.kinds import Kind, NodeContext, Options, failure, missing_extra, options_schema
from ironflow_nb.graphs.language.data import coerce, describe, write_json
from ironflow_nb.graphs.language.templates import OPENING
from ironflow_nb.graphs.nodes.archives import require_bounded_package
from ironflow_nb.graphs.nodes.files import NodeFiles
from ironflow_nb.graphs.nodes.folders import chunks_of

MAX_ROWS: Final = 100_000
_MOST_BYTES: Final = 50_000_000
"""The largest workbook that is read."""

_MOST_CELLS: Final = 20_000_000
"""The most cells that are looked at: a workbook can have a single one at the end of a million empty rows."""

_ALL: Final = "all"


def _perform(options: Options, context: NodeContext) -> dict[str, Any]:
    __tracebackhide__ = True
    try:
        return _write(options, context) if "write" in options else _read(options, context)
    except ImportError:
        raise missing_extra(context, "xlsx", "xlsx") from None


# -- reading -----------------------------------------------------------------------------------------------------


def _read(options: Options, context: NodeContext) -> dict[str, Any]:
    files = NodeFiles(context)
    if "content" in options:
        content = options["content"]
        if not isinstance(content, bytes):
            raise failure(context, f"content is the bytes of a workbook, not {describe(content)}")
        written, file = "content", io.BytesIO(content)
        with files.translated_errors("read", written):
            return _tables(file, options)
    written = options["read"]
    with files.translated_errors("read", written), files.opened(written) as opened:
        return _tables(opened, options)


def _tables(file: IO[bytes], options: Options) -> dict[str, Any]:
    import openpyxl

    _require_size(file)
    try:
        # With links kept, other workbooks would be looked at.
        book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
    except (KeyError, TypeError, AttributeError, BadZipFile, SyntaxError) as error:
        raise ValueError(f"it is no workbook of Excel: {error}") from None
    names = [sheet.title for sheet in book.worksheets]
    if not names:
        raise ValueError("the workbook has no sheet with cells")
    left = [_MOST_CELLS]
    if options.get("sheets") == _ALL:
        return {"sheets": {name: _rows(book[name], options, left) for name in names}, "sheet_names": names}
    chosen = options.get("sheet", names[0])
    if chosen not in names:
        raise ValueError(f"there is no sheet {chosen!r}; there are: {', '.join(names[:20])}")
    rows = _rows(book[chosen], options, left)
    return {"rows": rows, "n_rows": len(rows), "sheet": chosen, "sheet_names": names}


def _require_size(file: IO[bytes]) -> None:
    size = file.seek(0, io.SEEK_END)
    if size > _MOST_BYTES:
        raise ValueError(f"it has {size:,} bytes; at most {_MOST_BYTES:,} are read")
    require_bounded_package(file, "workbook of Excel (xlsx)")


def _rows(sheet: Any, options: Options, left: list[int]) -> list[Any]:
    most = options.get("max_rows", MAX_ROWS)
    sheet.reset_dimensions()  # the file may say anything of its size
    found: list[list[Any]] = []
    for row in sheet.iter_rows(values_only=True):
        left[0] -= len(row) + 1
        if left[0] < 0:
            raise ValueError(f"its sheets have more than {_MOST_CELLS:,} cells, with the empty ones between others")
        cells = list(row)
        while cells and cells[-1] is None:
            cells.pop()
        if cells:
            found.append(cells)
            if len(found) > most + 1:
                raise ValueError(f"{sheet.title!r} has more than {most:,} rows; raise max_rows to take them")
    width = max(map(len, found), default=0)
    rows = [[*cells, *[None] * (width - len(cells))] for cells in found]
    return _by_column(rows, sheet.title) if rows and options.get("header", True) else rows[:most]


def _by_column(rows: list[list[Any]], sheet: str) -> list[dict[str, Any]]:
    """Return the rows as objects. A column without a name is called by its letter, if it has any value."""
    from openpyxl.utils import get_column_letter

    header, others = rows[0], rows[1:]
    names: list[str | None] = []
    for at, cell in enumerate(header):
        is_used = cell is not None or any(row[at] is not None for row in others)
        names.append((get_column_letter(at + 1) if cell is None else str(coerce(cell))) if is_used else None)
    twice = sorted({name for name in names if name is not None and names.count(name) > 1})
    if twice:
        raise ValueError(f"the header of {sheet!r} names {twice[0]!r} twice; with header: false, rows are lists")
    return [{name: cell for name, cell in zip(names, row, strict=True) if name is not None} for row in others]


# -- writing -----------------------------------------------------------------------------------------------------


def _write(options: Options, context: NodeContext) -> dict[str, Any]:
    import openpyxl
    from openpyxl.cell import WriteOnlyCell

    written, files = options["write"], NodeFiles(context)
    sheets = options.get("sheets") or {options.get("sheet", "Sheet1"): options.get("rows", [])}
    book = openpyxl.Workbook(write_only=True)
    with files.translated_errors("written", written):
        for name, rows in sheets.items():
            sheet = book.create_sheet(name)
            if sheet.title != name:
                raise ValueError(f"{name!r} can't be the name of a sheet, or two are equal but for their case")
            for row in _table(rows, name, is_named=options.get("header", True)):
                sheet.append([_cell(WriteOnlyCell, sheet, value) for value in row])
        made = io.BytesIO()
        book.save(made)
        made.seek(0)
        n_bytes = files.write_whole(written, chunks_of(made))
    return {"path": written, "bytes": n_bytes, "sheet_names": list(sheets)}


def _table(rows: Any, name: str, *, is_named: bool) -> Iterator[list[Any]]:
    if not isinstance(rows, list | tuple):
        raise TypeError(f"the rows of {name!r} are a list of objects, or of lists, not {describe(rows)}")
    if all(isinstance(row, list | tuple) for row in rows):
        yield from map(list, rows)
        return
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TypeError(f"row {number} of {name!r} is {describe(row)}, and not an object as others are")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if is_named:
        yield columns
    for row in rows:
        yield [row.get(key) for key in columns]


def _cell(make: Callable[..., Any], sheet: Any, value: Any) -> Any:
    if isinstance(value, datetime | time) and value.tzinfo is not None:
        value = value.isoformat()  # a cell has no zone
    if not isinstance(value, datetime | date | time | timedelta):
        value = coerce(value)
    if isinstance(value, list | tuple | Mapping):
        value = write_json(value, ensure_ascii=False, separators=None)
    from openpyxl.utils.exceptions import IllegalCharacterError

    try:
        cell = make(sheet, value=value)
    except (ValueError, IllegalCharacterError):
        raise ValueError(f"a cell can't have {describe(value)}") from None
    if isinstance(value, str):
        cell.data_type = "s"  # also of a text that looks like a formula
    return cell


# -- kind --------------------------------------------------------------------------------------------------------


def _needs(options: Options) -> Iterable[Need]:
    for name in ("read", "write"):
        path = options.get(name)
        if isinstance(path, str) and OPENING not in path:
            yield Need("files", path)


_PATH: Final = {"type": "string", "minLength": 1}

XLSX: Final = Kind(
    name="xlsx",
    description="Reads the rows of a sheet of an Excel workbook, {rows, n_rows, sheet, sheet_names}, or writes one.",
    schema=options_schema(
        {
            "read": {**_PATH, "description": "The workbook to read."},
            "content": {
                "not": {"type": ["object", "array", "number", "boolean", "null"]},
                "description": "The bytes of a workbook to read, as a request gives them.",
            },
            "write": {**_PATH, "description": "The workbook to write, whole or not at all."},
            "sheet": {
                "type": "string",
                "minLength": 1,
                "maxLength": 31,
                "description": "The sheet; by default the first, and Sheet1 of one that is written.",
            },
            "sheets": {
                "anyOf": [{"const": _ALL}, {"type": "object", "additionalProperties": {"type": "array"}}],
                "description": "all reads every sheet: {sheets, sheet_names}; to write, the rows of each by its name.",
            },
            "rows": {"type": "array", "description": "The rows to write: objects, or lists; texts stay texts."},
            "header": {
                "type": "boolean",
                "default": True,
                "description": "Whether the first row names the columns; otherwise rows are lists.",
            },
            "max_rows": {
                "type": "integer",
                "minimum": 1,
                "maximum": 1_048_576,
                "default": MAX_ROWS,
                "description": "How many rows of a sheet there may be.",
            },
        },
        oneOf=[{"required": [each]} for each in ("read", "content", "write")],
        allOf=[
            {"description": "sheet and sheets exclude one another", "not": {"required": ["sheet", "sheets"]}},
            {
                "description": "to write, give rows, or sheets with the rows of each",
                "not": {"required": ["write"], "not": {"oneOf": [{"required": ["rows"]}, {"required": ["sheets"]}]}},
            },
            {"description": "rows are for writing", "not": {"required": ["rows"], "not": {"required": ["write"]}}},
        ],
    ),
    perform=_perform,
    shorthand="read",
    needs=_needs,
    is_outside=True,
)
