"""An agent: a flow that asks a language model, calls the tools that it wants, and goes on until it answers.

Each turn of the model and each call of a tool is a step of the run. So a killed agent goes on where it was: it pays for
no turn twice, and calls no tool again whose call completed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from ironflow_nb.agents.tools import Tool, tool_of
from ironflow_nb.core.retry import Retry
from ironflow_nb.errors import AgentStopped, DefinitionError, SecretMissing
from ironflow_nb.execution import REGISTRY
from ironflow_nb.flows.approvals import approve as ask_person
from ironflow_nb.flows.flow import Flow, flow
from ironflow_nb.flows.step import step
from ironflow_nb.graphs.grants import Grants
from ironflow_nb.graphs.language.data import write_json
from ironflow_nb.graphs.nodes.language_models import BASE_URL, TIMEOUT_S, ask_model
from ironflow_nb.graphs.runtime.node_environment import WorkContext
from ironflow_nb.graphs.secrets import Secrets

Message = dict[str, Any]

_TURN_RETRIES: Final = Retry(attempts=4)


def agent(  # noqa: PLR0913 -- the options of an agent; keyword-only
    name: str,
    *,
    model: str,
    instructions: str = "",
    tools: Sequence[Callable[..., Any]] = (),
    approve: bool | Collection[str] = (),
    max_turns: int = 20,
    max_tokens: int | None = None,
    base_url: str = BASE_URL,
    api_key_env: str | None = "OPENAI_API_KEY",
    options: Mapping[str, Any] | None = None,
    retries: Retry = _TURN_RETRIES,
) -> Flow[..., dict[str, Any]]:
    """Make an agent: a flow of that name, which is called with a prompt: ``shop("What does tea cost?")``.

    A call returns ``{"text", "messages", "usage", "n_turns"}``. ``shop(prompt, messages=before["messages"])`` goes on
    with a conversation.

    Args:
        name: what its runs are called.
        model: the model, as the server calls it.
        instructions: what the model is told first.
        tools: what it may call: functions, steps, and flows or other agents, whose calls are child runs. The model
            knows them by their names, the first paragraphs of their docstrings and the types of their parameters. A
            tool that fails tells the model so.
        approve: the names of tools of which a person has to approve each call; True is all of them.
        max_turns: how often the model is asked at most.
        max_tokens: how many tokens all turns together may use, by what the server counts.
        base_url: the server, which speaks as the API of OpenAI does.
        api_key_env: the environment variable with the key, which is read in each turn and never recorded; None for a
            server without one.
        options: further fields of each request, such as ``{"temperature": 0}``.
        retries: how a turn is tried again that fails for a reason that may pass.

    Raises:
        DefinitionError: two tools have one name, or `approve` names none of them.
    """
    known = _tools_by_name(tools, name)
    needs_person = frozenset(known if approve is True else approve or ())
    if unknown := needs_person - known.keys():
        raise DefinitionError(f"approve names {min(unknown)!r}, which is no tool of {name}: {', '.join(known)}")
    described = [tool.description for tool in known.values()]
    extra = dict(options or {})

    @step(name=f"{name}.model", retries=retries, timeout_s=TIMEOUT_S)
    def ask(messages: list[Message], offered: list[Any], model: str, extra: dict[str, Any]) -> dict[str, Any]:
        given = {"model": model, "messages": messages, "base_url": base_url, "extra": extra}
        return ask_model(given | ({"tools": offered} if offered else {}) | _key(api_key_env), _context(name))

    def converse(prompt: str, messages: Sequence[Message] = ()) -> dict[str, Any]:
        conversation = _begun(instructions, messages, prompt)
        used: dict[str, int] = {}
        for n_turns in range(1, max_turns + 1):
            answer = ask(list(conversation), described, model, extra)
            conversation.append(answer["message"])
            _count(used, answer["usage"])
            if not answer["tool_calls"]:
                return {"text": answer["text"], "messages": conversation, "usage": used, "n_turns": n_turns}
            if max_tokens is not None and used.get("total_tokens", 0) >= max_tokens:
                raise AgentStopped(
                    f"{name} has used {used['total_tokens']:,} tokens in {n_turns} turns, and max_tokens is "
                    f"{max_tokens:,}; raise it and call again to go on"
                )
            for call in answer["tool_calls"]:
                content = _answer(known.get(call["name"]), call, needs_person, name)
                conversation.append({"role": "tool", "tool_call_id": call["id"], "content": content})
        raise AgentStopped(f"{name} has no answer after {max_turns} turns; raise max_turns and call again to go on")

    converse.__name__ = converse.__qualname__ = name
    return flow(name=name)(converse)


def _tools_by_name(tools: Sequence[Callable[..., Any]], agent_name: str) -> dict[str, Tool]:
    found: dict[str, Tool] = {}
    for each in tools:
        tool = tool_of(each, agent_name)
        if tool.name in found:
            raise DefinitionError(f"two tools of {agent_name} are called {tool.name}; give one of them another name")
        found[tool.name] = tool
    return found


def _begun(instructions: str, messages: Sequence[Message], prompt: str) -> list[Message]:
    first = [{"role": "system", "content": instructions}] if instructions else []
    earlier = [dict(each) for each in messages if each.get("role") != "system"]
    return [*first, *earlier, {"role": "user", "content": prompt}]


def _count(used: dict[str, int], usage: Any) -> None:
    for name, n in usage.items() if isinstance(usage, Mapping) else ():
        if type(n) is int:
            used[name] = used.get(name, 0) + n


def _key(variable: str | None) -> dict[str, str]:
    if variable is None:
        return {}
    value = os.environ.get(variable)
    if not value:
        raise SecretMissing(
            f"the environment variable {variable} has no key; set it, or name another one: agent(api_key_env=...)",
            secret=variable,
        )
    return {"api_key": value}


def _context(node: str) -> WorkContext:
    grants = Grants.of(None)
    return WorkContext(node=node, grants=grants, clock=REGISTRY.engine().clock, secrets=Secrets({}, grants))


def _answer(tool: Tool | None, call: Mapping[str, Any], needs_person: Collection[str], agent_name: str) -> str:
    """Return what the model is told of a call."""
    if tool is None:
        return f"error: there is no tool {call['name']}"
    refusal = tool.refusal(call["arguments"])
    if refusal is not None:
        return f"error: {refusal}"
    if tool.name in needs_person and not ask_person(
        f"{agent_name} wants to call {tool.name}", {"tool": tool.name, "arguments": call["arguments"]}
    ):
        return "error: a person has refused this call; do not try it again"
    result = tool.call(call["arguments"])
    return result if isinstance(result, str) else write_json(result, ensure_ascii=False, separators=None, default=str)
