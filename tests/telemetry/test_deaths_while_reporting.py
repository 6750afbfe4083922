"""Death at every write of flows that report: a recorded attempt has all that it has reported, once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.status import StepStatus
from ironflow_nb.journal.ports import Journal, Reader, Select
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.telemetry.telemetry_rows import TelemetryReader
from ironflow_nb.testing.crash_everywhere import crash_everywhere
from ironflow_nb.testing.memory_journal import MemoryJournal

pytestmark = pytest.mark.crash


def report(n: int) -> int:
    for number in iron.progress(range(3)):
        print(n, number)
        iron.metric("number", number)
    return n


@step
def tell(n: int) -> int:
    return report(n)


@step
async def tell_async(n: int) -> int:
    await asyncio.sleep(0)
    return report(n)


@flow
def reporting() -> int:
    total = 0
    for n in iron.progress(range(2)):
        print("flow", n)
        total += tell(n)
        iron.metric("total", total)
    return total + sum(tell.map(range(2, 4), concurrency=2))


@flow
async def reporting_async() -> int:
    print("flow")
    total = sum(await asyncio.gather(tell_async(0), tell_async(1)))
    iron.metric("total", total)
    return total


@pytest.mark.parametrize("is_sqlite", [False, True])
@pytest.mark.parametrize("work", [reporting, reporting_async])
def test_what_is_recorded_has_its_reports(work: iron.Flow[[], int], is_sqlite: bool, tmp_path: Path) -> None:
    opened: list[Callable[[], Journal]] = []

    def journal() -> Journal:
        if is_sqlite:
            path = tmp_path / str(len(opened)) / "journal.db"
            opened.append(lambda: SqliteJournal(path))
            return SqliteJournal(path)
        made = MemoryJournal()
        opened.append(lambda: made)
        return made

    found = crash_everywhere(work, journal=journal)
    assert len(found) >= 4
    for reopen in opened:
        with reopen().reading() as reader:
            check(reader)


def check(reader: Reader) -> None:
    (run,) = reader.runs(Select())
    told = reader.extension(TelemetryReader)
    metrics, logs, progress = told.metrics([run.run_id]), told.logs(run.run_id), told.progress([run.run_id])
    for row in reader.steps(Select()):
        if row.status is StepStatus.COMPLETED:
            place = row.step, row.attempt
            assert [each.value for _, each in metrics if (each.step, each.attempt) == place] == [0, 1, 2]
            text = "".join(each.text for each in logs if (each.step, each.attempt) == place)
            assert [line.split()[1] for line in text.splitlines()] == ["0", "1", "2"]
            assert progress[run.run_id, *place] == (3, 3)
    of_flow = [each for _, each in metrics if each.step is None]
    assert len({each.nth for each in of_flow}) == len(of_flow)
    assert of_flow[-1].value == 1
    if (run.run_id, None, 0) in progress:
        assert progress[run.run_id, None, 0] == (2, 2)
