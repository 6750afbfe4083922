"""Texts for terminals hold no character that a terminal obeys, whatever is in the journal."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb import flow, step
from ironflow_nb.core.plain_text import plain
from ironflow_nb.execution.recording.signatures import untrusted
from ironflow_nb.execution.registry import REGISTRY
from ironflow_nb.execution.system.frontend import logger
from ironflow_nb.journal.ports import Select
from ironflow_nb.notebook.unfinished_card import as_text, unfinished
from tests.triggers.conftest import forgotten_definitions
from tests.waits.conftest import until

BAD: Final = "\x1b[31mred\x9b2J\u202e\x07"
OBEYED: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@step(name="fetch")
def fetch(what: str) -> str:
    if what == "fail":
        raise ValueError(f"boom \0{BAD}")
    return f"\0{BAD}"


@flow(name="main")
def main(what: str) -> str:
    return fetch(what)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal that somebody has written names into which this package refuses."""
    path = tmp_path / "journal.db"
    with iron.open(path):
        main("well")
        with pytest.raises(ValueError, match="boom"):
            main("fail")
    with closing(sqlite3.connect(path)) as connection:
        for table in ("runs", "steps", "definitions"):
            connection.execute(f"UPDATE {table} SET name = name || ?", (BAD,))
        connection.commit()
    return path


def texts(frame: pd.DataFrame) -> list[str]:
    return [text for column in frame for text in frame[column] if isinstance(text, str)]


def error_of(act: Callable[[], Any]) -> list[str]:
    with pytest.raises(iron.IronflowError) as caught:
        act()
    return [str(caught.value)]


def row_of(run: Any) -> Any:
    with iron.engine().reading() as reader:
        return reader.runs(Select(run_ids=[run.id]))[0]


def plan_of(run: Any) -> list[str]:
    plan = run.plan()
    return [*texts(plan), repr(plan), plan.headline]


FORMS: Final[dict[str, Callable[[Any], list[str]]]] = {
    "run": lambda run: [repr(run), run._repr_mimebundle_()["text/plain"], repr(run.diagram())],
    "runs": lambda _: texts(iron.runs()),
    "steps": lambda _: texts(iron.steps()),
    "attempts": lambda _: texts(iron.attempts()),
    "plan": plan_of,
    "explanation": lambda run: [str(run.explain(f"fetch{BAD}"))],
    "card": lambda _: [as_text(iron.engine(), unfinished(iron.engine()))],
    "doctor": lambda _: [repr(iron.doctor()), *texts(iron.doctor())],
    "undefined": lambda run: error_of(lambda: REGISTRY.definition(row_of(run))),
    "foreign": lambda run: [str(untrusted(row_of(run), "journal.db"))],
    "unknown run": lambda _: error_of(lambda: iron.get_run("zzz")),
    "unknown step": lambda run: error_of(lambda: run.value("nobody")),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("which", ["completed", "failed"])
def test_what_a_journal_holds_is_shown_without_characters_that_terminals_obey(
    which: str, form: Callable[[Any], list[str]], path: Path
) -> None:
    with iron.open(path, read_only=True):
        run = iron.get_run(iron.runs(status=which)["run_id"][0])
        for text in form(run):
            assert not OBEYED.search(text), repr(text)


@step(name="limited", lane=iron.Lane("lane", key="what"), breaker=iron.Breaker("service", failures=1))
def limited(what: str) -> str:
    sys.stdout.write(f"said {what}\n")
    iron.metric("size", len(what))
    if what == "fail":
        raise ConnectionError
    return what


def asked(what: str) -> Any:
    with suppress(ConnectionError):
        limited(what)
    return iron.ask("which?", choices=["a", "b"])


NAMED: Final = {
    "schedules": ["name"], "emitted_events": ["name", "key"], "subscriptions": ["event"], "breakers": ["name"],
    "metrics": ["name", "metric"], "logs": ["name", "stream", "text"], "work": ["key"], "steps": ["name", "reason"],
    "lane_places": ["lane", "key"],
}  # fmt: skip
LATER: Final[dict[str, Callable[[Any], pd.DataFrame]]] = {
    "schedules": lambda _: iron.schedules(),
    "breakers": lambda _: iron.breakers(),
    "lanes": lambda _: iron.lanes(),
    "work": lambda _: iron.work(),
    "metrics": lambda _: iron.metrics(),
    "events": lambda _: iron.events(),
    "steps": lambda _: iron.steps(),
    "attempts": lambda _: iron.attempts(),
    "log": lambda run: run.log(),
    "metrics of a run": lambda run: run.metrics(),
}


def test_so_it_is_for_every_text_in_every_frame(path: Path) -> None:
    with forgotten_definitions():  # its event would begin runs of other tests
        asking = flow(name="asking", on="order.placed")(asked)
        with iron.open(path):
            run = asking.start("fail")
            until(lambda: len(iron.waiting()))
            asking.schedule(every_s=3600, args=("well",), name="hourly")
            iron.emit("order.other", key="7")
        with closing(sqlite3.connect(path)) as connection, connection:
            for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                connection.execute(f"DROP TRIGGER {trigger}")
            for table, columns in NAMED.items():
                for column in columns:
                    connection.execute(f"UPDATE {table} SET {column} = {column} || ?", (BAD,))
            connection.execute("UPDATE events SET step = step || ?", (BAD,))
        with iron.open(path, read_only=True):
            for name, look in LATER.items():
                frame = look(iron.get_run(run.id))
                assert len(frame) or name == "lanes"
                for text in [*texts(frame), repr(frame), frame.drop(columns="data", errors="ignore").to_string()]:
                    assert not OBEYED.search(text), (name, text)


@pytest.mark.parametrize("make", [step, flow], ids=["step", "flow"])
@pytest.mark.parametrize("name", ["a\x1b[31m", "a\0", "a\nb", "a\tb", "a\x9b", "a\u202eb"])
def test_a_name_with_such_a_character_is_refused_where_it_is_given(make: Any, name: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        make(name=name)(lambda: 1)


@pytest.mark.parametrize("name", ["a\x1b[31m", "a\0", "a\nb"])
def test_so_it_is_for_deciders_and_graphs(name: str) -> None:
    with pytest.raises(iron.errors.DecisionError, match="control character"):
        iron.Decider(name, initial=0)
    with pytest.raises(iron.errors.DefinitionError) as caught:
        iron.Graph(name)
    assert not OBEYED.search(str(caught.value))
    assert not OBEYED.search(repr(iron.Graph.from_dict({"graph": name, "nodes": []})))


def test_so_it_is_for_the_lines_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    logger().warning("run of %s is due", BAD)
    [line] = caplog.messages
    assert line == f"run of {plain(BAD)} is due"


def test_other_texts_stay_what_they_are() -> None:
    for text in ("", "plain", "größer → 漢字 🎉", "two\nlines\twith a tab", "a\u00a0b"):
        assert plain(text) == text
    assert plain("\x1b[1m\r\0\x85\u2067") == r"\x1b[1m\x0d\x00\x85\u2067"
