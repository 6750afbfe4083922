"""The public contract: names and parameters that users rely on. One may be added, and none may go."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any, get_overloads

import pytest

import ironflow_nb as iron
from ironflow_nb.notebook.ironflow_magic import VERBS

FILTERS = "flow run status since limit"

MODULE = {
    "open": "path durability read_only max_runs max_steps clock", "use": "where", "engine": "",
    "runs": FILTERS, "steps": FILTERS, "attempts": FILTERS, "events": FILTERS,
    "waiting": "", "lanes": "", "breakers": "", "schedules": "", "work": "", "usage": "", "doctor": "",
    "dashboard": "flow status since order limit",
    "get_run": "run_id", "resume": "run_id retry rerun keep", "current_run": "", "compare": "a b", "replay": "run",
    "sql": "query", "trust": "path", "prune": "flow older_than keep status dry_run", "verify": "",
    "export": "run path", "import_": "path", "copy": "run to", "backup": "path",
    "on": "event", "emit": "event data key", "on_failure": "undo",
    "progress": "iterable", "metric": "name value",
    "sleep": "duration_s", "sleep_until": "at", "wait_for": "signal timeout_s",
    "approve": "question payload timeout_s", "ask": "question payload choices type timeout_s",
    "gather": "branches", "as_completed": "branches", "now": "", "uuid4": "", "random": "",
    "codec": "kind", "File": "path", "resource": "wrapped", "Secret": "text",
    "Retry": "attempts delay_s factor max_delay_s jitter on", "Lane": "name key limit rate burst",
    "Breaker": "name failures open_s",
    "agent": "name model instructions tools approve max_turns max_tokens base_url api_key_env options retries",
    "node": "name", "nodes": "", "projection": "name initial", "accept": "events", "reject": "reason",
    "step": "name key retries timeout_s deadline_s lane breaker once cache on_change depends compensate executor",
    "flow": "name on_rerun continue_within reuse_within on_change durability lane timeout_s on where debounce_s "
    "max_wait_s cancel_on",
}  # fmt: skip

AWAITABLE = {
    "sleep": "duration_s", "sleep_until": "at", "wait_for": "signal timeout_s",
    "approve": "question payload timeout_s", "ask": "question payload choices type timeout_s",
    "gather": "awaitables", "as_completed": "awaitables",
}  # fmt: skip

OF_RUNNABLE = {
    "start": "", "plan": "", "options": "key fresh executor", "resume": "", "last": None, "runs": "", "events": "",
    "diagram": "", "sweep": "rows concurrency key", "schedule": "cron every_s at tz catch_up grace_s",
}  # fmt: skip

MEMBERS: dict[str, dict[str, str | None]] = {
    "Step": {"submit": "", "map": "iterables fixed concurrency on_error", "options": "retries executor"},
    "StepFuture": {"result": "timeout_s", "__await__": ""},
    "MapResult": {"ok": None, "errors": None, "__await__": "", "__len__": "", "__getitem__": "index"},
    "Flow": OF_RUNNABLE,
    "Sweep": {"frame": "", "failed": None, "retry": ""},
    "Run": {
        "status": None, "result": "timeout_s", "wait": "timeout_s", "__await__": "", "cancel": "", "pause": "",
        "resume": "retry rerun keep", "signal": "name payload", "answer": "value step", "steps": "", "attempts": "",
        "events": "", "value": "step", "values": "step", "inputs": "step", "error": None, "plan": "",
        "at": "at position", "fork": "at replace inputs into", "inject": "step value reason", "undo": "",
        "explain": "step", "diagram": "", "log": "step", "debug": "step", "report": "", "delete": "",
        "arguments": None, "detach": "", "redact": "step", "timeline": "",
        "slider": "",
    },
    "Graph": {**OF_RUNNABLE, "from_yaml": "text_or_path", "from_file": "path", "validate": "", "test": "mocks"},
    "Decider": {
        "evolve": "", "decide": "", "perform": "", "send": "command", "state": "instance at", "history": "instance",
        "instances": "", "dead_letters": "", "run_until_idle": "", "diagram": "", "given": "events",
        "slider": "instance",
    },
    "Accepted": {"unwrap": ""}, "Rejected": {"unwrap": ""}, "AlreadyCompleted": {"unwrap": ""},
    "Breaker": {"reset": ""},
}  # fmt: skip

MAGICS = {
    "runs", "show", "steps", "events", "waiting", "answer", "resume", "cancel", "pause", "signal", "emit", "schedules",
    "fork", "diagram", "attach", "cells", "sql", "doctor", "use", "trust",
    "live",
}  # fmt: skip


def parameters(of: Callable[..., Any]) -> set[str]:
    """Return the names of the parameters, of all overloads together."""
    return {name for each in (*get_overloads(of), of) for name in inspect.signature(each).parameters}


@pytest.mark.parametrize(("name", "wanted"), MODULE.items(), ids=list(MODULE))
def test_the_package_has_the_name_with_its_parameters(name: str, wanted: str) -> None:
    assert set(wanted.split()) <= parameters(getattr(iron, name))
    assert name in dir(iron)


@pytest.mark.parametrize(("name", "wanted"), AWAITABLE.items(), ids=list(AWAITABLE))
def test_each_wait_has_an_awaitable_form(name: str, wanted: str) -> None:
    assert set(wanted.split()) <= parameters(getattr(iron.aio, name))


@pytest.mark.parametrize(
    ("owner", "name", "wanted"),
    [(owner, name, wanted) for owner, members in MEMBERS.items() for name, wanted in members.items()],
)
def test_a_class_has_the_member_with_its_parameters(owner: str, name: str, wanted: str | None) -> None:
    member = inspect.getattr_static(getattr(iron, owner), name)
    if wanted is None:
        assert isinstance(member, property) or not callable(member)
    else:
        function = getattr(getattr(iron, owner), name)
        assert set(wanted.split()) <= parameters(function)


def test_definitions_give_what_they_were_made_of() -> None:
    def work(n: int) -> int:
        return n

    assert iron.step(work).fn is work
    assert iron.flow(work).fn is work


def test_a_magic_has_each_verb() -> None:
    assert VERBS.keys() >= MAGICS


def test_every_error_class_is_in_one_module_and_has_one_root() -> None:
    errors = importlib.import_module("ironflow_nb.errors")
    for name in errors.__all__:
        found = getattr(errors, name)
        if isinstance(found, type) and issubclass(found, BaseException):
            assert issubclass(found, iron.IronflowError)
            assert getattr(iron, name) is found
            assert len(found.__mro__) > 4 or found is iron.IronflowError, f"{name} is no error of a builtin kind"
