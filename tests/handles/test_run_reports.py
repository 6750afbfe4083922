"""The report of a run, as one file."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from ironflow_nb import flow, step
from tests.conftest import Lab


@step
def fetch(n: int) -> str:
    sys.stdout.write(f"fetched <{n}>\n")
    if n == 2:
        raise ValueError("no page | <script>alert(2)</script>")
    return f"<b>page {n}</b>"


@flow
def collect(n: int) -> list[str]:
    return [fetch(each) for each in range(n)]


@flow
async def gathered(n: int) -> list[str]:
    return list(await fetch.map(range(n)))


def test_a_report_of_a_failed_run_has_its_steps_errors_edits_and_log_and_nothing_from_elsewhere(
    lab: Lab, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no page"):
        collect(3)
    run = collect.last
    run.inject("fetch[2]", "by hand", reason="seen | elsewhere")
    page = run.report().save(tmp_path / "report.html").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", page) == [
        "Run", "Steps", "Slowest steps", "Done more than once", "Errors", "Edits", "Log",
    ]  # fmt: skip
    assert "<script" not in page
    assert "<b>page" not in page
    assert not re.search(r"(?:src|href)\s*=|@import|url\(\s*[\"']?http", page)
    assert "fetched &lt;1&gt;" in page
    assert "seen | elsewhere" in page


def test_a_table_in_markdown_has_as_many_cells_in_each_row(lab: Lab) -> None:
    with pytest.raises(ValueError, match="no page"):
        collect(3)
    text = collect.last.report().markdown
    table = text.split("## Steps\n\n")[1].split("\n\n")[0].splitlines()
    assert len(table) == 2 + 3
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {9}


def test_an_async_flow_has_a_report_and_a_file_is_never_replaced(lab: Lab, tmp_path: Path) -> None:
    asyncio.run(gathered(2))
    report = gathered.last.report()
    assert "fetch" in report.markdown
    report.save(tmp_path / "report.md")
    with pytest.raises(FileExistsError):
        report.save(tmp_path / "report.md")
    with pytest.raises(ValueError, match=r"\.html or \.md"):
        report.save(tmp_path / "report.pdf")
