"""The kind date."""

from __future__ import annotations

from typing import Any

import pytest

from ironflow_nb.errors import NodeFailed
from ironflow_nb.graphs.compiler.schema_check import problems
from ironflow_nb.graphs.graph import Graph
from ironflow_nb.graphs.nodes.dates import DATE
from tests.graphs.evaluations import context_of

BERLIN = "Europe/Berlin"


def dated(**options: Any) -> Any:
    assert list(problems(DATE.schema, options, allows_expressions=False)) == []
    return DATE.perform(options, context_of())


DATED: list[tuple[dict[str, Any], str]] = [
    ({"at": "2026-01-31T12:00:00Z"}, "2026-01-31T12:00:00Z"),
    ({"at": "2026-01-31T12:00:00+01:00"}, "2026-01-31T12:00:00+01:00"),
    ({"at": 0}, "1970-01-01T00:00:00Z"),
    ({"at": 1.5, "zone": BERLIN}, "1970-01-01T01:00:01.500000+01:00"),
    ({"at": "2026-07-01T12:00:00Z", "zone": BERLIN}, "2026-07-01T14:00:00+02:00"),
    ({"at": "2026-07-01", "from_zone": BERLIN, "zone": "UTC"}, "2026-06-30T22:00:00Z"),
    ({"at": "1.7.2026 14:30", "from": "%d.%m.%Y %H:%M", "from_zone": BERLIN}, "2026-07-01T14:30:00+02:00"),
    ({"at": "01/07/26 +0530", "from": "%d/%m/%y %z", "zone": "UTC"}, "2026-06-30T18:30:00Z"),
    ({"at": "2026-07-01T12:00:00Z", "format": "%d.%m.%Y"}, "01.07.2026"),
    ({"at": "2026-02-28T12:00:00Z", "add": "1d"}, "2026-03-01T12:00:00Z"),
    ({"at": "2026-03-01T12:00:00Z", "add": "-90m"}, "2026-03-01T10:30:00Z"),
    ({"at": "2026-03-01T12:00:00Z", "add": -1}, "2026-03-01T11:59:59Z"),
    # A day has 24 hours, also where the clocks are changed; the hour that they show twice is the first one.
    ({"at": "2026-03-28T12:00:00", "from_zone": BERLIN, "add": "1d"}, "2026-03-29T13:00:00+02:00"),
    ({"at": "2026-10-25T02:30:00", "from_zone": BERLIN}, "2026-10-25T02:30:00+02:00"),
]


@pytest.mark.parametrize(("options", "expected"), DATED, ids=[str(options) for options, _ in DATED])
def test_date_gives_the_time_in_its_zone_and_form(options: Any, expected: str) -> None:
    assert dated(**options) == expected


UNDATED: list[tuple[dict[str, Any], str]] = [
    ({"at": "2026-07-01T12:00:00"}, "at has no time zone, so it is no instant; say in which it is: from_zone:"),
    ({"at": "tomorrow"}, "at is a text of 8 characters, and no time in ISO form; from: says another"),
    ({"at": "1.7.2026", "from": "%Y-%m-%d"}, "and no time of the form %Y-%m-%d"),
    ({"at": "x", "from": "%"}, "and no time of the form %"),
    ({"at": "2026-03-29T02:30:00", "from_zone": BERLIN}, "is no time in Europe/Berlin: its clocks skip it"),
    ({"at": 0, "zone": "Europe/Berlni"}, "there is no time zone 'Europe/Berlni'"),
    ({"at": 0, "zone": "../../etc/passwd"}, "there is no time zone"),
    ({"at": 0, "zone": "a\0b"}, "there is no time zone"),
    ({"at": 1e300}, "n: "),
    ({"at": 0, "add": 1e300}, "n: "),
    ({"at": 0, "add": "soon"}, "'soon' is no duration"),
    ({"at": "0001-01-01T00:00:00Z", "zone": "America/New_York"}, "n: "),
    ({"at": 0, "format": "\ud800"}, "n: "),
]


@pytest.mark.parametrize(("options", "expected"), UNDATED, ids=[ascii(options) for options, _ in UNDATED])
def test_what_is_no_time_is_an_error_that_is_not_retried(options: Any, expected: str) -> None:
    with pytest.raises(NodeFailed) as caught:
        dated(**options)
    assert expected in str(caught.value)
    assert caught.value.is_retryable is False


def test_the_time_of_a_run_is_dated() -> None:
    graph = Graph.from_yaml("""
graph: dated
nodes:
  - {id: day, date: {at: "{{ input.at }}", zone: Asia/Tokyo, format: "%Y-%m-%d"}}
  - {id: next, date: {at: "{{ day }}", from_zone: Asia/Tokyo, add: 1d}}
""")
    assert graph.test(at="2026-01-01T20:00:00Z").output == "2026-01-03T00:00:00+09:00"
