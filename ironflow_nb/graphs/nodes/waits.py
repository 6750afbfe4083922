"""The kinds of nodes that wait: for a time, for signals to the run, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

from ironflow_nb.core.durations import instant_of, seconds
from ironflow_nb.core.wait_rules import Combination, Wanted, after, signal_name, time_limit
from ironflow_nb.graphs.kinds import Kind, NodeContext, Options, WaitCall, options_schema
from ironflow_nb.handles.questions import YES_OR_NO, Answer, Choice, Question, Typed
from ironflow_nb.handles.schema_validator import schema_validator

_DURATION: Final = {
    "type": ["number", "string"],
    "minimum": 0,
    "description": 'The duration: seconds, or a text such as "10m" or "7d".',
}
_INSTANT: Final = {"type": "string", "description": "The instant, in ISO form with its zone."}
_NAMES: Final = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}


def _delay(options: Options, _timeout_s: float | None) -> WaitCall:
    if "until" in options:
        return {"until": options["until"]}, _wanted_until(options["until"])
    duration_s = seconds(options["duration_s"])
    return {"duration_s": duration_s}, lambda now: Wanted(due_at=after(now, duration_s))


def _wanted_until(text: str) -> Any:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone, so it is no instant; write it as in 2026-01-31T12:00:00Z")
    return partial(_until, instant_of(at))


def _until(due_at: int, _now: int) -> Wanted:
    return Wanted(due_at=due_at, is_absolute=True)


_COMBINATIONS: Final = {"signal": Combination.ONE, "any_of": Combination.ANY, "all_of": Combination.ALL}


def _wait(options: Options, timeout_s: float | None) -> WaitCall:
    [(key, given)] = options.items()
    names = tuple(dict.fromkeys(map(signal_name, [given] if key == "signal" else given)))
    due_at, combination = time_limit(timeout_s), _COMBINATIONS[key]
    arguments = {"signals": list(names), "combination": combination.value}
    return arguments, lambda now: Wanted(signals=names, combination=combination, due_at=due_at(now))


def _approve(options: Options, timeout_s: float | None) -> WaitCall:
    answer, payload, due_at = _answer(options), options.get("payload"), time_limit(timeout_s)
    question = Question(options["question"], answer, payload)
    arguments = {"question": question.text, "payload": payload, "answer": answer.recorded()}
    return arguments, lambda now: Wanted(question=question, due_at=due_at(now))


def _answer(options: Options) -> Answer:
    if {"choices", "schema"} <= options.keys():
        raise ValueError("a question has choices or a schema, not both")
    if "choices" in options:
        return Choice(options["choices"])
    schema: Mapping[str, Any] | None = options.get("schema")
    if schema is None:
        return YES_OR_NO
    schema_validator(dict(schema))
    return Typed(str(schema.get("title") or schema.get("type") or "what fits its schema"), schema)


def _performed_by_the_run(_options: Options, _context: NodeContext) -> Any:
    raise AssertionError("a node that waits has no body")


DELAY: Final = Kind(
    name="delay",
    description="Waits for a time, or until an instant.",
    schema=options_schema(
        {"duration_s": _DURATION, "until": _INSTANT}, oneOf=[{"required": ["duration_s"]}, {"required": ["until"]}]
    ),
    perform=_performed_by_the_run,
    wait=_delay,
    shorthand="duration_s",
)

WAIT: Final = Kind(
    name="wait",
    description="Waits for a signal to the run, and gives its payload; for the first of several its name and payload.",
    schema=options_schema(
        {
            "signal": {"type": "string", "minLength": 1, "description": "The name of the signal."},
            "any_of": {**_NAMES, "description": "The first of these signals."},
            "all_of": {**_NAMES, "description": "All of these signals."},
        },
        oneOf=[{"required": ["signal"]}, {"required": ["any_of"]}, {"required": ["all_of"]}],
    ),
    perform=_performed_by_the_run,
    wait=_wait,
    shorthand="signal",
    is_outside=True,
)

APPROVE: Final = Kind(
    name="approve",
    description="Asks a person, and gives true or false, one of the choices, or what fits the schema.",
    schema=options_schema(
        {
            "question": {"type": "string", "minLength": 1, "description": "The question."},
            "payload": {"description": "What the person is to look at."},
            "choices": {"type": "array", "minItems": 1, "description": "The values to choose from."},
            "schema": {"type": "object", "description": "The JSON schema that the answer fits."},
        },
        required=["question"],
    ),
    perform=_performed_by_the_run,
    wait=_approve,
    shorthand="question",
    is_outside=True,
)
