"""Schedules and events in cells: the magics, and what a cell that defines a flow starts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import ironflow_nb as iron
from ironflow_nb.execution.registry import REGISTRY
from tests.notebook.shells import Shell
from tests.triggers.conftest import forgotten_definitions
from tests.waits.conftest import until


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    with forgotten_definitions():
        yield


FLOWS = """
%load_ext ironflow_nb
import ironflow_nb as iron
from ironflow_nb import flow

@flow(on="order.placed")
def fulfil(order):
    return order["id"]

@flow
def report():
    return "reported"
"""


def test_a_cell_that_defines_a_flow_is_enough_for_its_events(shell: Shell) -> None:
    with iron.open(REGISTRY.engine().journal.location):
        iron.emit("order.placed", {"id": 7})
    shell.fine(FLOWS)
    until(lambda: shell.fine("fulfil.last and fulfil.last.status").value == "completed")
    assert shell.fine("fulfil.last.result()").value == 7


def test_the_magic_emits_and_lists_schedules(shell: Shell) -> None:
    shell.fine(FLOWS)
    shell.space["placed"] = {"id": 8}
    shell.fine("%ironflow emit order.placed '{\"id\": 7}' --key a")
    shell.fine("%ironflow emit order.placed placed")
    until(lambda: shell.fine("(fulfil.runs()['status'] == 'completed').sum()").value == 2)
    assert shell.fine("sorted(fulfil.runs()['output'])").value == ["7", "8"]
    shell.fine("report.schedule(every_s='1h', name='hourly')")
    assert shell.fine("%ironflow schedules").value["schedule"].tolist() == ["hourly"]
    assert shell.fine("%ironflow schedules hourly --pause").value["is_paused"].tolist() == [True]
    assert shell.fine("%ironflow schedules hourly --resume").value["state"].tolist() == ["scheduled"]
    assert shell.fine("%ironflow schedules hourly --remove").value.empty


def test_a_notebook_that_is_opened_says_what_waits_for_its_flows(shell: Shell) -> None:
    with iron.open(REGISTRY.engine().journal.location):
        report = iron.flow(lambda: None, name="report")
        report.schedule(every_s="1h")
        report.schedule(every_s="2h", name="other")
    REGISTRY.forget("flow", "report")
    shown = shell.fine("%load_ext ironflow_nb")
    assert "2 schedules of report wait for their notebook" in str(shown.bundles)


def test_what_the_magics_can_not_do_is_a_usage_error(shell: Shell) -> None:
    shell.fine(FLOWS)
    assert "put JSON in single quotes" in shell.run("%ironflow emit order.placed {id:7}").refused()
    assert "the name of an event" in shell.run("%ironflow emit ''").refused()
    assert "needs the name" in shell.run("%ironflow schedules --pause").refused()
    assert "no schedule is called 'x'" in shell.run("%ironflow schedules x --pause").refused()
