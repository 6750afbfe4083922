"""Digests, values, facts and rows, made in one line."""

from __future__ import annotations

from typing import Any

from ironflow_nb.core.events import RecordedEvent, RunEvent, RunStarted, StepStarted
from ironflow_nb.core.identity import BranchId, Digest, RunId, StepRef, ValueId, digest_bytes, step_ref
from ironflow_nb.core.run_state import RunRow, StepRow
from ironflow_nb.core.status import RunStatus, StepStatus

RUN = RunId("0123456789ab")


def digest(word: str) -> Digest:
    """Return the digest that stands for the word."""
    return digest_bytes(word.encode())


def value(word: str) -> ValueId:
    """Return the id of the value that stands for the word."""
    return ValueId(digest_bytes(b"value " + word.encode()))


def run_started(**fields: Any) -> RunStarted:
    """Return the beginning of a run, with defaults for what a test does not speak of."""
    given: dict[str, Any] = {
        "kind": "flow",
        "name": "report",
        "owner": "me",
        "durability": "power",
        "definition": digest("flow code"),
        "inputs_digest": digest("inputs"),
    }
    return RunStarted(**(given | fields))


def step_started(name: str = "fetch", index: int = 0, **fields: Any) -> StepStarted:
    """Return the beginning of an attempt, with defaults for what a test does not speak of."""
    given: dict[str, Any] = {"identity": digest(f"{name} {index}"), "code": digest("code")}
    return StepStarted(name=name, index=index, **(given | fields))


def history(*events: RunEvent | tuple[RunEvent, str, int]) -> list[RecordedEvent]:
    """Return the events as facts, a second apart; those of an attempt come with its step and number."""
    facts = []
    for version, event in enumerate(events, start=1):
        if isinstance(event, tuple):
            facts.append(RecordedEvent(version, version * 1_000_000, event[0], StepRef(event[1]), event[2]))
        else:
            facts.append(RecordedEvent(version, version * 1_000_000, event))
    return facts


def run_row(status: RunStatus = RunStatus.RUNNING, **fields: Any) -> RunRow:
    """Return a run of that status."""
    given: dict[str, Any] = {
        "run_id": RUN,
        "kind": "flow",
        "name": "report",
        "status": status,
        "started_at": 1,
        "updated_at": 1,
        "durability": "power",
        "inputs_digest": digest("inputs"),
        "definition_id": digest("flow code"),
    }
    return RunRow(**(given | fields))


def step_row(name: str = "fetch", index: int = 0, attempt: int = 1, **fields: Any) -> StepRow:
    """Return a completed attempt, unless the fields say otherwise."""
    branch = fields.pop("branch", "")
    given: dict[str, Any] = {
        "run_id": RUN,
        "step": step_ref(name, index),
        "version": 2 + index,
        "status": StepStatus.COMPLETED,
        "identity": digest(f"{name} {index}"),
        "code": digest("code"),
        "started_at": 1,
        "duration_s": 1.0,
    }
    return StepRow(name=name, index=index, attempt=attempt, branch=BranchId(branch), **(given | fields))
