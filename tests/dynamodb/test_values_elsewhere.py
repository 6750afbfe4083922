"""A journal in DynamoDB whose large values are in a folder that its machines share."""

from __future__ import annotations

from pathlib import Path

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.dynamodb.conftest import Machine


@step
def large(n: int) -> bytes:
    return bytes([n]) * 100_000


def test_another_machine_finds_the_place_in_the_log(on_machine: Machine, tmp_path: Path) -> None:
    with iron.open(on_machine("a"), values=tmp_path / "shared"):
        assert flow(lambda: len(large(1)), name="report")() == 100_000
    with iron.open(on_machine("b")):
        assert iron.get_run(iron.runs()["run_id"][0]).value("large") == b"\x01" * 100_000
    assert len([path for path in (tmp_path / "shared").rglob("*") if path.is_file()]) == 1
