"""Graphs with secrets for tests: results of every type that have one in them, and the search of the journal's bytes."""

from __future__ import annotations

import array
import base64
import collections
import json
import os
import sqlite3
import types
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

import numpy as np
import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb.graphs.graph import Graph
from tests.graphs.playing import Node, graph_of

TOKEN = "tok/Ab+9 é\"'&zQ7xK%wLm"
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq/hkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB+\n-----END KEY-----"
PIN = "83620417"


def forms_of(secret: str) -> set[bytes]:
    """Return how a secret could look in a file, made without the code that is to find it."""
    content = secret.encode()
    texts = {
        secret, secret.upper(), secret.lower(), secret[::-1], quote(secret, safe=""), quote(secret), quote_plus(secret),
        quote(secret, safe="").lower(), json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1], content.hex(), content.hex().upper(),
    }  # fmt: skip
    wide = {secret.encode(each) for each in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")}
    encoded = {base64.b64encode(b"\0" * n + content).decode()[4:-4] for n in range(3)}
    # Four characters stand somewhere in a signature by chance, now and then.
    return {text.encode() for text in texts} | wide | {each.encode() for each in encoded if len(each) > 4}


FORMS = {form for secret in (TOKEN, *KEY.splitlines()[1:3], PIN) for form in forms_of(secret)} | {
    number.tobytes() for number in (np.int64(PIN), np.float64(PIN))
}


class Plain:
    def __init__(self, token: str) -> None:
        self.token = token


class Slotted:
    __slots__ = ("token",)

    def __init__(self, token: str) -> None:
        self.token = token


class Shown:
    """Hides nothing in its state: its repr knows the secret from elsewhere."""

    def __repr__(self) -> str:
        return f"<shown {os.environ['MY_TOKEN']}>"


@dataclass
class Record:
    token: str


@dataclass(frozen=True, slots=True)
class Frozen:
    tokens: tuple[str, ...]


class Named(NamedTuple):
    token: str


class Text(str):
    __slots__ = ()


RESULTS: dict[str, Callable[[str], Any]] = {
    "text": lambda s: f"it is {s}.",
    "set": lambda s: {s, 1},
    "frozenset": lambda s: frozenset([s]),
    "tuple": lambda s: (s, (s,)),
    "key": lambda s: {s: 1},
    "other keys": lambda s: {(s, 1): s},
    "named tuple": Named,
    "dataclass": Record,
    "frozen dataclass": lambda s: Frozen((s, s)),
    "object": Plain,
    "object with slots": Slotted,
    "object with a repr": lambda s: Shown(),
    "class of a text": Text,
    "namespace": lambda s: types.SimpleNamespace(token=s),
    "ordered": lambda s: collections.OrderedDict(a=s),
    "deque": lambda s: collections.deque([s]),
    "function": lambda s: lambda: s,
    "partial": lambda s: partial(print, s),
    "exception": lambda s: ValueError(s),
    "path": lambda s: Path("/srv") / s.replace("/", "_") / s,
    "bytes": lambda s: b"\xff\x00" + s.encode(),
    "bytearray": lambda s: bytearray(s.encode()),
    "bytes inside": lambda s: {"a": (s.encode(),)},
    "wide bytes": lambda s: s.encode("utf-16"),
    "wide bytes inside": lambda s: [s.encode("utf-32-le")],
    "array of bytes": lambda s: array.array("B", s.encode()),
    "list": lambda s: [[s], {"a": [s]}],
    "surrogate": lambda s: f"\ud800{s}",
    "upper": lambda s: (s.upper(), s.lower()),
    "reversed": lambda s: {s[::-1]},
    "hex": lambda s: s.encode().hex(),
    "base64": lambda s: [base64.b64encode(b"x" * n + s.encode()).decode() for n in range(3)],
    "url": lambda s: f"https://u:{quote(s, safe='').lower()}@h/?q={quote_plus(s)}",
    "json": lambda s: {"body": json.dumps({"a": json.dumps(s)})},
    "large text": lambda s: "a" * 100_000 + s + "b" * 100_000,
    "large list": lambda s: [f"{n} {s if n == 7 else ''}" for n in range(20_000)],
    "frame": lambda s: pd.DataFrame({"a": [1, 2], "b": ["x", s]}),
    "frame of objects": lambda s: pd.DataFrame({"a": [{1, 2}, {s}]}),
    "categories": lambda s: pd.DataFrame({"a": pd.Categorical([s, "x"])}),
    "columns": lambda s: pd.DataFrame({s: [1]}),
    "index": lambda s: pd.DataFrame({"a": [1]}, index=pd.Index([s], name="x")),
    "large frame": lambda s: pd.DataFrame({"a": ["x" * 50] * 5_000 + [s]}),
    "series": lambda s: pd.Series([s], name="x"),
    "name of a series": lambda s: pd.Series([1], name=s),
    "numpy text": np.str_,
    "array": lambda s: np.array(["x", s]),
    "array of objects": lambda s: np.array([s, None], dtype=object),
    "array in bytes": lambda s: np.frombuffer(s.encode(), dtype=np.uint8).copy(),
    "array with fields": lambda s: np.array([(s, 1)], dtype=[("a", "U60"), ("b", "i4")]),
    "large array": lambda s: np.array(["x" * 40] * 4_000 + [s]),
}
NUMBERS: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "decimal": Decimal,
    "numpy int": np.int64,
    "ints": lambda s: {int(s), 1},
    "int in an object": lambda s: types.SimpleNamespace(a=int(s)),
    "array of ints": lambda s: np.array([1, int(s)]),
    "array of floats": lambda s: np.array([1, float(s)]),
    "frame of ints": lambda s: pd.DataFrame({"a": [1, int(s)]}),
    "key": lambda s: {int(s): 1},
    "instant": lambda s: pd.Timedelta(int(s), unit="s"),
    "complex": lambda s: [complex(1, int(s))],
    "array with gaps": lambda s: pd.array([int(s), None], dtype="Int64"),
    "floats with gaps": lambda s: pd.Series([float(s), None], dtype="Float64"),
    "array in an object": lambda s: types.SimpleNamespace(a=np.array([int(s)])),
}


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, secret in {"MY_TOKEN": TOKEN, "MY_KEY": KEY, "MY_PIN": PIN}.items():
        monkeypatch.setenv(name, secret)
    path = tmp_path / "kept" / "journal.db"
    with iron.open(path):
        yield path


SOURCES = {"token": {"env": "MY_TOKEN"}, "key": {"env": "MY_KEY"}, "pin": {"env": "MY_PIN"}}


def secretly(*nodes: Node, functions: dict[str, Callable[..., Any]] | None = None, **keys: Any) -> Graph:
    return graph_of(*nodes, functions=functions or {}, secrets=SOURCES, **keys)


def calling(function: Callable[..., Any], *given: str, **keys: Any) -> Graph:
    return secretly({"id": "a", "python": "f", "with": list(given), **keys}, functions={"f": function})


def contents(path: Path) -> Iterator[bytes]:
    """Yield the bytes of all files of the journal, and what is compressed in them once more as it was before."""
    for file in path.parent.rglob("*"):
        if file.is_file():
            yield file.read_bytes()
            yield from unpacked(file.read_bytes())
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        for table in tables:
            for row in connection.execute(f"select * from [{table}]"):
                for each in row:
                    if isinstance(each, bytes):
                        yield from unpacked(each)


def unpacked(content: bytes) -> Iterator[bytes]:
    import pyarrow as pa

    if content.startswith(b"ARROW1"):
        table = pa.ipc.open_file(content).read_all()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        yield sink.getvalue().to_pybytes()


def secrets_in(path: Path, *more: object) -> list[bytes]:
    """Return the forms of secrets that stand in the files of the journal, or in what else is given."""
    texts = [each if isinstance(each, str) else repr(each) for each in more]
    places = [*contents(path), *(text.encode("utf-8", "replace") for text in texts)]
    return [form for form in FORMS for place in places if form in place]


def shown(graph: Graph) -> list[str]:
    run = graph.last
    assert run is not None
    frames = [run.steps(), run.attempts(), run.events(), iron.runs(), iron.steps()]
    return [*(frame.to_string(max_colwidth=None) for frame in frames), str(run.error), str(run._repr_mimebundle_())]
