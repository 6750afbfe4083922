"""The metrics of the server for Prometheus."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.server.conftest import Service
from tests.waits.conftest import until

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
prometheus = pytest.importorskip("prometheus_client.parser")

ROOT = Path(__file__).parent.parent.parent


def measured(service: Service) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return the samples by name and labels."""
    answer = service.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in prometheus.text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def labels(**given: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(given.items()))


def test_what_ended_and_what_goes_on_is_counted(service: Service) -> None:
    service.begin()
    for _ in range(3):
        service.start("squares", input={"n": 2}, wait=True)
    service.start("bad", wait=True)
    parked = service.start("waits")["run_id"]
    service.until_status(parked, "waiting")
    found = measured(service)
    runs = found["ironflow_runs_total"]
    assert runs[labels(flow="squares", kind="flow", status="completed")] == 3
    assert runs[labels(flow="bad", kind="flow", status="failed")] == 1
    steps = found["ironflow_steps_total"]
    assert steps[labels(flow="squares", step="work", status="completed")] == 6
    assert found["ironflow_step_duration_seconds_count"][labels(flow="squares", step="work")] == 6
    assert found["ironflow_run_duration_seconds_count"][labels(flow="squares")] == 3
    assert found["ironflow_active_runs"] == {labels(flow="waits", status="waiting"): 1}
    assert found["ironflow_work_items"][labels(kind="signal", state="later")] == 1
    assert found["ironflow_processes"] == {(): 1}
    assert found["ironflow_http_requests_total"][labels(method="POST", path="/runs", status="200")] == 4
    service.client.post(f"/runs/{parked}/signals/go").raise_for_status()
    service.until_status(parked, "completed")
    until(lambda: "ironflow_active_runs" not in measured(service))
    assert measured(service)["ironflow_runs_total"][labels(flow="waits", kind="flow", status="completed")] == 1


def test_a_new_server_counts_from_its_beginning(service: Service) -> None:
    service.begin()
    service.start("squares", input={"n": 2}, wait=True)
    service.end()
    service.begin()
    assert "ironflow_runs_total" not in measured(service)


def test_the_board_asks_for_metrics_and_labels_that_exist(service: Service) -> None:
    service.begin()
    service.start("squares", input={"n": 1}, wait=True)
    parked = service.start("waits")["run_id"]
    service.until_status(parked, "waiting")
    found = measured(service)
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", service.client.get("/metrics").text, re.MULTILINE))
    names = {f"{name}_bucket" if kind == "histogram" else name for name, kind in types.items()}
    board = json.loads((ROOT / "deploy" / "grafana_board.json").read_text())
    asked = [(target["expr"], target["legendFormat"]) for panel in board["panels"] for target in panel["targets"]]
    for expression, legend in asked:
        [name] = re.findall(r"\b(?:ironflow|process)_\w+", expression)
        assert name in names
        by = re.findall(r"[\w]+", " ".join(re.findall(r"by \(([^)]*)\)", expression)))
        assert set(re.findall(r"{{(\w+)}}", legend)) <= {*by, "instance"}
        known = {label for sample in found.get(name, {}) for label, _ in sample}
        filters = re.findall(r'(\w+)=~?"', expression)
        assert {*by, *filters} <= known or name not in found, expression
