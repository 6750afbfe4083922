"""The report of a run, as one file."""

from __future__ import annotations

import asyncio
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.handles import run_report
from ironflow_nb.handles.run_report import RunReport
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


@dataclass
class Count:
    id: str
    n: int


@dataclass
class Counted:
    n: int


N_TRIED: list[int] = []


@step(retries=iron.Retry(attempts=2, delay_s=0))
def numbered() -> int:
    N_TRIED.append(1)
    raise ValueError(f"no row {len(N_TRIED)} of run x9k2")


@flow
def count() -> int:
    N_TRIED.clear()
    return numbered()


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
        "Run", "Arguments and result", "Steps", "Slowest steps", "Done more than once", "Errors", "Edits", "Log",
        "Source", "Environment of this report",
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


def rows_of(report: RunReport, title: str) -> list[dict[str, str]]:
    head, *rows = next(each.rows for each in report.sections if each.title == title)
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_a_report_has_previews_of_the_arguments_and_of_the_result(lab: Lab) -> None:
    collect(2)
    [call] = rows_of(collect.last.report(), "Arguments and result")
    assert call["arguments"] == "n=2"
    assert "page 1" in call["output"]


def test_an_edit_says_who_why_old_and_new_and_its_undoing_the_other_way_round(lab: Lab) -> None:
    collect(2)
    run = collect.last
    run.inject("fetch[1]", "by hand", reason="seen")
    run.undo()
    given, undone = rows_of(run.report(), "Edits")
    assert given["who"]
    assert (given["step"], given["why"]) == ("test_run_reports.fetch[1]", "seen")
    assert (given["old"], given["new"]) == ("'<b>page 1</b>'", "'by hand'")
    assert (undone["old"], undone["new"]) == (given["new"], given["old"])


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
def test_a_redacted_output_is_not_in_a_report(lab: Lab) -> None:
    collect(1)
    run = collect.last
    run.inject("fetch", "token-of-mine", reason="seen")
    assert "token-of-mine" in run.report().html
    run.redact("fetch")
    report = run.report()
    assert "token-of-mine" not in report.html
    assert "token-of-mine" not in report.markdown


def test_errors_that_differ_only_in_numbers_are_one_row(lab: Lab) -> None:
    with pytest.raises(ValueError, match="no row"):
        count()
    [errors] = rows_of(count.last.report(), "Errors")
    assert errors["n"] == "2"
    assert "no row 1 of" in errors["first"]


def test_rows_over_the_limit_are_left_out_and_counted(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_report, "N_ROWS", 1)
    collect(2)
    report = collect.last.report()
    assert len(rows_of(report, "Steps")) == 1
    assert "1 row more not shown" in report.markdown
    assert "1 row more not shown" in report.html


def test_a_report_that_cannot_be_written_leaves_nothing(lab: Lab, tmp_path: Path) -> None:
    collect(1)
    (tmp_path / "report.html").symlink_to(tmp_path / "missing")
    with pytest.raises(FileExistsError):
        collect.last.report().save(tmp_path / "report.html")
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".report")] == []


TOKEN = "a-secret-constant"


def with_token(n: int) -> str:
    return f"{n} {TOKEN == 'another'}"


@step
def signed(n: int) -> str:
    return with_token(n)


@flow
def signing(n: int) -> str:
    return signed(n)


def test_a_report_has_the_recorded_source_without_constants_and_the_environment(lab: Lab) -> None:
    signing(1)
    assert signing.last is not None
    report = signing.last.report()
    sections = {each.title: each for each in report.sections}
    source = sections["Source"].text
    assert "def signing(n: int)" in source
    assert "def signed(n: int)" in source
    assert "def with_token(n: int)" in source
    assert TOKEN not in report.html
    rows = dict(sections["Environment of this report"].rows)
    assert rows["python"] == platform.python_version()
    assert {"ironflow_nb", "pandas", "pytest"} <= rows.keys()


def test_the_versions_of_packages_are_read_without_executing_their_code(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    lazy = ModuleType("lazy_versions")
    lazy.__getattr__ = asked.append  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "lazy_versions", lazy)
    signing(1)
    assert signing.last is not None
    assert "lazy_versions" not in dict(signing.last.report().sections[-1].rows)
    assert asked == []


def test_long_sources_are_cut_and_counted(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_report, "N_ROWS", 4)
    signing(1)
    assert signing.last is not None
    [source] = [each.text for each in signing.last.report().sections if each.title == "Source"]
    assert source.splitlines()[-1].endswith("more lines")
    assert len(source.splitlines()) == 5


def test_the_report_of_a_fork_has_the_picture_of_its_origin_beside_its_own(lab: Lab) -> None:
    signing(1)
    assert signing.last is not None
    run = signing.last
    fork = run.fork(at=-2)
    fork.result()
    report = fork.report()
    assert report.origin is not None
    words, picture = report.origin
    n_events = len(run.events())
    assert words == f"origin: run {run.id}, completed, version {n_events - 1} of {n_events}"
    assert picture.text == run.diagram().text
    assert report.html.count("<figure>") == 2
    assert words in report.markdown.replace("\\", "")
    assert f"{fork.id} (completed, from {run.id})" in iron.compare(run, fork).headline
    assert run.report().origin is None


def test_the_report_of_an_instance_of_a_decider_has_its_events(lab: Lab) -> None:
    counter = iron.Decider[int, Count, Counted, None]("counter", initial=0)

    @counter.evolve
    def evolve(state: int, event: Counted) -> int:
        return state + event.n

    @counter.decide
    def decide(state: int, command: Count) -> Any:
        return iron.accept(Counted(command.n))

    counter.send(Count("a", 1))
    counter.send(Count("a", 41))
    [run_id] = iron.runs("counter")["run_id"]
    report = iron.get_run(run_id).report()
    [events] = [each.rows for each in report.sections if each.title == "Events"]
    assert [row[2:] for row in events[1:]] == [("counter.Counted", "{'n': 1}"), ("counter.Counted", "{'n': 41}")]
    assert "key" in report.sections[0].rows[0]
