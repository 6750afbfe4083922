"""An agent: a flow that asks a language model, calls the tools that it wants, and goes on until it answers.

Each turn of the model and each call of a tool is a step of the run. So a killed agent goes on where it was: it pays for
no turn twice, and calls no tool again whose call completed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from ironflow_nb.agents.conversation import Limits, Message, Settings, converse, last_messages
from ironflow_nb.agents.tools import Tool, tool_of
from ironflow_nb.core.retry import Retry
from ironflow_nb.errors import DefinitionError, SecretMissing
from ironflow_nb.execution import REGISTRY
from ironflow_nb.flows.flow import Flow, flow
from ironflow_nb.flows.step import step
from ironflow_nb.graphs.grants import Grants
from ironflow_nb.graphs.nodes.cached_values import CACHE_GET, CACHE_SET
from ironflow_nb.graphs.nodes.language_models import BASE_URL, TIMEOUT_S, ask_model
from ironflow_nb.graphs.runtime.node_environment import WorkContext
from ironflow_nb.graphs.secrets import Secrets

_TURN_RETRIES: Final = Retry(attempts=4)

SPAWN: Final = "spawn_agent"
"""The name of the tool by which an agent starts a child."""

_SPAWNED: Final = "Gives a part of the work to a new agent with the same tools, and returns its answer; tell it all."


def agent(  # noqa: PLR0913 -- the options of an agent; keyword-only
    name: str,
    *,
    model: str,
    instructions: str = "",
    tools: Sequence[Callable[..., Any]] = (),
    approve: bool | Collection[str] = (),
    max_turns: int = 20,
    max_tokens: int | None = None,
    max_cost: float | None = None,
    price: tuple[float, float] = (0.0, 0.0),
    memory: int = 0,
    spawn: int = 0,
    concurrency: int = 8,
    base_url: str = BASE_URL,
    api_key_env: str | None = "OPENAI_API_KEY",
    options: Mapping[str, Any] | None = None,
    retries: Retry = _TURN_RETRIES,
) -> Flow[..., dict[str, Any]]:
    """Make an agent: a flow of that name, which is called with a prompt: ``shop("What does tea cost?")``.

    A call returns ``{"text", "messages", "usage", "cost", "n_turns"}``; ``shop(prompt, messages=before["messages"])``
    goes on with a conversation, and ``shop(prompt, conversation="Ada")`` with one that the journal keeps.

    Args:
        name: what its runs are called.
        model: the model, as the server calls it.
        instructions: what the model is told first; the first paragraph describes it to an agent that has it as a tool.
        tools: what it may call: functions, steps, and flows or other agents, whose calls are child runs. The model
            knows them by their names, the first paragraphs of their docstrings and the types of their parameters. A
            tool that fails tells the model so.
        approve: the names of tools of which a person has to approve each call; True is all of them.
        max_turns: how often the model is asked at most.
        max_tokens: how many tokens all turns together may use, also of agents that are tools, by the server's count.
        max_cost: what all turns together may cost by their `price`.
        price: what a million tokens cost, of prompts and of answers.
        memory: how many messages of a conversation are kept for the next call with that name.
        spawn: how many levels of children it may start by the tool ``spawn_agent``.
        concurrency: how many of the calls that the model wants in one turn are made side by side, each on a thread.
        base_url: the server, which speaks as the API of OpenAI does.
        api_key_env: the environment variable with the key, which is read in each turn and never recorded; None for a
            server without one.
        options: further fields of each request, such as ``{"temperature": 0}``.
        retries: how a turn is tried again that fails for a reason that may pass.

    Raises:
        DefinitionError: two tools have one name, `approve` names none of them, `max_cost` has no `price`, or
            `concurrency` is below 1.
    """
    if concurrency < 1:
        raise DefinitionError(f"concurrency of {name} is a number of calls from 1 on, not {concurrency}")
    if max_cost is not None and not any(price):
        raise DefinitionError(f"{name} has a max_cost without a price: price=(0.25, 2.0) for a million tokens of each")
    settings = _settings(
        name,
        instructions=instructions,
        tools=tools,
        approve=approve,
        limits=Limits(
            max_turns=max_turns, max_tokens=max_tokens, max_cost=max_cost, price=price, concurrency=concurrency
        ),
        spawn=spawn,
        memory=memory,
        model=_Model(
            name=model, base_url=base_url, api_key_env=api_key_env, extra=dict(options or {}), retries=retries
        ),
    )
    return _flow_of(settings)


class _Model(msgspec.Struct, frozen=True, kw_only=True):
    """The model that an agent asks, and its server."""

    name: str
    base_url: str
    api_key_env: str | None
    extra: Mapping[str, Any]
    retries: Retry


def _settings(
    name: str,
    *,
    instructions: str,
    tools: Sequence[Callable[..., Any]],
    approve: bool | Collection[str],
    limits: Limits,
    spawn: int,
    memory: int,
    model: _Model,
) -> Settings:
    children = []
    if spawn:
        allowed = approve if isinstance(approve, bool) or spawn > 1 else [each for each in approve if each != SPAWN]
        inner = _settings(
            f"{name}.{SPAWN}", instructions=instructions, tools=tools, approve=allowed, limits=limits, spawn=spawn - 1,
            memory=0, model=model,
        )  # fmt: skip
        children.append(_flow_of(inner))
        children[0].fn.__name__, children[0].fn.__doc__ = SPAWN, _SPAWNED
    known = _tools_by_name((*tools, *children), name)
    needs_person = frozenset(known if approve is True else approve or ())
    if unknown := needs_person - known.keys():
        raise DefinitionError(f"approve names {min(unknown)!r}, which is no tool of {name}: {', '.join(known)}")
    ask = _turn(name, [tool.description for tool in known.values()], model)
    return Settings(
        name=name, instructions=instructions, tools=known, needs_person=needs_person, limits=limits, memory=memory,
        ask=ask,
    )  # fmt: skip


def _turn(name: str, described: list[Any], asked: _Model) -> Callable[[list[Message]], Mapping[str, Any]]:
    """Return the durable call of the model."""
    base_url, api_key_env = asked.base_url, asked.api_key_env

    @step(name=f"{name}.model", retries=asked.retries, timeout_s=TIMEOUT_S)
    def ask(messages: list[Message], offered: list[Any], model: str, extra: dict[str, Any]) -> dict[str, Any]:
        given = {"model": model, "messages": messages, "base_url": base_url, "extra": extra}
        return ask_model(given | ({"tools": offered} if offered else {}) | _key(api_key_env), _context(name))

    return lambda messages: ask(messages, described, asked.name, dict(asked.extra))


def _flow_of(settings: Settings) -> Flow[..., dict[str, Any]]:
    name = settings.name

    @step(name=f"{name}.recall")
    def recall(conversation: str) -> list[Message]:
        found = CACHE_GET.perform({"key": _memory_key(name, conversation), "otherwise": []}, _context(name))
        return list(found["value"])

    @step(name=f"{name}.remember")
    def remember(conversation: str, messages: list[Message]) -> None:
        CACHE_SET.perform({"key": _memory_key(name, conversation), "value": messages}, _context(name))

    def called(prompt: str, messages: Sequence[Message] = (), conversation: str | None = None) -> dict[str, Any]:
        if conversation is not None and not settings.memory:
            raise DefinitionError(
                f"{name} remembers no conversation; make it with memory=40, the messages that it keeps"
            )
        earlier = messages if conversation is None else [*recall(conversation), *messages]
        found = converse(settings, prompt, earlier)
        if conversation is not None:
            remember(conversation, last_messages(found["messages"], settings.memory))
        return found

    called.__name__ = called.__qualname__ = name
    called.__doc__ = settings.instructions
    made: Flow[..., dict[str, Any]] = flow(name=name)(called)
    made.fn.is_agent = True  # type: ignore[attr-defined]
    return made


def _memory_key(name: str, conversation: str) -> str:
    return f"agent {name}, conversation {conversation}"


def _tools_by_name(tools: Sequence[Callable[..., Any]], agent_name: str) -> dict[str, Tool]:
    found: dict[str, Tool] = {}
    for each in tools:
        tool = tool_of(each, agent_name)
        if tool.name in found:
            raise DefinitionError(f"two tools of {agent_name} are called {tool.name}; give one of them another name")
        found[tool.name] = tool
    return found


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
