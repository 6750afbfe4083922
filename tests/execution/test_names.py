"""Names that resemble each other, and names as people wrote them."""

from __future__ import annotations

from pathlib import Path

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from tests.cells import run_cell
from tests.conftest import Lab


def test_the_last_run_of_a_flow_is_its_own(lab: Lab) -> None:
    @flow(name="main")
    def plain() -> int:
        return 1

    @flow(name="north.main")
    def northern() -> int:
        return 2

    plain()
    northern()
    assert plain.last is not None
    assert plain.last.result() == 1


def test_a_step_whose_name_is_there_as_it_stands_goes_before_one_that_ends_so(lab: Lab) -> None:
    @step(name="count")
    def plain() -> int:
        return 1

    @step(name="north.count")
    def northern() -> int:
        return 2

    @flow
    def main() -> int:
        return northern() + plain()

    main()
    run = main.last
    assert run is not None
    assert run.value("count") == run.value(plain) == run.value("count[0]") == 1
    assert run.value(northern) == 2


def test_a_signature_is_shown_as_it_was_written() -> None:
    names = {"iron": iron}
    source = "@iron.step\ndef work(n: int, *rest: 'list[str]', name: str = 'a') -> dict[str, int]:\n    return {}\n"
    run_cell(source, names)
    plain = repr(names["work"])
    run_cell(
        f"from __future__ import annotations\n{source.replace(chr(39) + 'list[str]' + chr(39), 'list[str]')}", names
    )
    assert repr(names["work"]) == plain.replace("'list[str]'", "list[str]")
    assert repr(names["work"]).endswith("work(n: int, *rest: list[str], name: str = 'a') -> dict[str, int]")


def test_an_engine_closes_although_its_journal_was_ruined(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    @flow
    def main() -> int:
        return 1

    engine = iron.open(tmp_path / "journal.db")
    with engine:
        main()
        for path in tmp_path.glob("journal.db*"):
            path.write_bytes(b"noise" * 1000)
    assert "could not be given back" in caplog.text
    with pytest.raises(iron.errors.EngineClosed), engine.access.current():
        pass


def test_a_status_that_nobody_wrote_is_a_damaged_journal(tmp_path: Path) -> None:
    @flow
    def main() -> int:
        return 1

    with iron.open(tmp_path / "journal.db") as engine:
        main()
        journal = engine.journal
        assert isinstance(journal, SqliteJournal)
        journal._writer().execute("UPDATE runs SET status = 'green'")
        run_id = journal._writer().execute("SELECT run_id FROM runs").fetchone()[0]
        with pytest.raises(iron.errors.JournalCorrupt, match=rf"{run_id} .*'green'"):
            iron.runs(run=run_id)
        assert len(iron.runs()) == 0  # a list leaves it out, and says so


def test_a_function_written_in_c_is_a_step_too(lab: Lab) -> None:
    length = step(len, name="length")

    @flow
    def main() -> int:
        return length([1, 2, 3])

    assert main() == 3
    assert list(iron.steps()["name"]) == ["length"]
