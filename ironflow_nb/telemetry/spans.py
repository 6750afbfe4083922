"""Spans of OpenTelemetry for runs, steps and requests, with the context of W3C in and out.

They are made if ``IRONFLOW_TRACES`` is 1 when the package is imported; otherwise nothing of it is imported. Who exports
them is up to the process: it sets the tracer provider, as `opentelemetry-instrument` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer

TRACES_VARIABLE: Final = "IRONFLOW_TRACES"
IS_TRACED: Final = os.environ.get(TRACES_VARIABLE, "") not in {"", "0"}
_NAME: Final = "ironflow_nb"
_CARRIERS: Final = ("traceparent", "tracestate")


@cache
def _tracer() -> Tracer:
    try:
        from opentelemetry import trace
    except ModuleNotFoundError:
        message = f"{TRACES_VARIABLE}=1 needs OpenTelemetry: pip install 'ironflow-nb[telemetry]'"
        raise ModuleNotFoundError(message, name="opentelemetry") from None
    return trace.get_tracer(_NAME)


def trace_headers() -> dict[str, str]:
    """Return the headers that carry the current span to another process; none while nothing is traced."""
    carrier: dict[str, str] = {}
    if IS_TRACED:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(carrier)
    return carrier


def current_trace() -> str | None:
    """Return the current span as the text that `run_span` takes, or None if there is none."""
    return trace_headers().get("traceparent")


def _context_of(headers: Mapping[str, str]) -> Context:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({name: headers[name] for name in _CARRIERS if name in headers})


def _derived(run_id: str) -> str:
    """Return the trace of a run that nobody has begun within one: the same in every process that executes the run."""
    found = blake2b(run_id.encode(), digest_size=24).hexdigest()
    return f"00-{found[:32]}-{found[32:]}-01"


def run_span(run_id: str, name: str, trace: Callable[[], str | None]) -> AbstractContextManager[object]:
    """Return the span of one stretch of a run; `trace` returns the span in which the run was begun, if it is recorded.

    All stretches of a run are of one trace, whichever processes execute them.
    """
    return _run_span(run_id, name, trace) if IS_TRACED else nullcontext()


@contextmanager
def _run_span(run_id: str, name: str, trace: Callable[[], str | None]) -> Iterator[None]:
    begun_in = trace() or current_trace() or _derived(run_id)
    attributes = {"ironflow.run_id": run_id, "ironflow.flow": name}
    context = _context_of({"traceparent": begun_in})
    with _tracer().start_as_current_span(f"run {name}", context=context, attributes=attributes):
        yield


def begin_step_span(run_id: str, step: str, name: str, attempt: int) -> Callable[[], None]:
    """Begin the span of an attempt as the current one, and return what ends it. Only if `IS_TRACED`."""
    attributes: dict[str, Any] = {"ironflow.run_id": run_id, "ironflow.step": step, "ironflow.attempt": attempt}
    span = _tracer().start_as_current_span(f"step {name}", attributes=attributes)
    span.__enter__()

    def end() -> None:
        span.__exit__(None, None, None)

    return end


def note_span_failure(error: BaseException) -> None:
    """Note on the current span that what it is about has failed. Only if `IS_TRACED`."""
    from opentelemetry import trace

    span = trace.get_current_span()
    span.record_exception(error)
    span.set_status(trace.StatusCode.ERROR, type(error).__name__)


def request_span(method: str, path: str, headers: Mapping[str, str]) -> AbstractContextManager[object]:
    """Return the span of a request to the server, within that of its sender."""
    if not IS_TRACED:
        return nullcontext()
    from opentelemetry.trace import SpanKind

    attributes = {"http.request.method": method, "http.route": path}
    return _tracer().start_as_current_span(
        f"{method} {path}", context=_context_of(headers), kind=SpanKind.SERVER, attributes=attributes
    )
