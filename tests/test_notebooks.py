"""The notebooks teach, so they run: each from top to bottom in a real kernel, and the demo with its kill."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from functools import partial
from pathlib import Path

import nbformat
import pytest

import ironflow_nb as iron
from notebooks import demo, renew

pytestmark = pytest.mark.notebook

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# What the text of a notebook promises must stand in its outputs, in this order.
PROMISED = {
    "02_edit_and_continue": [
        "ValueError: could not convert string to float: 'n/a'",
        "37 finished steps are kept",
        "{'summarise': 40}",
        "37 reused (1 min",
        "line 2 of the cell, in clean)\nsummarise.fn(**inputs)",
        "['n/a']",
        "functions: clean",
        "CodeChanged: summarise has changed (edited: line 2 of `clean`) since 37 finished steps (1 min",
        "{'summarise': 3, 'tabulate': 1, 'publish': 1}",
        "{'summarise': 37, 'publish': 1}",
        "1 is done again (tabulate: edited: line 2 of `warmest_first`; ",
        "{'tabulate': 1, 'publish': 1}",
        '+    return table.sort_values("mean")',
        "{'publish': 1}",
        "{'summarise': 1, 'tabulate': 1, 'publish': 1}",
        "{'tabulate': 1}",
        "{'completed': 37, 'failed': 3}",
        "{'coldest': 3}",
        "{'tell': 2, 'norm': 1}",
        "restored spread",
        "yearly: edited line 2 of `yearly`; it runs again",
        "input table changed",
    ],
    "03_long_running": [
        "Charge 200 invoices, 47,283.73 in all?",
        "agreement: completed",
        "sweep of settle: 200 rows: ✓ 200 completed",
        "196  450.65  completed",
        "200 invoices were charged, each of them once, 47,283.73 in all",
        "237 requests, at most ",
        "237 attempts of charge, at most ",
        "{'by': 'transfer'}",
        "[except iron.WaitTimeout] ✓ remind: ",
    ],
    "04_graphs": [
        "%%graph mistaken: 4 things are wrong",
        "did you mean method?",
        "did you mean python?",
        "did you mean total?",
        "courier: 1 of 5, 1 failed, 3 skipped (way took else)",
        "courier: POST http://127.0.0.1:",
        "answered 422",
        "({'retry': 1, 'reuse': 10}, {'/courier': 2, '/orders': 3, '/post': 3})",
        "10 finished steps are kept",
        "more than was agreed: invoice.total <= `330` is false, not true",
        "{'/courier': 1}",
        "would be continued: 15 reused",
        "instead: skipped",
        "({'number': 'INV-032786', 'total': 327.86}, {})",
        "4      5  courier  P-005",
        "shipping.reduced[0]  completed",
        "shipping.orders[0]        2",
        "instead: completed",
        "{'number': 'INV-0', 'total': 1}",
        "{'number': 'INV-032786', 'total': 327.86}",
        "shipping  completed       20        15",
    ],
    "05_state_machines": [
        "order: 3 instances, 3 completed",
        "Accepted(n_events=1",
        "Rejected(reason='Place does not go with an order that is placed'",
        "Rejected(reason='an order costs something'",
        "placed         1          2       0",
        "A-1: charging 20.0, attempt 2",
        "Order(status='paid', total=20.0, receipt='worn card')",
        "Order(status='expired', total=7.5, receipt='')",
        "AlreadyCompleted(instance='A-2'",
        "A-3: charging 12.0, attempt 3",
        "ConnectionError: the bank is closed",
        "order A-3: waiting, 1 command accepted, 1 dead letter",
        "✗ placed (total=12)",
        "1 dead letter is tried again",
        "✓ paid (final, total=12, receipt=good card)",
        "timer pay-by",
        "Order(status='placed', total=20.0, receipt='')\nAccept(events=(Expired(),)",
        "→ expired: ! Expire (not declared)",
        "seen, not declared",
        "unknown state: only the declaration names the state 'canceled'",
        "0  A-1   20.0   0.0  worn card",
        "3.25 are open",
        "0.0 are open",
        "⇢ canceled: Cancel (never exercised)",
    ],
    "06_time_travel": [
        "'Basel': 82000",
        "22 completed 10 steps finished",
        "[1.0, 10.6, 1.18, 0.088]",
        "given by hand: 10.6 -> 1.06",
        "its argument `rates` has the result of rate[1]",
        "'Basel': 8200,",
        "injected",
        "({'Graz': 7905, 'Basel': 82000,",
        "'Basel': 8509",
        "['forecast.html', 'forecast.md']",
    ],
    "07_llm_batch": [
        "20 mails have cost 0.0006 euros. Spend four",
        "NotRetryable: the account is empty",
        "39 finished steps are kept",
        "39 reused (",
        "'refused': 1}",
        "59 answers were paid for, ",
        "0 were too many at once, and at most ",
        "shop has cost 6.75e-05 in 1 turn, and max_cost is 3e-05",
        "find_order",
        "2 finished steps are kept",
        "shop wants to call pay_back",
        "Here is what I did: 60.0 euros for order 5 are paid back.",
        "sort_mails  completed",
    ],
    "08_train": [
        "forest   0.000     failed",
        "1 continued, 7 built on completed runs, after an edit",
        "{'completed': 8} {'digits': 1, 'fit': 1, 'measure': 1, 'options_of': 8}",
        "Pipeline {'kind': 'logistic', 'size': 0.1}",
        "8 built on completed runs, after an edit",
        "{'digits': 0, 'fit': 0, 'measure': 8, 'options_of': 0}",
        "10 rounds, from 0.9",
    ],
    "09_cluster": [
        "✓ simulate (map): 8 of 8",
        "all of it was done by other processes: True",
        "ironflow_nb.errors.WorkerLost: greedy[2] was l",
        "could not convert string to float: 'n/a'",
        "finished steps are kept",
        "✓ mean_of (map): 12 of 12",
        "sweep of trial: 12 rows: ✓ 12 completed",
        "7       0.0131  0.0525  0.1313",
    ],
}


# What is shown of the machine that executes it: the packages that it has.
OF_THE_MACHINE = {"01_first_flow"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_as_it_was_executed_with_pictures_that_a_code_host_renders(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = code_cells(notebook)
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    for mimes in (set(output.data) for cell in code for output in cell.outputs if "data" in output):
        assert mimes <= {"text/plain", "text/html", "image/svg+xml", "image/png"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_nothing_of_a_machine_is_stored_with_a_notebook(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata.language_info == {"name": "python"}
    assert not any("execution" in cell.metadata for cell in notebook.cells)
    assert renew.OF_A_MACHINE.findall(path.read_text()) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom_to_what_is_stored(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # the kernel would inherit it, and continue nothing by itself
    stored = nbformat.read(path, as_version=4)
    notebook = renew.executed(stripped(stored), tmp_path)
    code = code_cells(notebook)
    failed = [cell.id for cell in code if any(map(is_refusal, cell.outputs))]
    assert failed == [cell.id for cell in code if "raises-exception" in cell.metadata.get("tags", ())]
    assert {mime for cell in code for output in cell.outputs for mime in output.get("data", {})} >= {
        "image/svg+xml", "text/html", "text/plain",
    }  # fmt: skip
    with iron.open(tmp_path / ".ironflow" / "journal.db", read_only=True):
        assert set(iron.runs()["status"]) == {"completed"}
    told = "".join(text(output) for cell in code for output in cell.outputs)
    for promise in PROMISED.get(path.stem, ()):
        before, found, told = told.partition(promise)
        assert found, f"{promise!r} is not in {before!r}"
    with_text = path.stem not in OF_THE_MACHINE
    renewed = {cell.id: shape(cell, with_text=with_text) for cell in code}
    assert renewed == {cell.id: shape(cell, with_text=with_text) for cell in code_cells(stored)}, "run make notebooks"


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def stripped(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a copy of the notebook as it is before it is executed."""
    copy = deepcopy(notebook)
    for cell in code_cells(copy):
        cell.outputs, cell.execution_count = [], None
    return copy


def shape(cell: nbformat.NotebookNode, *, with_text: bool) -> list[tuple[str, ...]]:
    """Return the kinds of what the cell shows, in any order, and what it says without ids, numbers and times."""
    with_text = with_text and ".start(" not in cell.source  # how far its picture came is a matter of chance
    return sorted(
        (each.output_type, *sorted(each.get("data", {})), *([lasting(text(each))] if with_text else []))
        for each in cell.outputs
    )


def lasting(told: str) -> str:
    """Return what of the text is the same in every execution: what runs at once begins in any order."""
    # An id rarely has no digit; then only its place tells it from a word.
    told = re.sub(r"\b(?=[a-z]*[0-9])[0-9a-z]{12}\b|(?<=\brun )[a-z]{12}\b|(?<=\(\")[a-z]{12}(?=\"\))", "ID", told)
    told = re.sub(r"(?:\d[\d.,:]* ?(?:ns|us|µs|ms|s|min|h)\b ?)+", "TIME ", told)
    told = re.sub(r"\d[\d.,:+]*(?:e[+-]?\d+)?", "#", told)
    return "\n".join(sorted(re.sub(r"[ ─━-]+", " ", line).strip() for line in told.splitlines()))


def is_refusal(output: nbformat.NotebookNode) -> bool:
    """Tell whether the output is that of a cell that failed, or that a magic has refused."""
    return output.output_type == "error" or (output.output_type == "stream" and output.text.startswith("UsageError: "))


def text(output: nbformat.NotebookNode) -> str:
    """Return the output as one who reads it; what is printed may come in several pieces."""
    if output.output_type == "stream":
        return str(output.text)
    if output.output_type == "error":
        return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output.traceback)) + "\n"
    return str(output.data.get("text/plain", "")) + "\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_the_demo_survives_the_death_of_its_kernel(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    environment.pop("PYTEST_CURRENT_TEST", None)
    found = subprocess.run(
        [sys.executable, "-m", "notebooks.demo"], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False, timeout=400,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    assert "killed with SIGKILL" in found.stdout
    assert re.search(r"none of the \d\d+ finished steps ran again", found.stdout)
    executed = nbformat.read(tmp_path / "build" / "demo" / "01_first_flow.ipynb", as_version=4)
    assert "none finished twice" in "".join(str(cell.get("outputs", "")) for cell in executed.cells)
    assert (tmp_path / "build" / "demo" / "01_first_flow.html").stat().st_size > 50_000


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_sweep_whose_kernel_is_killed_three_times_charges_each_invoice_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    stored = nbformat.read(ROOT / "notebooks" / "03_long_running.ipynb", as_version=4)
    ledger = tmp_path / "ledger.jsonl"

    def has_charged(n: int) -> bool:
        return ledger.exists() and ledger.read_text().count("\n") >= n

    for n in (20, 90, 160):
        demo.execute(stripped(stored), tmp_path, dies_when=partial(has_charged, n))
    notebook = renew.executed(stripped(stored), tmp_path)

    told = "".join(text(output) for cell in code_cells(notebook) for output in cell.outputs)
    assert "200 invoices were charged, each of them once, 47,283.73 in all" in told
    assert "completed before and reused" in told
    keys = [json.loads(line)["key"] for line in ledger.read_text().splitlines()]
    assert sorted(keys) == sorted(f"2026-11, invoice {number}" for number in range(1, 201))
    with iron.open(tmp_path / ".ironflow" / "journal.db", read_only=True):
        runs, attempts = iron.runs(), iron.attempts()
    settled = runs[runs["name"].str.endswith("settle")]
    assert list(settled["status"]) == ["completed"] * 200
    assert settled["n_sessions"].max() > 1
    finished = attempts[attempts["status"] == "completed"].groupby(["run_id", "step"]).size()
    assert set(finished) == {1}
