"""Random lives of a run: a small model that lives them, writes down their facts, and knows the rows they end with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hypothesis import strategies as st
from msgspec.structs import replace

from ironflow_nb.core import events
from ironflow_nb.core.event_kinds import NoteEvent
from ironflow_nb.core.events import RecordedEvent, RunEvent
from ironflow_nb.core.identity import BranchId, RunId, StepRef
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import RunStatus, StepStatus
from tests.core.every_event import SAMPLES
from tests.core.made import RUN, digest, run_row, run_started, step_started, value

Attempt = tuple[StepRef, int]

NOTED: Final = sorted(name for name, event in SAMPLES.items() if isinstance(event, NoteEvent))
OPEN: Final = {"running", "waiting", "cancelling", "compensating", "pending"}
RESUMABLE: Final = {"failed", "interrupted", "paused", "pending"}


class Life:
    """A run that lives: each deed writes one fact and says what the rows are after it."""

    def __init__(self) -> None:
        self.facts: list[RecordedEvent] = []
        self.at = 1_000
        self.status = "running"
        self.run: dict[str, Any] = {"owner": "me", "started_at": self.at, "updated_at": self.at, "execution": "cell 1"}
        self.steps: dict[Attempt, dict[str, Any]] = {}
        self.tell(run_started(execution="cell 1"))

    def rows(self) -> tuple[RunRow, dict[Attempt, StepRow]]:
        """Return the rows that this life ends with."""
        steps = {place: row | {"status": StepStatus(row["status"])} for place, row in self.steps.items()}
        run = run_row(RunStatus(self.status), **self.run)
        return run, {place: StepRow(**row) for place, row in steps.items()}

    def tell(self, event: RunEvent, place: Attempt | None = None) -> None:
        step, attempt = place or (None, None)
        self.facts.append(RecordedEvent(len(self.facts) + 1, self.at, event, step, attempt))

    def deeds(self) -> list[Callable[[int], None]]:
        """Return what can happen next; a number chooses among the details."""
        possible: list[Callable[[int], None]] = [self.note]
        if self.status in OPEN:
            possible += [self.begin, self.begin, self.reuse, self.skip, self.change, self.hear, self.account, self.stop]
            possible += [self.end] * 3 if self.attempts("running") else []
            possible += [self.begin_wait, self.queue, self.admit, self.hand_over]
            possible += [self.begin_queued] * 2 if self.attempts("pending") else []
            possible += [self.end_wait] * 3 if self.attempts("waiting") else []
            possible += [self.schedule] * 2 if self.attempts("failed") else []
            possible += [self.go_on] if self.attempts("retrying", "failed", "running", "skipped") else []
            possible += [self.redact] if self.attempts("completed") else []
            possible += [self.compensate]
        if self.attempts("completed", "failed", "timed_out", "waiting", "retrying", "running"):
            possible += [self.inject]
        possible += [self.take_back] if self.injected() else []
        if self.status == "compensating":
            possible += [self.undo] * 3 if self.attempts("completed") else []
        if self.status in {*RESUMABLE, "compensating"}:
            possible += [self.resume, self.resume]
            possible += [self.hand_over]
        return possible

    def attempts(self, *statuses: str) -> list[Attempt]:
        """Return the latest attempts that have one of the statuses."""
        return [place for place in self.latest().values() if self.steps[place]["status"] in statuses]

    def latest(self) -> dict[StepRef, Attempt]:
        return {step: (step, n) for step, n in sorted(self.steps, key=lambda place: place[1])}

    def note(self, number: int) -> None:
        places = [None, *self.steps]
        self.tell(SAMPLES[NOTED[number % len(NOTED)]], places[number % len(places)])

    def begin(self, number: int, place: Attempt | None = None) -> None:
        """Begin the first attempt of a step, or that one; the flow may have lived with a failure until here."""
        if place is None:
            place = StepRef(f"fetch[{len(self.latest())}]"), 1
        index = int(place[0][6:-1])
        failures = self.attempts("failed")
        lived_with = tuple(step for step, _ in failures[: number % 3])
        reason = "new" if place[1] == 1 else "failed before"
        branch = ("", "/left.0", "/right.0")[index % 3]
        self.tell(step_started(index=index, branch=branch, nth=number % 2, reason=reason, lived_with=lived_with), place)
        self.steps[place] = self.beginning(place, index, branch, number % 2) | {"status": "running", "reason": reason}
        for step, n in self.latest().values():
            if step in lived_with:
                self.steps[step, n]["lived_with"] = True

    def beginning(self, place: Attempt, index: int, branch: str, nth: int) -> dict[str, Any]:
        return {
            "run_id": RUN,
            "step": place[0],
            "name": "fetch",
            "index": index,
            "attempt": place[1],
            "version": len(self.facts),
            "identity": digest(f"fetch {index}"),
            "code": digest("code"),
            "started_at": self.at,
            "branch": BranchId(branch),
            "nth": nth,
        }

    def queue(self, number: int) -> None:
        index = len(self.latest())
        place = StepRef(f"fetch[{index}]"), 1
        queued = replace(SAMPLES["StepQueued"], index=index, identity=digest(f"fetch {index}"), nth=number % 2)
        self.tell(queued, place)
        self.steps[place] = self.beginning(place, index, "", number % 2) | {"status": "pending"}

    def begin_queued(self, number: int) -> None:
        pending = self.attempts("pending")
        self.begin(0, pending[number % len(pending)])

    def admit(self, number: int) -> None:
        name, self.status = (("RunQueued", "pending"), ("RunAdmitted", "running"))[number % 2]
        self.tell(SAMPLES[name])
        self.run["updated_at"] = self.at

    def reuse(self, number: int) -> None:
        index = len(self.latest())
        place = StepRef(f"fetch[{index}]"), 1
        identity = digest(f"fetch {index}")
        self.tell(replace(SAMPLES["StepReused"], index=index, identity=identity, nth=number % 2), place)
        self.steps[place] = self.beginning(place, index, "", number % 2) | {
            "status": "completed",
            "reason": "reused",
            "output_id": value("output"),
            "origin_run_id": RunId("ba9876543210"),
            "finished_at": self.at,
            "duration_s": 0.0,
        }

    def skip(self, _number: int) -> None:
        index = len(self.latest())
        place = StepRef(f"fetch[{index}]"), 1
        identity = digest(f"fetch {index}")
        self.tell(replace(SAMPLES["StepSkipped"], index=index, identity=identity), place)
        self.steps[place] = self.beginning(place, index, "", 0) | {
            "status": "skipped",
            "reason": "when is false",
            "code": b"",
            "finished_at": self.at,
        }

    def end(self, number: int) -> None:
        running = self.attempts("running")
        place = running[number % len(running)]
        what = value(f"result {number}")
        if number % 2:
            self.tell(events.StepFailed(error=what, duration_s=float(number)), place)
            self.steps[place] |= {"status": "failed", "error_id": what}
        else:
            self.tell(events.StepCompleted(output=what, duration_s=float(number)), place)
            self.steps[place] |= {"status": "completed", "output_id": what}
        self.steps[place] |= {"finished_at": self.at, "duration_s": float(number)}

    def begin_wait(self, number: int) -> None:
        index = len(self.latest())
        place = StepRef(f"fetch[{index}]"), 1
        identity, code, due_at = digest(f"fetch {index}"), digest("code"), self.at + number
        began = events.WaitStarted(
            name="fetch", index=index, identity=identity, code=code, wait_kind="sleep", due_at=due_at
        )
        self.tell(began, place)
        self.steps[place] = self.beginning(place, index, "", 0) | {"status": "waiting", "due_at": due_at}

    def end_wait(self, number: int) -> None:
        """End a wait, with which a waiting run goes on."""
        waiting = self.attempts("waiting")
        place = waiting[number % len(waiting)]
        what = value(f"result {number}")
        outcomes: list[dict[str, Any]] = [{"output": what}, {"error": what}, {}]
        given = outcomes[number % 3]
        self.tell(events.WaitEnded(outcome="any", duration_s=1.0, **given), place)
        status = ("completed", "timed_out", "cancelled")[number % 3]
        self.steps[place] |= {
            "status": status,
            "finished_at": self.at,
            "duration_s": 1.0,
            "lived_with": number % 3 == 1,
        }
        self.steps[place] |= {f"{name}_id": what for name in given}
        if self.status == "waiting":
            self.status = "running"
            self.run["updated_at"] = self.at

    def schedule(self, number: int) -> None:
        failed = self.attempts("failed")
        place = failed[number % len(failed)]
        self.tell(events.StepRetryScheduled(due_at=self.at + number), place)
        self.steps[place] |= {"status": "retrying", "due_at": self.at + number}

    def go_on(self, number: int) -> None:
        """Begin the next attempt of a step; with that, one that was to be retried has simply failed."""
        unfinished = self.attempts("retrying", "failed", "running", "skipped")
        step, n = unfinished[number % len(unfinished)]
        self.begin(0, (step, n + 1))
        if self.steps[step, n]["status"] == "retrying":
            self.steps[step, n]["status"] = "failed"

    def inject(self, number: int) -> None:
        """Give a result by hand: an attempt of its own, beside which what was to be tried again stays so."""
        chosen = self.attempts("completed", "failed", "timed_out", "waiting", "retrying", "running")
        step, n = chosen[number % len(chosen)]
        place, first = (step, n + 1), self.steps[step, n]
        index, branch, nth = first["index"], first["branch"], first["nth"]
        identity = digest(f"fetch {index}")
        given = replace(SAMPLES["OutputInjected"], index=index, identity=identity, branch=branch, nth=nth)
        self.tell(given, place)
        self.steps[place] = self.beginning(place, index, branch, nth) | {
            "status": "completed",
            "reason": "injected",
            "code": b"",
            "output_id": value("by hand"),
            "finished_at": self.at,
            "duration_s": 0.0,
        }

    def injected(self) -> list[Attempt]:
        return [place for place, row in self.steps.items() if row.get("reason") == "injected"]

    def take_back(self, number: int) -> None:
        """Take a result back that was given by hand: the attempts before it count again, as they were."""
        place = self.injected()[number % len(self.injected())]
        self.tell(SAMPLES["InjectionUndone"], place)
        del self.steps[place]

    def redact(self, number: int) -> None:
        done = self.attempts("completed")
        place = done[number % len(done)]
        self.tell(SAMPLES["StepRedacted"], place)
        self.steps[place] |= {"output_id": value("marker"), "inputs_id": value("record")}
        self.tell(SAMPLES["RunRedacted"])
        self.run["output_id"] = value("marker")

    def change(self, number: int) -> None:
        name, self.status = (("RunWaiting", "waiting"), ("RunCancelRequested", "cancelling"))[number % 2]
        self.tell(SAMPLES[name])
        self.run["updated_at"] = self.at

    def hand_over(self, _number: int) -> None:
        self.tell(SAMPLES["RunDetached"])
        if self.status == "compensating":  # and goes on with that
            self.run |= {"owner": None, "updated_at": self.at}
            return
        self.status = "pending"
        self.run |= {"owner": None, "ended_at": None, "updated_at": self.at, "error_id": None, "output_id": None}

    def hear(self, number: int) -> None:
        name = ("SignalReceived", "DomainEvent")[number % 2]
        self.tell(SAMPLES[name])
        self.status = "running" if self.status == "waiting" and name != "DomainEvent" else self.status
        self.run["updated_at"] = self.at

    def account(self, number: int) -> None:
        self.tell(events.SessionEnded(n_reused=number))
        self.run |= {"n_reused": number, "updated_at": self.at}

    def compensate(self, number: int) -> None:
        failed = [step for step, _ in self.attempts("failed")][:2] if number % 2 else []
        self.tell(replace(SAMPLES["CompensationStarted"], caused_by=tuple(failed)))
        for step in failed:
            self.steps[self.latest()[step]]["lived_with"] = False
        self.status = "compensating"
        self.run |= {"error_id": value("error"), "updated_at": self.at}

    def undo(self, number: int) -> None:
        done = self.attempts("completed")
        place = done[number % len(done)]
        self.tell(SAMPLES["StepCompensated"], place)
        self.steps[place]["status"] = "compensated"

    def stop(self, number: int) -> None:
        name = ("RunInterrupted", "RunPaused", "RunFailed", "RunFailed", "RunCancelled", "RunCompleted")[number % 6]
        failed = [step for step, _ in self.attempts("failed")][:2] if name == "RunFailed" else []
        self.tell(replace(SAMPLES[name], caused_by=tuple(failed)) if name == "RunFailed" else SAMPLES[name])
        for step in failed:
            self.steps[self.latest()[step]]["lived_with"] = False
        if name != "RunInterrupted" or self.status != "compensating":  # which it goes on with later
            self.status = name.removeprefix("Run").lower()
        self.run |= {"owner": None, "ended_at": self.at, "updated_at": self.at}
        if name == "RunFailed":
            self.run["error_id"] = value("error")
        if name == "RunCompleted":
            self.run["output_id"] = value("output")

    def resume(self, number: int) -> None:
        by_a_call = {"execution": f"cell {number}", "ordinal": number % 3} if number % 2 else {}
        self.tell(replace(SAMPLES["RunContinued"], **by_a_call))
        if self.status != "compensating":
            self.status = "running"
            self.run["error_id"] = None
        self.run |= {"owner": "you", "definition_id": digest("edited"), "durability": "process", **by_a_call}
        self.run |= {"ended_at": None, "updated_at": self.at, "n_reused": 0, "output_id": None}
        self.run |= {"n_sessions": self.run.get("n_sessions", 1) + 1, "session_version": len(self.facts)}


def lived(choices: list[tuple[int, int, int]]) -> Life:
    """Return the life in which those choices were made: which deed, its details, and how much later."""
    life = Life()
    for which, number, later in choices:
        life.at += later
        possible = life.deeds()
        possible[which % len(possible)](number)
    return life


LIVES: Final = st.lists(
    st.tuples(st.integers(0, 59), st.integers(0, 11), st.integers(0, 9)), min_size=1, max_size=30
).map(lived)
