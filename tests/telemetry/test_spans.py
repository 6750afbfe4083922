"""Spans of OpenTelemetry: which there are, of which trace, and that nothing of it is imported otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.trace")

# A tracer of the library's own interface that keeps what it is told; the SDK is no dependency.
TRACER = """
import json, sys
from contextlib import contextmanager
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags

SPANS = []

class Span(NonRecordingSpan):
    def __init__(self, name, context, parent, attributes):
        super().__init__(context)
        self.told = {"name": name, "trace": f"{context.trace_id:032x}", "span": f"{context.span_id:016x}",
                     "parent": parent and f"{parent:016x}", "attributes": dict(attributes or {}), "status": None}
        SPANS.append(self.told)
    def is_recording(self):
        return True
    def set_status(self, status, description=None):
        self.told["status"] = getattr(status, "name", str(status))
    def record_exception(self, exception, **_):
        self.told["error"] = type(exception).__name__
    def end(self, end_time=None):
        self.told["ended"] = True

class Tracer(trace.Tracer):
    def start_span(self, name, context=None, kind=None, attributes=None, **_):
        parent = trace.get_current_span(context).get_span_context()
        number = len(SPANS) + 1
        own = SpanContext(parent.trace_id or 77, number, False, TraceFlags(1))
        return Span(name, own, parent.span_id or None, attributes)
    @contextmanager
    def start_as_current_span(self, name, context=None, kind=None, attributes=None, **_):
        span = self.start_span(name, context, kind, attributes)
        with trace.use_span(span, end_on_exit=True):
            yield span

class Provider(trace.TracerProvider):
    def get_tracer(self, *_, **__):
        return Tracer()

trace.set_tracer_provider(Provider())
"""
FLOWS = """
import ironflow_nb as iron
from ironflow_nb import flow, step
from opentelemetry import trace

@step
def work(n):
    return f"{trace.get_current_span().get_span_context().span_id:016x}"

@step(retries=1)
def flaky():
    if iron.current_run().attempts()["attempt"].max() < 2:
        raise ConnectionError("once")

@flow
def child(n):
    return work(n)

@flow
def parent():
    flaky()
    return [work(1), *work.map(range(2)), child(3)]

@flow
async def asynchronous():
    return [await later(1), work(2)]

@step
async def later(n):
    return n

@flow
def waits():
    work(1)
    iron.wait_for("go")
    return work(2)
"""


def traced(folder: Path, code: str, **environment: str) -> Any:
    """Run the code with a tracer in a process of its own; return what it prints as JSON, or the spans."""
    text = f"{TRACER}\n{FLOWS}\n{code}\nprint(json.dumps(SPANS))\n"
    found = subprocess.run(
        [sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, check=False, timeout=120,
        env=os.environ | {"IRONFLOW_TRACES": "1"} | environment,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout.splitlines()[-1])


def test_a_run_is_a_span_with_its_steps_and_children_in_it(tmp_path: Path) -> None:
    spans = traced(tmp_path, "parent()")
    assert len({span["trace"] for span in spans}) == 1
    assert all(span["ended"] for span in spans)
    by_span = {span["span"]: span for span in spans}
    runs = [span for span in spans if span["name"] == "run parent"]
    assert len(runs) == 1
    steps = [span for span in spans if span["name"] == "step work"]
    assert len(steps) == 4
    parents = [by_span[span["parent"]]["name"] for span in steps]
    assert sorted(parents) == ["run child", "run parent", "run parent", "run parent"]
    flaky = [(span["attributes"]["ironflow.attempt"], span["status"], span.get("error"))
             for span in spans if span["name"] == "step flaky"]  # fmt: skip
    assert flaky == [(1, "ERROR", "ConnectionError"), (2, None, None)]


def test_the_code_of_a_step_has_its_span_as_the_current_one(tmp_path: Path) -> None:
    spans = traced(
        tmp_path, "results = parent()\nassert results[:3] == [s['span'] for s in SPANS if s['name'] == 'step work'][:3]"
    )
    assert spans


def test_an_async_flow_is_traced_as_well(tmp_path: Path) -> None:
    spans = traced(tmp_path, "asynchronous.start().result()")
    [run] = [span for span in spans if span["name"] == "run asynchronous"]
    assert {span["parent"] for span in spans if span["name"].startswith("step")} == {run["span"]}


def test_all_stretches_of_a_run_are_of_one_trace_whatever_process_executes_them(tmp_path: Path) -> None:
    first = traced(tmp_path, "waits.start().pause().wait()")
    code = "import ironflow_nb as i; r = i.get_run(i.runs()['run_id'][0]); r.signal('go'); r.resume().result()"
    second = traced(tmp_path, code)
    assert {span["name"] for span in second} >= {"run waits", "step work"}
    assert len({span["trace"] for span in [*first, *second]}) == 1


def test_a_run_that_begins_in_a_span_stays_in_its_trace(tmp_path: Path) -> None:
    code = """
with trace.get_tracer("outside").start_as_current_span("outside"):
    run = waits.start()
run.pause().wait()
"""
    first = traced(tmp_path, code)
    code = "import ironflow_nb as i; r = i.get_run(i.runs()['run_id'][0]); r.signal('go'); r.resume().result()"
    second = traced(tmp_path, code)
    assert {span["trace"] for span in [*first, *second]} == {first[0]["trace"]}
    assert first[0]["name"] == "outside"


def test_nothing_is_imported_while_nothing_is_traced(tmp_path: Path) -> None:
    code = f"import sys\n{FLOWS.replace('from opentelemetry import trace', '')}\nchild.fn\n"
    code = code.replace('f"{trace.get_current_span().get_span_context().span_id:016x}"', "n")
    code += "child(1)\nassert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    environment = {name: value for name, value in os.environ.items() if name != "IRONFLOW_TRACES"}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
