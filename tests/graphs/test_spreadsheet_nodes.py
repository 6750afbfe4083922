"""The kind xlsx: workbooks that it reads and writes, with the real library at the other end."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest

from ironflow_nb.errors import NodeFailed, NotGranted
from ironflow_nb.graphs.compiler.schema_check import problems
from ironflow_nb.graphs.nodes import archives, spreadsheets
from ironflow_nb.graphs.nodes.spreadsheets import XLSX
from tests.graphs.asking import perform

ROWS = [{"name": "tea", "price": 2.5, "n": 3}, {"name": "cup", "price": None, "n": 4}]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def xlsx(**options: Any) -> Any:
    return perform(XLSX, options, allow={"files": ["data"]})


def made(data: Path, *rows: list[Any], sheet: str = "Sales", name: str = "a.xlsx") -> None:
    book = openpyxl.Workbook()
    book.active.title = sheet
    for row in rows:
        book.active.append(row)
    book.create_sheet("Other").append(["x"])
    book.save(data / name)


def test_what_is_written_is_read_again(data: Path) -> None:
    written = xlsx(write="data/new/a.xlsx", rows=ROWS)
    assert written == {
        "path": "data/new/a.xlsx", "bytes": (data / "new" / "a.xlsx").stat().st_size, "sheet_names": ["Sheet1"]
    }  # fmt: skip
    assert xlsx(read="data/new/a.xlsx") == {"rows": ROWS, "n_rows": 2, "sheet": "Sheet1", "sheet_names": ["Sheet1"]}
    assert pd.read_excel(data / "new" / "a.xlsx")["name"].tolist() == ["tea", "cup"]


def test_several_sheets(data: Path) -> None:
    xlsx(write="data/a.xlsx", sheets={"One": ROWS, "Two": [[1, "a"], [None, True]], "None": []})
    assert xlsx(read="data/a.xlsx", sheets="all", header=False)["sheets"]["Two"] == [[1, "a"], [None, True]]
    found = xlsx(read="data/a.xlsx", sheets="all")
    assert found["sheets"]["One"] == ROWS
    assert found["sheets"]["None"] == []
    assert found["sheet_names"] == ["One", "Two", "None"]
    assert xlsx(read="data/a.xlsx", sheet="Two", header=False)["rows"] == [[1, "a"], [None, True]]
    with pytest.raises(NodeFailed, match="there is no sheet 'Three'; there are: One, Two, None"):
        xlsx(read="data/a.xlsx", sheet="Three")


def test_empty_rows_and_columns_are_left_out_and_a_column_without_a_name_has_its_letter(data: Path) -> None:
    made(data, ["a", None, None, "d"], [], [1, "x", None, None], [None, None, None, 2], [None, None])
    assert xlsx(read="data/a.xlsx")["rows"] == [{"a": 1, "B": "x", "d": None}, {"a": None, "B": None, "d": 2}]


def test_a_name_twice_in_the_header_is_told(data: Path) -> None:
    made(data, ["a", "a"], [1, 2])
    with pytest.raises(NodeFailed, match="the header of 'Sales' names 'a' twice; with header: false"):
        xlsx(read="data/a.xlsx")
    assert xlsx(read="data/a.xlsx", header=False)["rows"] == [["a", "a"], [1, 2]]


def test_the_bytes_of_a_request_are_read(data: Path) -> None:
    made(data, ["a"], [1])
    assert perform(XLSX, {"content": (data / "a.xlsx").read_bytes()}, allow={})["rows"] == [{"a": 1}]
    assert list(problems(XLSX.schema, {"content": {}}, allows_expressions=False)) != []


def test_a_text_stays_a_text_also_if_it_looks_like_a_formula(data: Path) -> None:
    xlsx(write="data/a.xlsx", rows=[["=1+1", '=HYPERLINK("http://evil.test")', "+1", "@x", "007"]])
    cells = next(openpyxl.load_workbook(data / "a.xlsx").active.iter_rows())
    assert [cell.data_type for cell in cells] == ["s"] * 5
    assert xlsx(read="data/a.xlsx", header=False)["rows"] == [
        ["=1+1", '=HYPERLINK("http://evil.test")', "+1", "@x", "007"]
    ]


def test_times_and_data_have_a_form(data: Path) -> None:
    at = datetime(2026, 3, 4, 5, 6)
    xlsx(write="data/a.xlsx", rows=[[at, at.replace(tzinfo=UTC), {"a": [1]}, ["ü"], True]])
    row = xlsx(read="data/a.xlsx", header=False)["rows"][0]
    assert row == [at, "2026-03-04T05:06:00+00:00", '{"a": [1]}', '["ü"]', True]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"rows": [[1], {"a": 1}]}, "row 0 of 'Sheet1' is"),
        ({"rows": [["\x00"]]}, "a cell can't have"),
        ({"rows": [["a"]], "sheet": "a/b"}, "can't be"),
        ({"sheets": {"A": [], "a": []}}, "can't be the name of a sheet, or two are equal"),
    ],
)
def test_rows_that_can_not_be_written_are_told_and_nothing_is_written(data: Path, options: Any, expected: str) -> None:
    with pytest.raises(NodeFailed) as caught:
        xlsx(write="data/a.xlsx", **options)
    assert expected in str(caught.value)
    assert list(data.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no", b"PK\x03\x04" + b"x" * 100])
def test_what_is_no_workbook_is_said(data: Path, content: bytes) -> None:
    (data / "a.xlsx").write_bytes(content)
    with pytest.raises(NodeFailed, match="it is no workbook of Excel"):
        xlsx(read="data/a.xlsx")


def test_an_archive_that_is_no_workbook_is_said(data: Path) -> None:
    with zipfile.ZipFile(data / "a.xlsx", "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(NodeFailed, match="it is no workbook of Excel"):
        xlsx(read="data/a.xlsx")


def replaced(data: Path, member: str, content: bytes) -> None:
    """Replace a part of a workbook."""
    made(data, ["a"], [1])
    new = io.BytesIO()
    with zipfile.ZipFile(data / "a.xlsx") as old, zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as archive:
        for info in old.filelist:
            archive.writestr(info.filename, content if info.filename == member else old.read(info))
    (data / "a.xlsx").write_bytes(new.getvalue())


SHEET = (
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{}</sheetData></worksheet>'
)


def test_a_workbook_with_entities_is_refused(data: Path) -> None:
    entities = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    row = '<row r="1"><c r="A1" t="inlineStr"><is><t>&x;</t></is></c></row>'
    replaced(data, "xl/worksheets/sheet1.xml", (entities + SHEET.format(row)).encode())
    with pytest.raises(NodeFailed):
        xlsx(read="data/a.xlsx")


def test_a_cell_at_the_end_of_the_world_ends(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreadsheets, "_MOST_CELLS", 10_000)
    replaced(
        data, "xl/worksheets/sheet1.xml", SHEET.format('<row r="1048576"><c r="A1048576"><v>1</v></c></row>').encode()
    )
    with pytest.raises(NodeFailed, match="more than 10,000 cells, with the empty ones"):
        xlsx(read="data/a.xlsx")


def test_a_workbook_that_unpacks_to_too_much_is_refused_before(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(data, "xl/worksheets/sheet1.xml", SHEET.format(" " * 1_000_000).encode())
    monkeypatch.setattr(archives, "_PACKAGE_BYTES", 500_000)
    with pytest.raises(NodeFailed, match="bytes unpacked; at most 500,000 are read"):
        xlsx(read="data/a.xlsx")


def test_too_many_rows_are_an_error(data: Path) -> None:
    xlsx(write="data/a.xlsx", rows=[{"a": n} for n in range(11)])
    assert xlsx(read="data/a.xlsx", max_rows=11)["n_rows"] == 11
    with pytest.raises(NodeFailed, match="has more than 10 rows; raise max_rows"):
        xlsx(read="data/a.xlsx", max_rows=10)


def test_a_file_has_to_be_granted(data: Path) -> None:
    with pytest.raises(NotGranted):
        xlsx(read="other.xlsx")
    with pytest.raises(NotGranted):
        xlsx(write="other.xlsx", rows=[])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "it needs one of read, content, write"),
        ({"read": "a", "write": "b", "rows": []}, "only one of them"),
        ({"read": "a", "rows": []}, "rows are for writing"),
        ({"write": "a"}, "to write, give rows, or sheets"),
        ({"read": "a", "sheet": "x", "sheets": "all"}, "exclude one another"),
        ({"read": "a", "colour": "x"}, "'colour' is not known here"),
    ],
)
def test_options_that_do_not_fit_are_told(options: Any, expected: str) -> None:
    found = [message for _, message in problems(XLSX.schema, options, allows_expressions=True)]
    assert any(expected in message for message in found), found
