"""Values that runs leave for one another by cache_set and cache_get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import ironflow_nb as iron
from ironflow_nb.errors import NodeFailed, ValueNotStorable
from tests.conftest import Lab
from tests.graphs.playing import graph_of


def set_it(value: Any, **options: Any) -> Any:
    return graph_of({"id": "a", "cache_set": {"key": "k", "value": value, **options}}, name="set_it").options(
        fresh=True
    )()


def get_it(**options: Any) -> Any:
    return graph_of({"id": "a", "cache_get": {"key": "k", **options}}, name="get_it").options(fresh=True)()


@pytest.mark.parametrize("value", [None, 0, "", {"a": [1, None, "ü"]}, [1.5]])
def test_a_later_run_gets_the_value(lab: Lab, value: Any) -> None:
    assert get_it() == {"value": None, "is_hit": False}
    assert get_it(otherwise=7) == {"value": 7, "is_hit": False}
    assert set_it(value) == {"key": "k", "expires_at": None}
    assert get_it(otherwise=7) == {"value": value, "is_hit": True}


def test_the_newest_value_counts_and_another_key_has_none(lab: Lab) -> None:
    set_it(1)
    set_it(2)
    assert get_it()["value"] == 2
    assert graph_of({"id": "a", "cache_get": "other"})()["is_hit"] is False


def test_a_frame_is_kept_too(lab: Lab) -> None:
    frame = pd.DataFrame({"a": [1, 2]})
    nodes = [{"id": "made", "python": "make"}, {"id": "kept", "cache_set": {"key": "k", "value": "{{ made }}"}}]
    graph_of(*nodes, functions={"make": lambda: frame})()
    assert get_it()["value"].equals(frame)


def test_another_process_gets_the_value(lab: Lab) -> None:
    set_it("kept")
    lab.die()
    lab.begin()
    assert get_it()["value"] == "kept"


def test_a_value_is_gone_after_its_time(lab: Lab) -> None:
    clock = lab.simulate_time()
    made = set_it(1, ttl="1m")
    assert pd.Timestamp(made["expires_at"]).tzinfo is not None
    clock.advance(59)
    assert get_it()["is_hit"] is True
    clock.advance(1)
    assert get_it(otherwise="none") == {"value": "none", "is_hit": False}


@pytest.mark.parametrize("ttl", ["soon", -1, "{{ 'never' }}"])
def test_a_time_that_is_none_is_an_error(lab: Lab, ttl: Any) -> None:
    with pytest.raises(NodeFailed, match="ttl"):
        set_it(1, ttl=ttl)
    assert get_it()["is_hit"] is False


def test_a_run_that_goes_on_has_what_it_got_before(lab: Lab) -> None:
    broken = [True]

    def work(got: Any) -> Any:
        if broken[0]:
            raise ConnectionError("down")
        return got

    nodes = [{"id": "got", "cache_get": "k"}, {"id": "used", "python": "work", "with": ["{{ got.value }}"]}]
    graph = graph_of(*nodes, name="goes_on", functions={"work": work})
    set_it("before")
    with pytest.raises(ConnectionError):
        graph()
    set_it("after")
    broken[0] = False
    [run_id] = iron.runs(graph)["run_id"]
    assert iron.resume(run_id).result() == "before"


def test_a_secret_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "darjeeling")
    node = {"id": "a", "cache_set": {"key": "k", "value": ["{{ secrets.token }}"]}}
    with iron.open(tmp_path / "j.db"):
        with pytest.raises(ValueNotStorable, match="secret"):
            graph_of(node, secrets={"token": {"env": "MY_TOKEN"}})()
        assert get_it()["is_hit"] is False


def test_what_is_pruned_leaves_the_value(tmp_path: Path) -> None:
    with iron.open(tmp_path / "j.db"):
        set_it({"big": "x" * 200_000})
        assert len(iron.prune(older_than="0s", dry_run=False)) == 1
        assert get_it()["value"] == {"big": "x" * 200_000}
