"""Steps with once=True, as a payment: nothing does them again by itself, and where nobody knows, somebody is asked."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ironflow_nb import flow, step
from ironflow_nb.errors import NothingToDo, OutcomeUnknown
from ironflow_nb.journal.ports import Select
from tests.conftest import Lab
from tests.contracts.histories import folded

performed: list[object] = []
broken: set[str] = set()
lab_of_test: list[Lab] = []


@pytest.fixture(autouse=True)
def nothing_done_yet(lab: Lab) -> Iterator[None]:
    performed.clear()
    broken.clear()
    lab_of_test[:] = [lab]
    yield
    lab_of_test.clear()


@step(once=True)
def pay(amount: int) -> str:
    if "refused" in broken:
        raise ConnectionError
    performed.append(amount)
    if "dies" in broken:
        lab_of_test[0].die_in_flow()
    return f"paid {amount}"


@step(name=pay.name, once=True)
def pay_better(amount: int) -> str:
    performed.append(("better", amount))
    return f"paid {amount} better"


@step
def check(paid: str) -> str:
    if "check" in broken:
        raise ValueError(paid)
    return paid


@flow
def order(amount: int) -> str:
    return check(pay(amount))


def killed_while_paying(lab: Lab) -> Any:
    broken.add("dies")
    with pytest.raises(SystemExit):
        order(5)
    broken.clear()
    return order.last


def test_that_it_began_is_recorded_before_its_body_runs(lab: Lab) -> None:
    seen: list[int] = []

    @step(once=True)
    def look() -> None:
        with lab.engine.journal.reading() as reader:
            seen.append(len(reader.events(Select(name="StepStarted"))))

    @flow
    def main() -> None:
        look()

    main()
    assert seen == [1]


def test_nobody_knows_what_came_of_it_when_its_process_died_in_it(lab: Lab) -> None:
    run = killed_while_paying(lab)
    assert list(run.steps()["status"]) == ["unknown"]
    with pytest.raises(OutcomeUnknown, match=r"may have happened or not[\s\S]*retry=\[") as caught:
        run.resume().result()
    assert caught.value.ids["step"].endswith("pay[0]")
    assert performed == [5]
    assert run.status == "failed"
    assert list(run.steps()["status"]) == ["unknown"]


def test_it_runs_again_when_somebody_says_so(lab: Lab) -> None:
    run = killed_while_paying(lab)
    assert run.resume(retry=[pay]).result() == "paid 5"
    assert performed == [5, 5]


def test_to_try_everything_that_failed_again_does_not_mean_it(lab: Lab) -> None:
    run = killed_while_paying(lab)
    with pytest.raises(OutcomeUnknown):
        run.resume(retry="failed").result()
    assert performed == [5]
    with pytest.raises(NothingToDo):
        run.resume(rerun=[pay])


def test_a_flow_that_swallows_that_nobody_knows_can_not_go_on(lab: Lab) -> None:
    @flow
    def careless(amount: int) -> str:
        try:
            return pay(amount)
        except RuntimeError:
            return check("free")

    broken.add("dies")
    with pytest.raises(SystemExit):
        careless(5)
    broken.clear()
    with pytest.raises(OutcomeUnknown):
        careless.last.resume().result()


def test_a_failure_of_it_is_an_end_and_is_tried_again_like_any(lab: Lab) -> None:
    broken.add("refused")
    with pytest.raises(ConnectionError):
        order(5)
    broken.clear()
    assert order.last.resume().result() == "paid 5"
    assert performed == [5]


def test_other_code_does_not_make_it_happen_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    broken.add("check")
    with pytest.raises(ValueError, match="paid 5"):
        order(5)
    broken.clear()
    monkeypatch.setattr(sys.modules[__name__], "pay", pay_better)
    strict = order.options(on_change="refresh")
    assert strict.resume().result() == "paid 5"
    assert performed == [5]


@pytest.mark.parametrize("more", [{"retries": 1}, {"cache": True}])
def test_what_contradicts_it_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="once"):
        step(once=True, **more)(lambda: 1)


def test_the_journal_folds_to_the_same_rows(lab: Lab) -> None:
    run = killed_while_paying(lab).resume(retry=[pay])
    run.result()
    with lab.engine.reading() as reader:
        rows = {(row.step, row.attempt): row for row in reader.steps(Select())}
        assert folded(reader.events(Select()), run.id).steps == rows
