"""The conversation of an agent as a DataFrame."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ironflow_nb.handles.run import Run
from ironflow_nb.history.tables import COUNT, TEXT, frame_of_records

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: Final = {"turn": COUNT, "role": TEXT, "text": TEXT, "tool": TEXT, "arguments": "object", "call_id": TEXT}


def conversation(of: Mapping[str, Any] | Sequence[Mapping[str, Any]] | Run[Any]) -> pd.DataFrame:
    """Return a conversation, one row for each message and each call of a tool.

    Columns: turn (the answers of the model before and with it), role (system, user, assistant, call or tool), text,
    tool (its name, of calls and of their answers), arguments (of calls), call_id.

    Args:
        of: the result of an agent, its messages, or a run of it, which may be at work or have failed.

    Raises:
        StepNotFound: the run has asked no model.
    """
    messages = _messages_of(of) if isinstance(of, Run) else of["messages"] if isinstance(of, Mapping) else of
    return frame_of_records(COLUMNS, list(_records(messages)))


def _messages_of(run: Run[Any]) -> list[Mapping[str, Any]]:
    """Return what the model was told last, and what it said then."""
    steps = run.steps()
    last = steps[steps["name"].str.endswith(".model") & (steps["status"] == "completed")]["step"]
    turn = last.iloc[-1] if len(last) else "model"
    return [*run.inputs(turn)["messages"], run.value(turn)["message"]]


def _records(messages: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    n_turns = 0
    tools: dict[Any, str] = {}
    for message in messages:
        n_turns += message["role"] == "assistant"
        row = {**dict.fromkeys(COLUMNS), "turn": n_turns, "role": message["role"], "text": _text(message)}
        if message["role"] == "tool":
            row |= {"call_id": message["tool_call_id"], "tool": tools.get(message["tool_call_id"])}
        if row["text"] or message["role"] != "assistant":
            yield row
        for call in message.get("tool_calls") or ():
            called = call["function"]
            tools[call["id"]] = called["name"]
            told = {"role": "call", "text": None, "tool": called["name"], "call_id": call["id"]}
            yield row | told | {"arguments": _arguments(called.get("arguments"))}


def _text(message: Mapping[str, Any]) -> str | None:
    content = message.get("content")
    return content if isinstance(content, str) or content is None else json.dumps(content, ensure_ascii=False)


def _arguments(written: Any) -> Any:
    try:
        return json.loads(written) if isinstance(written, str) else written
    except ValueError:
        return written
