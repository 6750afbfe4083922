"""Effects in the background: begun, nudged, stopped, and never going on where nobody expects it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.journal.ports import QueueSelect
from tests.conftest import Lab
from tests.deciders.counters import Ask, Call, Mail, Remind, counters


def eventually(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def performing(log: list[str], name: str = "counter") -> Any:
    counter = counters(name)
    counter.perform(Call)(lambda effect: log.append(effect.what))
    return counter


def n_threads(name: str = "counter") -> int:
    return sum(thread.name == f"ironflow-performer-{name}" for thread in threading.enumerate())


def test_what_is_sent_is_performed_in_the_background_until_it_is_stopped(lab: Lab) -> None:
    log: list[str] = []
    counter = performing(log)
    counter.start()
    counter.start()
    assert n_threads() == 1
    counter.send(Ask("c", "one"))
    eventually(lambda: log == ["one"])
    counter.send(Remind("c", 0.01))
    eventually(lambda: counter.state("c").n == 1)
    counter.stop()
    eventually(lambda: n_threads() == 0)
    counter.send(Ask("c", "two"))
    time.sleep(0.15)
    assert log == ["one"]
    counter.start()
    eventually(lambda: log == ["one", "two"])
    counter.stop()


def test_send_wakes_the_background(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ironflow_nb.deciders.due_work.POLL_S", 60.0)
    log: list[str] = []
    counter = performing(log)
    counter.start()
    time.sleep(0.05)
    counter.send(Ask("c", "one"))
    eventually(lambda: log == ["one"])
    counter.stop()
    eventually(lambda: n_threads() == 0)
    assert log == ["one"], "and only once"


def test_stopping_lets_a_handler_end_and_claims_nothing_more(lab: Lab) -> None:
    counter, log = counters(), []
    began, may_end = threading.Event(), threading.Event()

    @counter.perform(Call)
    def call(effect: Call) -> None:
        log.append(effect.what)
        began.set()
        may_end.wait(10)

    counter.send(Ask("c", "one"))
    counter.send(Ask("c", "two"))
    counter.start()
    assert began.wait(10)
    counter.stop()
    may_end.set()
    eventually(lambda: n_threads() == 0)
    assert log == ["one"]
    with lab.engine.reading() as reader:
        assert [(work.owner, work.attempts) for work in reader.work(QueueSelect())] == [(None, 0)]


def test_the_background_ends_with_its_engine_and_can_begin_on_the_next_one(lab: Lab) -> None:
    log: list[str] = []
    counter = performing(log)
    counter.start()
    lab.engine.close()
    eventually(lambda: n_threads() == 0)
    lab.begin()
    counter.start()
    counter.send(Ask("c", "one"))
    eventually(lambda: log == ["one"])
    assert n_threads() == 1
    counter.stop()


def test_defining_a_decider_again_ends_what_the_old_one_does_in_the_background(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    counter = performing([])
    counter.start()
    performing([])
    eventually(lambda: n_threads() == 0)
    assert "counter was defined again, and its background thread has stopped" in caplog.text


def test_opening_a_journal_performs_nothing(lab: Lab) -> None:
    performing([]).send(Ask("c", "x"))
    lab.die()
    log: list[str] = []
    counter = performing(log)
    counter.perform(Mail)(lambda effect: log.append("mail"))
    assert len(iron.runs()) == 1
    assert counter.state("c").n == 0
    time.sleep(0.15)
    assert log == []
    assert counter.run_until_idle() == 1


@pytest.mark.parametrize(
    "error", [MemoryError("no memory"), OSError(24, "Too many open files"), RecursionError("deep")]
)
def test_the_background_outlives_errors_that_are_none_of_ours(
    lab: Lab, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    counter = performing(log)
    counter.start()
    ledger, left = lab.engine.access, [3]
    claim = ledger.exchange

    def struck(*args: Any, **kwargs: Any) -> Any:
        if left[0] and threading.current_thread().name.startswith("ironflow-performer"):
            left[0] -= 1
            raise error
        return claim(*args, **kwargs)

    monkeypatch.setattr(ledger, "exchange", struck)
    counter.send(Ask("c", "one"))
    eventually(lambda: log == ["one"])
    counter.stop()
    assert left == [0]
    assert [*ledger.background_errors.counts.values()] == [3]
    assert caplog.text.count("while performing what is due") == 1


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_an_effect_that_exits_is_tried_again_and_the_others_are_performed(lab: Lab, error: BaseException) -> None:
    log: list[str] = []
    counter = counters()

    @counter.perform(Call)
    def call(effect: Call) -> None:
        log.append(effect.what)
        if log == ["one"]:
            raise error

    counter.start()
    for what in ("one", "two"):
        counter.send(Ask("c", what))
    eventually(lambda: sorted(log) == ["one", "one", "two"])
    assert n_threads() == 1
    counter.stop()
