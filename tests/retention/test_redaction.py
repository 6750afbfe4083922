"""A redacted value is in no file of the journal any more, and whoever needs it is told who erased it, when and why."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.errors import NothingToDo, StepNotFound, ValueUnreadable
from ironflow_nb.journal.ports import Durability
from ironflow_nb.journal.sqlite_journal import SqliteJournal
from ironflow_nb.testing.process_death import MOMENTS, Died, DyingJournal, abandon, process_on
from tests.retention import flows
from tests.retention.flows import call, values_of

SECRET = "4929-3813-3266-4295"
SIZES = {"in the row": 1, "in the table": 300, "in a file": 10_000}
PERFORMED: list[str] = []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "journal.db"


@pytest.fixture
def engine(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[iron.Engine]:
    PERFORMED.clear()
    monkeypatch.setenv("CARD", SECRET)
    with iron.open(path, durability="process") as engine:
        yield engine


@step(cache=True)
def card(n: int) -> str:
    PERFORMED.append("card")
    number = os.environ["CARD"]  # as a constant, it would be part of the code
    logging.getLogger("shop").warning("the card is %s", number)
    return number * n


@step
def masked(text: str) -> str:
    return text[:4]


@step
async def masked_too(text: str) -> str:
    return text[:4]


@flow
def child(n: int) -> str:
    return card(n)


@flow
def pays(n: int) -> str:
    text = child(n)
    return masked(text) + str(len(masked.map([text, "other"])))


@flow
async def pays_too(n: int) -> str:
    text = card(n)
    return (await masked_too(text)) + masked(text)


def traces(path: Path) -> list[str]:
    """Return the files in which the secret can be read."""
    files = [each for each in path.parent.rglob("*") if each.is_file()]
    return [each.name for each in files if SECRET.encode() in each.read_bytes()]


@pytest.mark.parametrize("of", [pays, pays_too], ids=["def", "async"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_of_the_value_is_left(engine: iron.Engine, path: Path, of: Any, size: str) -> None:
    run = call(of, SIZES[size])
    result = run.result()
    assert traces(path)
    owner = iron.get_run(iron.runs(child)["run_id"][0]) if of is pays else run
    owner.redact(card, reason="asked for by the customer")
    assert traces(path) == []
    assert run.result() == result == "4929" + result[4:]
    with pytest.raises(ValueUnreadable, match=r"redacted and is gone for ever.*asked for by the customer") as caught:
        owner.value(card)
    assert "by" in str(caught.value)
    assert owner.log(card).empty
    shown = owner.steps().query("name.str.endswith('card')")["output"].iloc[0]
    assert shown.startswith("redacted by ")
    other = "masked" if of is pays else "masked_too"
    assert run.inputs(f"{other}[0]") == {}
    assert run.value(f"{other}[0]") == "4929"
    assert set(iron.events()["type"]) >= {"StepRedacted"}
    owner.diagram()


def test_the_result_of_a_flow_is_redacted_with_its_step(engine: iron.Engine, path: Path) -> None:
    run = call(child, 300)
    run.redact("card")
    with pytest.raises(ValueUnreadable, match="redacted"):
        iron.get_run(run.id).result()
    assert traces(path) == []
    assert "redacted by" in iron.runs()["output"][0]


def test_the_past_says_so_too(engine: iron.Engine) -> None:
    run = call(child, 300)
    before = run.at(int(run.events()["version"].max()))
    run.redact(card, reason="private")
    for snapshot in (before, run.at(before.version), run.at(-1)):
        with pytest.raises(ValueUnreadable, match=r"redacted and is gone for ever.*private"):
            snapshot.value(card)


def test_a_result_for_all_runs_is_computed_again(engine: iron.Engine) -> None:
    first, second = call(child, 300), call(child, 300)
    assert PERFORMED == ["card"]
    first.redact(card)
    for run in (first, second):  # which had taken it over
        with pytest.raises(ValueUnreadable, match="redacted"):
            run.value(card)
    assert call(child, 300).value(card) == SECRET * 300
    assert PERFORMED == ["card", "card"]


def test_an_equal_value_of_another_run_stays(engine: iron.Engine) -> None:
    one, other = call(flows.whole, 1), call(flows.whole, 1)
    for each in (flows.large, "middle[0]", "used[1]"):
        before = other.value(each)
        one.redact(each)
        assert other.value(each) == before
        with pytest.raises(ValueUnreadable):
            one.value(each)


def test_a_run_that_needs_the_value_stops_with_words_and_can_do_it_again(engine: iron.Engine) -> None:
    broken = [True]

    @step
    def ends(n: int) -> int:
        if broken:
            raise ConnectionError
        return n

    @flow
    def stops() -> int:
        return ends(len(flows.middle(1)))

    run = stops.start()
    run.wait(timeout_s=60)
    run.redact(flows.middle, reason="private")
    broken.clear()
    with pytest.raises(ValueUnreadable, match=r"redacted and is gone for ever.*private"):
        run.resume().result(timeout_s=60)
    assert run.resume(rerun=[flows.middle]).result(timeout_s=60) == 4000


def test_a_run_that_goes_on_is_not_redacted(engine: iron.Engine) -> None:
    @flow
    def patient() -> None:
        flows.middle(1)
        iron.wait_for("go")

    run = patient.start()
    while run.status != "waiting":
        run.steps()
    with pytest.raises(NothingToDo, match=r"pause\(\)\.wait\(\)"):
        run.redact(flows.middle)
    run.pause().wait(timeout_s=60)
    run.redact(flows.middle)


def test_what_has_no_output_is_not_redacted(engine: iron.Engine) -> None:
    run = call(flows.child, 1)
    with pytest.raises(StepNotFound):
        run.redact("nothing")
    run.redact(flows.middle)
    with pytest.raises(NothingToDo, match="no output"):
        run.redact(flows.middle)
    assert len(values_of(Path(engine.journal.location))) == 1  # the marker


@pytest.mark.crash
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_process_that_dies_while_it_redacts_leaves_no_value_for_ever(
    path: Path, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARD", SECRET)
    with iron.open(path, durability="process"):
        call(child, 10_000)
    commit = 0
    is_dead = True
    while is_dead:
        commit += 1
        copy = shutil.copytree(path.parent, tmp_path / f"{commit}") / path.name
        journal = SqliteJournal(copy)
        dying = DyingJournal(journal, at_commit=commit, moment=moment)
        with process_on(dying, Durability.PROCESS) as dead:
            try:
                child.last.redact(card)
            except Died:
                abandon(dead)
        is_dead = dying.is_dead
        journal.close()
        with process_on(SqliteJournal(copy), Durability.PROCESS) as engine:
            engine.journal.release(dead.owner)  # its process is this one, which lives
            if child.last.steps()["output"].str.startswith("redacted").all():
                iron.prune("child", status="failed", dry_run=False)  # whatever cares for the file next does the rest
            else:
                child.last.redact(card)
            with pytest.raises(ValueUnreadable, match="redacted"):
                child.last.result()
            iron.vacuum()
        assert traces(copy) == []
    assert commit > 3


def test_a_redacted_run_can_be_exported_and_deleted(engine: iron.Engine, path: Path, tmp_path: Path) -> None:
    run = call(pays, 300)
    owner = iron.get_run(iron.runs(child)["run_id"][0])
    owner.redact(card)
    exported = iron.export(run, tmp_path / "redacted.run")
    assert SECRET.encode() not in exported.read_bytes()
    with iron.open(tmp_path / "there.db"):
        iron.import_(exported)
        with pytest.raises(ValueUnreadable, match="redacted"):
            iron.get_run(owner.id).value(card)
    run.delete()
    assert values_of(path) == set()
