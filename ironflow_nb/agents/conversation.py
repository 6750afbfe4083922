"""The conversation of an agent: turn after turn, until the model answers without a call or has used what it may."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import msgspec

from ironflow_nb.agents.tools import Tool
from ironflow_nb.core.plain_text import counted
from ironflow_nb.errors import AgentStopped
from ironflow_nb.flows.approvals import approve as ask_person
from ironflow_nb.flows.completions import gather
from ironflow_nb.graphs.language.data import write_json

Message: TypeAlias = dict[str, Any]

_TOKENS_OF_PRICE: Final = 1_000_000


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What all turns of one call may use together; None is no limit.

    `price` is what a million tokens cost, of prompts and of answers. `concurrency` calls are made side by side.
    """

    max_turns: int
    max_tokens: int | None
    max_cost: float | None
    price: tuple[float, float]
    concurrency: int

    def cost(self, used: Mapping[str, int]) -> float:
        """Return what these tokens cost."""
        tokens = (used.get("prompt_tokens", 0), used.get("completion_tokens", 0))
        return sum(n * price for n, price in zip(tokens, self.price, strict=True)) / _TOKENS_OF_PRICE

    def check(self, used: Mapping[str, int], name: str, n_turns: int) -> None:
        """See whether another turn is allowed.

        Raises:
            AgentStopped: it is not.
        """
        tokens, cost, advice = used.get("total_tokens", 0), self.cost(used), "raise it and call again to go on"
        if self.max_tokens is not None and tokens >= self.max_tokens:
            what = f"has used {tokens:,} tokens in {counted(n_turns, 'turn')}, and max_tokens is {self.max_tokens:,}"
            raise AgentStopped(f"{name} {what}; {advice}")
        if self.max_cost is not None and cost >= self.max_cost:
            what = f"has cost {cost:,.4g} in {counted(n_turns, 'turn')}, and max_cost is {self.max_cost:g}"
            raise AgentStopped(f"{name} {what}; {advice}")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent is. `ask` is the step of a turn: it gets the messages, and returns what an llm node does.

    `memory` is the number of messages that are kept of a conversation.
    """

    name: str
    instructions: str
    tools: Mapping[str, Tool]
    needs_person: Collection[str]
    limits: Limits
    memory: int
    ask: Callable[[list[Message]], Mapping[str, Any]]

    def __ironflow_digest__(self) -> bytes:
        """Return the same for all settings, so that a call with other limits goes on with the run.

        What the model is told is among the arguments of its turns.
        """
        return b"an agent"


def converse(agent: Settings, prompt: str, earlier: Sequence[Message]) -> dict[str, Any]:
    """Answer the prompt: ``{"text", "messages", "usage", "cost", "n_turns"}``.

    Raises:
        AgentStopped: there is no answer within the limits.
    """
    conversation = _begun(agent.instructions, earlier, prompt)
    used: dict[str, int] = {}
    for n_turns in range(1, agent.limits.max_turns + 1):
        answer = agent.ask(list(conversation))
        conversation.append(answer["message"])
        _count(used, answer["usage"])
        if not answer["tool_calls"]:
            ended = {"usage": used, "cost": agent.limits.cost(used), "n_turns": n_turns}
            return {"text": answer["text"], "messages": conversation, **ended}
        agent.limits.check(used, agent.name, n_turns)
        for call, (content, usage) in zip(answer["tool_calls"], _answers(agent, answer["tool_calls"]), strict=True):
            conversation.append({"role": "tool", "tool_call_id": call["id"], "content": content})
            _count(used, usage)
    n_most = agent.limits.max_turns
    raise AgentStopped(
        f"{agent.name} has no answer after {counted(n_most, 'turn')}; raise max_turns and call again to go on"
    )


def _begun(instructions: str, messages: Sequence[Message], prompt: str) -> list[Message]:
    first = [{"role": "system", "content": instructions}] if instructions else []
    earlier = [dict(each) for each in messages if each.get("role") != "system"]
    return [*first, *earlier, {"role": "user", "content": prompt}]


def _count(used: dict[str, int], usage: Any) -> None:
    for name, n in usage.items() if isinstance(usage, Mapping) else ():
        if type(n) is int:
            used[name] = used.get(name, 0) + n


_Answer: TypeAlias = tuple[str, Mapping[str, int]]
"""What the model is told of a call, and the tokens that another agent has used for it."""


def _answers(agent: Settings, calls: Sequence[Mapping[str, Any]]) -> Iterator[_Answer]:
    """Yield the answers to the calls of one turn, in their order; those of a batch are made side by side."""
    for start in range(0, len(calls), agent.limits.concurrency):
        batch = calls[start : start + agent.limits.concurrency]
        if len(batch) == 1:
            yield _answer(agent, batch[0])
        else:
            yield from gather(*(partial(_answer, agent, call) for call in batch))


def _answer(agent: Settings, call: Mapping[str, Any]) -> _Answer:
    tool = agent.tools.get(call["name"])
    if tool is None:
        return f"error: there is no tool {call['name']}", {}
    refusal = tool.refusal(call["arguments"])
    if refusal is not None:
        return f"error: {refusal}", {}
    if tool.name in agent.needs_person and not ask_person(
        f"{agent.name} wants to call {tool.name}", {"tool": tool.name, "arguments": call["arguments"]}
    ):
        return "error: a person has refused this call; do not try it again", {}
    result, usage = tool.call(call["arguments"]), {}
    if tool.is_agent and isinstance(result, Mapping):
        result, usage = result["text"], result["usage"]
    is_text = isinstance(result, str)
    return result if is_text else write_json(result, ensure_ascii=False, separators=None, default=str), usage


def last_messages(messages: Sequence[Message], n_most: int) -> list[Message]:
    """Return the last messages from one of the user on, at most that number: an answer of a tool needs its call."""
    kept = [each for each in messages if each.get("role") != "system"][-n_most:] if n_most else []
    first = next((number for number, each in enumerate(kept) if each.get("role") == "user"), len(kept))
    return [dict(each) for each in kept[first:]]
