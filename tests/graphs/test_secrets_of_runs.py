"""Secrets of graphs are nowhere in what is kept, whatever becomes of the node that uses them."""

from __future__ import annotations

import base64
import json
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import SecretMissing
from ironflow_nb.graphs.graph import Graph
from tests.graphs.playing import Node, graph_of

SECRET = 'p@ss "wörd"/+42\\x'

FORMS = {
    SECRET,
    quote(SECRET, safe=""),
    quote_plus(SECRET),
    json.dumps(SECRET)[1:-1],
    repr(SECRET)[1:-1],
    base64.b64encode(SECRET.encode()).decode().rstrip("="),
    base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
    base64.b64encode(f"user:{SECRET}".encode()).decode()[8:-6],
}


class Refused(Exception):
    """Carries what it was given in an attribute."""

    def __init__(self, message: str, given: Any) -> None:
        super().__init__(message)
        self.given = given


def echo(value: Any) -> Any:
    return value


def refuse(value: str) -> None:
    raise Refused(f"the other side refused {value}", {"value": [value]})


def refuse_in_a_chain(value: str) -> None:
    try:
        refuse(value)
    except Refused as error:
        raise RuntimeError("later") from error


def refuse_several(value: str) -> None:
    raise ExceptionGroup(f"several with {value}", [ValueError(value), Refused(value, value)])


def refuse_a_file(value: str) -> None:
    Path(f"/nowhere/{value.replace('/', '')}/{value}").read_text()


def refuse_a_text(value: str) -> None:
    json.loads(f"[1, {value}")


def write_log(value: str) -> str:
    logging.getLogger("user").warning("logged %s", value)
    return "written"


FUNCTIONS = {
    each.__name__: each
    for each in (echo, refuse, refuse_in_a_chain, refuse_several, refuse_a_file, refuse_a_text, write_log)
}


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MY_TOKEN", SECRET)
    path = tmp_path / "kept" / "journal.db"
    with iron.open(path):
        yield path


def secretly(*nodes: Node, **keys: Any) -> Graph:
    return graph_of(*nodes, functions=FUNCTIONS, secrets={"token": {"env": "MY_TOKEN"}}, **keys)


def contents(path: Path) -> str:
    """Return everything that is in the tables and files of a journal, as one text."""
    with closing(sqlite3.connect(path)) as connection, connection:
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        rows = [row for table in tables for row in connection.execute(f"select * from [{table}]")]
    texts = [each.decode(errors="replace") if isinstance(each, bytes) else str(each) for row in rows for each in row]
    files = [file.read_bytes().decode(errors="replace") for file in path.parent.rglob("*") if file.is_file()]
    return "\n".join(texts + files)


def shown(graph: Graph) -> str:
    run = graph.last
    assert run is not None
    frames = [run.steps(), run.attempts(), run.events(), iron.runs()]
    texts = [frame.to_string(max_colwidth=None) for frame in frames]
    return "\n".join([*texts, str(run.error), str(run._repr_mimebundle_())])


def assert_nowhere(text: str) -> None:
    assert [form for form in FORMS if form in text] == []


def told(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))


@pytest.mark.parametrize("name", ["echo", "write_log"])
def test_a_secret_that_was_used_is_not_kept(journal: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    node = {"id": "a", "python": name, "with": {"value": "{{ secrets.token }}"}}
    graph = secretly(node, {"id": "b", "python": "echo", "with": {"value": "{{ a }}"}})
    assert SECRET not in str(graph())
    assert_nowhere(contents(journal))
    assert_nowhere(shown(graph))
    assert graph.last is not None
    assert graph.last.value("g.a") in ("***", "written")


def test_what_was_made_of_a_secret_is_not_kept(journal: Path) -> None:
    values = [
        "Bearer {{ secrets.token }}",
        "{{ base64_encode(join(':', ['user', secrets.token])) }}",
        {"deep": ["{{ secrets.token }}", {"er": "x {{ secrets.token }} y"}]},
        "{{ {a: secrets.token, b: `1`} }}",
    ]
    graph = secretly(*({"id": f"a{n}", "python": "echo", "with": {"value": each}} for n, each in enumerate(values)))
    assert_nowhere(json.dumps(graph(), ensure_ascii=False))
    assert_nowhere(contents(journal))
    assert_nowhere(shown(graph))


@pytest.mark.parametrize("name", ["refuse", "refuse_in_a_chain", "refuse_several", "refuse_a_file", "refuse_a_text"])
def test_the_secret_is_in_no_error(journal: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    graph = secretly(
        {"id": "a", "python": name, "with": ["{{ secrets.token }}"], "retry": {"attempts": 2, "delay_s": 0}}
    )
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- any of several
        graph()
    assert_nowhere(told(caught.value))
    assert_nowhere(contents(journal))
    assert_nowhere(shown(graph))
    assert_nowhere(caplog.text)


def test_a_handler_does_not_see_the_secret(journal: Path) -> None:
    graph = secretly(
        {"id": "a", "python": "refuse", "with": ["{{ secrets.token }}"], "on_error": "continue"},
        {"id": "b", "python": "echo", "with": ["{{ a.error.message }}"]},
    )
    assert graph() == "the other side refused ***"
    assert_nowhere(contents(journal))


def test_a_secret_in_a_loop_and_beside_other_nodes(journal: Path) -> None:
    do = [{"id": "a", "python": "echo", "with": ["{{ join('-', [item, secrets.token]) }}"]}]
    graph = secretly({"id": "each", "loop": ["x", "y"], "concurrency": 2, "do": do}, output="{{ each[].a }}")
    assert graph() == ["***", "***"]
    assert_nowhere(contents(journal))


def test_a_secret_that_is_not_there_is_told_before_anything_runs(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_TOKEN")
    graph = secretly(
        {"id": "a", "python": "echo", "with": [1]}, {"id": "b", "python": "echo", "with": ["{{ secrets.token }}"]}
    )
    with pytest.raises(SecretMissing, match="secret token is not there: env 'MY_TOKEN' has no value"):
        graph()
    assert len(iron.runs()) == 0


def test_another_value_of_the_secret_does_not_run_the_node_again(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that was renewed over night is the same token to the graph."""
    seen: list[str] = []

    def use(value: str) -> int:
        seen.append(value)
        return len(seen)

    state = {"is_broken": True}

    def stop() -> None:
        if state["is_broken"]:
            raise RuntimeError("stop")

    def made() -> Graph:
        return graph_of(
            {"id": "a", "python": "use", "with": ["{{ secrets.token }}"]},
            {"id": "b", "python": "stop"},
            functions={"use": lambda value: use(value), "stop": lambda: stop()},
            secrets={"token": {"env": "MY_TOKEN"}},
        )

    graph = made()
    with pytest.raises(RuntimeError):
        graph()
    monkeypatch.setenv("MY_TOKEN", "another secret")
    state["is_broken"] = False
    assert graph.resume().result(timeout_s=20) is None
    assert seen == [SECRET]
