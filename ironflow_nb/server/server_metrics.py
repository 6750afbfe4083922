"""The metrics of a server and of its journal, for Prometheus: what ended since the server began, and what goes on now.

The names are those that engines of this kind have in common. Flows and steps are labels, never runs or values, so their
number is that of the code. What ended is read from the events since the last time that somebody asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ironflow_nb.core.events import RunCancelled, RunCompleted, RunFailed, StepCompleted, StepFailed
from ironflow_nb.core.identity import RunId, parse_step_ref
from ironflow_nb.core.run_state import RunRow
from ironflow_nb.core.status import OWNED, RunStatus, StepStatus
from ironflow_nb.errors import IronflowError
from ironflow_nb.execution import Engine, logger
from ironflow_nb.history.lanes_frame import living_places
from ironflow_nb.history.lookup import skip_damaged
from ironflow_nb.history.run_status import statuses_of
from ironflow_nb.journal.breaker_rows import breakers_of
from ironflow_nb.journal.ports import QueueSelect, Reader, Select

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_REQUEST_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WORK_S: Final = (0.001, 0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200, 86400)
_ENDS: Final = {
    RunCompleted.__name__: RunStatus.COMPLETED,
    RunFailed.__name__: RunStatus.FAILED,
    RunCancelled.__name__: RunStatus.CANCELLED,
}
_STEP_ENDS: Final = {StepCompleted.__name__: StepStatus.COMPLETED, StepFailed.__name__: StepStatus.FAILED}
_ALL_ENDS: Final = frozenset({*_ENDS, *_STEP_ENDS})
_GOING_ON: Final = (*sorted(OWNED), RunStatus.INTERRUPTED, RunStatus.PAUSED)
_AT_ONCE: Final = 50_000


class _Labeled(NamedTuple):
    """One metric of the present: its name, its help, its labels, and a value for each of their combinations."""

    name: str
    about: str
    labels: tuple[str, ...]
    values: Mapping[Any, float]


class ServerMetrics:
    """Counts the requests of a server, and reads its journal when it is asked."""

    def __init__(self, engine: Engine) -> None:
        """Count from the present end of the journal on.

        Raises:
            ModuleNotFoundError: the extra `server` is not installed.
        """
        import prometheus_client as prometheus

        self._engine = engine
        self._lock = engine.threads.lock()
        self._position = _last_position(engine)
        self._registry = registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=registry)
        registry.register(self)

        def counter(name: str, about: str, *labels: str) -> prometheus.Counter:
            return prometheus.Counter(name, about, labels, registry=registry)

        def histogram(name: str, about: str, buckets: Sequence[float], *labels: str) -> prometheus.Histogram:
            return prometheus.Histogram(name, about, labels, buckets=buckets, registry=registry)

        self._runs = counter("ironflow_runs", "Runs that have ended.", "flow", "kind", "status")
        self._run_s = histogram("ironflow_run_duration_seconds", "From beginning to end.", _WORK_S, "flow")
        self._steps = counter("ironflow_steps", "Attempts of steps that have ended.", "flow", "step", "status")
        self._step_s = histogram("ironflow_step_duration_seconds", "Attempts of steps.", _WORK_S, "flow", "step")
        self._requests = counter("ironflow_http_requests", "Requests.", "method", "path", "status")
        self._request_s = histogram(
            "ironflow_http_request_duration_seconds", "Until the answer begins.", _REQUEST_S, "method", "path"
        )

    def count_request(self, method: str, path: str, status: int, duration_s: float) -> None:
        """Count a request of the route with that path."""
        self._requests.labels(method, path, str(status)).inc()
        self._request_s.labels(method, path).observe(duration_s)

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        from prometheus_client import generate_latest

        with self._lock:
            self._read_events()
        text: bytes = generate_latest(self._registry)
        return text

    # -- what has ended --------------------------------------------------------------------------------------------

    def _read_events(self) -> None:
        with self._engine.reading() as reader:
            self._position = min(self._position, reader.last_position())  # the journal may have been replaced
            while self._count_events(reader) == _AT_ONCE:
                pass

    def _count_events(self, reader: Reader) -> int:
        """Count the next events, and return how many there were."""
        ended: list[tuple[RunId, str, str | None, Mapping[str, Any]]] = []
        n = 0
        for piece in reader.event_columns(Select(after=self._position, limit=_AT_ONCE)):
            n += len(piece.position)
            self._position = piece.position[-1] if piece.position else self._position
            events = zip(piece.run_id, piece.type, piece.step, piece.data, strict=True)
            ended += [(run, kind, step, data or {}) for run, kind, step, data in events if kind in _ALL_ENDS]
        found = skip_damaged(reader.runs, Select(run_ids={run_id for run_id, *_ in ended})) if ended else []
        runs = {run.run_id: run for run in found}
        for run_id, kind, step, data in ended:
            if run_id in runs:
                self._count_end(runs[run_id], kind, step, data)
        return n

    def _count_end(self, run: RunRow, kind: str, step: str | None, data: Mapping[str, Any]) -> None:
        if step is None:
            self._runs.labels(run.name, run.kind, _ENDS[kind].value).inc()
            if run.ended_at is not None:
                self._run_s.labels(run.name).observe((run.ended_at - run.started_at) / 1e6)
            return
        name = parse_step_ref(step)[0]
        status = StepStatus.TIMED_OUT if data.get("timed_out") else _STEP_ENDS[kind]
        self._steps.labels(run.name, name, status.value).inc()
        if (duration_s := data.get("duration_s")) is not None:
            self._step_s.labels(run.name, name).observe(duration_s)

    # -- what goes on ----------------------------------------------------------------------------------------------

    def collect(self) -> Iterator[Any]:
        """Yield what the journal shows now. Prometheus calls it."""
        from prometheus_client.core import GaugeMetricFamily

        try:
            found = list(self._present())
        except IronflowError as error:  # the rest is told
            logger().warning("metrics of the journal: %s", error)
            return
        for each in found:
            family = GaugeMetricFamily(each.name, each.about, labels=each.labels)
            for labels, value in each.values.items():
                family.add_metric(labels, value)
            yield family

    def _present(self) -> Iterable[_Labeled]:
        engine, now = self._engine, self._engine.clock.now()
        with engine.reading() as reader:
            runs = skip_damaged(reader.runs, Select(statuses=_GOING_ON))
            statuses = statuses_of(engine, reader, runs)
            places = living_places(engine, reader, reader.lane_places())
            queued = reader.work(QueueSelect())
            breakers = breakers_of(reader).breakers()
            n_processes = len(engine.access.living_owners(reader))
        active = Counter((run.name, statuses[run.run_id].value) for run in runs)
        in_lanes = Counter((place.lane, "waiting" if place.held_since is None else "held") for place in places)
        work = Counter(
            (item.kind, "dead" if item.dead_at is not None else "due" if item.due_at <= now else "later")
            for item in queued
        )
        opened = {(state.name,): float(state.status(now).value != "closed") for state in breakers}
        yield _Labeled("ironflow_active_runs", "Runs that have not ended.", ("flow", "status"), active)
        yield _Labeled("ironflow_lane_places", "Steps and runs in lanes.", ("lane", "state"), in_lanes)
        yield _Labeled("ironflow_work_items", "Waits, timers, effects and starts.", ("kind", "state"), work)
        yield _Labeled("ironflow_breaker_open", "1 while no attempt begins, or one decides.", ("breaker",), opened)
        yield _Labeled("ironflow_processes", "Living processes on the journal.", (), {(): float(n_processes)})


def _last_position(engine: Engine) -> int:
    with engine.journal.reading() as reader:
        return reader.last_position()
