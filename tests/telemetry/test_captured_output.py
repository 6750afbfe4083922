"""What bodies and flows write is in the log of their attempts, and where it was before."""

from __future__ import annotations

import asyncio
import contextvars
import io
import logging
import signal
import sys
import threading
import types
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.telemetry import run_telemetry
from ironflow_nb.telemetry.attempt_log import AttemptLog
from ironflow_nb.telemetry.run_telemetry import RunTelemetry
from tests.cells import World
from tests.conftest import Lab
from tests.waits.conftest import until


def lines(run: iron.Run[Any] | None, of: object = None) -> list[str]:
    assert run is not None
    return list(run.log(of)["text"])


def last(of: Any) -> iron.Run[Any]:
    assert of.last is not None
    return of.last  # type: ignore[no-any-return]


@step
def tell(text: str) -> str:
    print("told", text)
    print("aside", text, file=sys.stderr)
    return text


@step
async def tell_async(text: str) -> str:
    print("told", text)
    await asyncio.sleep(0)
    print("again", text)
    return text


def test_the_log_has_what_a_step_writes_and_so_has_the_stream(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    @flow
    def work() -> None:
        print("before")
        tell("a")
        print("after")

    work()
    log = last(work).log()
    assert list(log["text"]) == ["before", "told a", "aside a", "after"]
    assert list(log["stream"]) == ["stdout", "stdout", "stderr", "stdout"]
    assert [step.rpartition(".")[2] for step in log["step"].fillna("")] == ["", "tell[0]", "tell[0]", ""]
    assert lines(last(work), tell) == ["told a", "aside a"]
    shown = capsys.readouterr()
    assert shown.out == "before\ntold a\nafter\n"
    assert shown.err == "aside a\n"


def test_each_of_many_attempts_at_once_has_its_own_log(lab: Lab) -> None:
    texts = [f"{n}" for n in range(20)]

    @flow
    def work() -> None:
        list(tell.map(texts, concurrency=5))
        list(tell_async.map(texts))

    work()
    for name, expected in ((tell, ["told {}", "aside {}"]), (tell_async, ["told {}", "again {}"])):
        log = last(work).log(name)
        for number, text in enumerate(texts):
            of_one = log[log["step"].str.endswith(f"[{number}]")]
            assert list(of_one["text"]) == [each.format(text) for each in expected]


def test_an_async_flow_and_its_tasks_are_told_apart(lab: Lab) -> None:
    @flow
    async def work() -> None:
        print("flow")
        await asyncio.gather(tell_async("a"), tell_async("b"))
        await asyncio.to_thread(print, "on a thread")

    run = work.start()
    run.result()
    assert sorted(lines(run, "tell_async[0]") + lines(run, "tell_async[1]")) == [
        "again a",
        "again b",
        "told a",
        "told b",
    ]
    assert [text for text in lines(run) if text not in lines(run, tell_async)] == ["flow", "on a thread"]


def test_a_child_run_has_a_log_of_its_own(lab: Lab) -> None:
    @flow
    def child() -> None:
        print("child")
        tell("c")

    @flow
    def parent() -> None:
        print("parent")
        child()

    parent()
    assert lines(last(parent)) == ["parent"]
    assert lines(last(child)) == ["child", "told c", "aside c"]


def test_a_thread_is_heard_if_it_has_the_context(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    @step
    def threads() -> None:
        for call in (iron.bind(print), partial(contextvars.copy_context().run, print)):
            thread = threading.Thread(target=call, args=("bound",))
            thread.start()
            thread.join()
        foreign = threading.Thread(target=contextvars.Context().run, args=(print, "foreign"))
        foreign.start()
        foreign.join()

    flow(lambda: threads(), name="work")()
    assert lines(iron.get_run(iron.runs()["run_id"][0])) == ["bound", "bound"]
    assert capsys.readouterr().out == "bound\nbound\nforeign\n"


def test_records_of_logging_are_heard_once_with_their_level(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("of the user")
    handler = logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)

    @step
    def warn() -> None:
        logger.warning("care %s", 1)
        logger.info("not heard: the level is WARNING")
        try:
            raise ValueError("why")
        except ValueError:
            logger.exception("broken")

    try:
        flow(lambda: warn(), name="work")()
    finally:
        logger.removeHandler(handler)
    log = iron.get_run(iron.runs()["run_id"][0]).log()
    assert list(log["level"])[:2] == ["WARNING", "ERROR"]
    assert list(log["text"])[:2] == ["of the user: care 1", "of the user: broken"]
    assert list(log["text"])[-1] == "ValueError: why"
    assert set(log["stream"]) == {"logging"}
    assert capsys.readouterr().err.startswith("care 1\n")


def test_each_attempt_and_each_continuation_has_a_log(lab: Lab, world: World) -> None:
    @step(retries=iron.Retry(attempts=2, delay_s=0.0))
    def shaky() -> None:
        world.did("try")
        print("try", len(world.log))
        if len(world.log) == 1:
            raise OSError("once")

    @flow
    def work() -> None:
        print("flow begins")
        shaky()
        if world.is_broken:
            raise KeyError("later")

    with pytest.raises(KeyError):
        work()
    lab.cell()
    world.is_broken = False
    work()
    log = last(work).log()
    assert list(log["text"]) == ["flow begins", "try 1", "try 2", "flow begins"]
    assert list(log["attempt"]) == [1, 1, 2, 2]


def test_a_failed_and_an_interrupted_attempt_keep_what_they_wrote(lab: Lab) -> None:
    @step
    def fail(error: str) -> None:
        print("before", error, end="")
        raise KeyboardInterrupt if error == "interrupt" else ValueError

    @flow
    def work(error: str) -> None:
        fail(error)

    for error, raised in (("failure", ValueError), ("interrupt", KeyboardInterrupt)):
        with pytest.raises(raised):
            work(error)
        assert lines(last(work), fail) == [f"before {error}"]


@pytest.mark.skipif(sys.platform == "win32", reason="a signal of Python, raised at an instant of the test's choice")
@pytest.mark.parametrize("way", ["print", "log", "metric", "progress"])
def test_an_interrupt_while_something_is_reported_ends_the_body_at_once(
    lab: Lab, world: World, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    reports: dict[str, Callable[[], object]] = {
        "print": lambda: print("text"),
        "log": lambda: logging.getLogger("of the user").warning("text"),
        "metric": lambda: iron.metric("n", 1),
        "progress": lambda: list(iron.progress([1])),
    }
    methods = {"print": "write", "log": "record", "metric": "measure", "progress": "begin_count"}
    keep = getattr(RunTelemetry, methods[way])

    def interrupted(*given: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return keep(*given)

    @step
    def body() -> None:
        reports[way]()
        for _ in range(100_000):
            pass
        world.did("went on")

    kept = types.FunctionType(
        interrupted.__code__, vars(run_telemetry) | {"signal": signal}, closure=interrupted.__closure__
    )
    monkeypatch.setattr(RunTelemetry, methods[way], kept)  # a function of that module, as what it replaces
    with pytest.raises(KeyboardInterrupt):
        flow(lambda: body(), name="work")()
    assert world.log == []
    assert iron.runs()["status"][0] == "interrupted"


def test_what_an_abandoned_body_writes_later_is_dropped(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    go, is_over = threading.Event(), threading.Event()

    @step(timeout_s=0.05)
    def slow() -> None:
        print("in time")
        go.wait(60)
        print("late")
        iron.metric("late", 1)
        is_over.set()

    @flow
    def work() -> None:
        try:
            slow()
        except TimeoutError:
            go.set()
            assert is_over.wait(60)

    work()
    assert lines(last(work)) == ["in time"]
    assert last(work).metrics().empty
    assert capsys.readouterr().out == "in time\nlate\n"


def test_another_reader_sees_the_log_while_the_body_goes_on(lab: Lab) -> None:
    go = threading.Event()

    @step
    def long() -> None:
        print("begun")
        go.wait(60)

    run = flow(lambda: long(), name="work").start()
    until(lambda: lines(run))
    assert lines(run) == ["begun"]
    go.set()
    run.result()
    assert lines(run) == ["begun"]


def test_what_a_body_redirects_is_its_own(lab: Lab) -> None:
    @step
    def redirected() -> str:
        with redirect_stdout(io.StringIO()) as own:
            print("kept")
        print("shown")
        return own.getvalue()

    @flow
    def work() -> str:
        return redirected()

    assert work() == "kept\n"
    assert lines(last(work)) == ["shown"]


def test_streams_and_logging_are_what_they_were_when_no_run_goes_on(lab: Lab) -> None:
    @flow
    def work() -> None:
        tell("a")

    before = sys.stdout, sys.stderr, logging.Logger.callHandlers
    with redirect_stdout(io.StringIO()) as other:
        work()
        assert sys.stdout is other
    work()
    assert other.getvalue() == "told a\n"
    assert (sys.stdout, sys.stderr, logging.Logger.callHandlers) == before


class Above:
    """A stream of the user, above the one that is there."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> Any:
        return self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()


def test_a_run_inside_of_a_redirection_is_heard_once_while_another_one_goes_on(lab: Lab) -> None:
    go = threading.Event()

    @step
    def long() -> None:
        go.wait(60)
        print("long")

    @flow
    def work() -> None:
        tell("a")

    run = flow(lambda: long(), name="beside").start()
    with redirect_stdout(Above(sys.stdout)):  # type: ignore[type-var]
        work()
        go.set()
        run.result()
    assert lines(last(work)) == ["told a", "aside a"]
    assert lines(run) == ["long"]


class Bare:
    """A stream that allows no attributes."""

    __slots__ = ("texts",)
    encoding = "utf-7"

    def __init__(self) -> None:
        self.texts: list[str] = []

    def write(self, text: str) -> int:
        self.texts.append(text)
        return len(text)

    def flush(self) -> None: ...


def test_a_run_that_was_begun_inside_of_a_redirection_is_heard_after_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, go = io.StringIO(), threading.Event()
    monkeypatch.setattr(sys, "stdout", own)
    monkeypatch.setattr(sys, "__stdout__", own)

    @step
    def long() -> None:
        print("before")
        go.wait(60)
        print("after")

    with redirect_stdout(io.StringIO()):
        run = flow(lambda: long(), name="work").start()
        until(lambda: lines(run))
    until(lambda: sys.stdout is not own)  # the background thread looks every 50 ms
    go.set()
    run.result()
    assert lines(run) == ["before", "after"]
    assert own.getvalue() == "after\n"


def test_a_level_of_any_name_is_kept(lab: Lab) -> None:
    @step
    def odd() -> None:
        for level in ("half \udc80", 7):
            record = logging.LogRecord("odd", logging.ERROR, "", 0, "text", None, None)
            record.levelname = level  # type: ignore[assignment]
            logging.getLogger("odd").handle(record)

    flow(lambda: odd(), name="work")()
    assert list(iron.get_run(iron.runs()["run_id"][0]).log()["level"]) == ["half \\udc80", "7"]


def test_any_stream_with_a_write_is_copied(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = Bare()
    monkeypatch.setattr(sys, "stdout", bare)
    monkeypatch.setattr(sys, "stderr", None)

    @step
    def look() -> str:
        sys.stdout.writelines(["a", "b\n"])
        print("nowhere", file=sys.stderr)
        return sys.stdout.encoding

    @flow
    def work() -> str:
        return look()

    assert work() == "utf-7"
    assert sys.stdout is bare
    assert lines(last(work))[0] == "ab"
    assert "".join(bare.texts).startswith("ab\n")


def test_who_writes_no_text_gets_the_error_of_the_stream(lab: Lab) -> None:
    @step
    def wrong() -> None:
        sys.stdout.write(b"bytes")  # type: ignore[arg-type]

    with pytest.raises(TypeError):
        flow(lambda: wrong(), name="work")()


def test_what_is_written_while_a_text_is_kept_is_no_trouble(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = AttemptLog.write

    def collected(self: AttemptLog, *given: Any) -> None:
        print("a collected object writes", file=sys.stderr)
        keep(self, *given)

    @flow
    def work() -> None:
        tell("a")

    monkeypatch.setattr(AttemptLog, "write", collected)
    work()
    assert lines(last(work)) == ["told a", "aside a"]


def test_a_body_does_not_fail_because_its_text_can_not_be_kept(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> None:
        raise MemoryError

    @flow
    def work() -> None:
        tell("a")
        logging.getLogger("of the user").warning("careful")

    for method in ("write", "record"):
        monkeypatch.setattr(AttemptLog, method, refuse)
    work()
    assert capsys.readouterr().out == "told a\n"
    assert lab.engine.access.background_errors.counts["keeping what an attempt writes", "MemoryError"] > 0
    assert lines(last(work)) == []


def test_a_long_log_is_bounded_and_says_so(lab: Lab) -> None:
    @step
    def chatty() -> None:
        for n in range(30_000):
            print("line", n)

    flow(lambda: chatty(), name="work")()
    log = iron.get_run(iron.runs()["run_id"][0]).log()
    assert log["text"].str.len().sum() < 64_100
    assert (log["text"].iloc[0], log["text"].iloc[-1]) == ("line 0", "line 29999")
    assert list(log[log["stream"] == "omitted"]["text"].str.startswith("... "))


def test_the_log_shows_itself_as_text(lab: Lab) -> None:
    @flow
    def work() -> None:
        print("<flow>\x1b[31m")
        tell("a")

    work()
    log = last(work).log()
    assert str(log) == "-- flow\n<flow>\n-- tests.telemetry.test_captured_output.tell[0]\ntold a\naside a"
    assert repr(log) == str(log)
    assert "&lt;flow&gt;" in str(log._repr_html_())
    assert str(last(work).log("tell[0]")) == "told a\naside a"
    assert type(log[log["stream"] == "stderr"]).__name__ == "DataFrame"
    assert str(flow(lambda: None, name="silent").start().wait().log()) == ""


def test_the_log_of_a_step_that_is_none_is_refused(lab: Lab) -> None:
    @flow
    def work() -> None:
        tell("a")

    work()
    with pytest.raises(iron.errors.StepNotFound, match="no step 'other'"):
        last(work).log("other")
