"""Agents, against a server on this machine that answers as a model would."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import AgentStopped, DefinitionError, RunInterrupted, SecretMissing
from tests.graphs.hidden import contents, forms_of
from tests.graphs.servers import Handler, Server, serving

KEY = "sk-darjeeling-4711"


class Model:
    """Answers by a list of what to say: a text, or calls of tools as pairs of a name and arguments."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.says: list[str | list[tuple[str, Any]]] = []
        self.status = 200
        server.answers("/v1/chat/completions", self._answer)

    @property
    def asked(self) -> list[dict[str, Any]]:
        return [json.loads(seen.body) for seen in self.server.seen]

    def _answer(self, handler: Handler) -> None:
        if self.status != 200:
            handler.reply(self.status, b'{"error": {"message": "not now"}}', {"content-type": "application/json"})
            return
        n_turns = sum(each["role"] == "assistant" for each in self.asked[-1]["messages"])
        said = self.says[n_turns]
        message: dict[str, Any] = {"role": "assistant", "content": said if isinstance(said, str) else None}
        if not isinstance(said, str):
            message["tool_calls"] = [
                {"id": f"{n_turns}.{n}", "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
                for n, (name, given) in enumerate(said)
            ]
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        answer = {"model": "m-1", "choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
        handler.reply(200, json.dumps(answer).encode(), {"content-type": "application/json"})


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving() as server:
        yield Model(server)


@pytest.fixture(autouse=True)
def journal(tmp_path: Path) -> Iterator[Path]:
    with iron.open(tmp_path / "kept" / "j.db"):
        yield tmp_path / "kept" / "j.db"


CALLS: list[Any] = []


@pytest.fixture(autouse=True)
def no_calls() -> None:
    CALLS.clear()


def price(name: str, n: int = 1) -> dict[str, int]:
    """What some of it costs.

    The price is in euros.
    """
    CALLS.append((name, n))
    return {"price": {"tea": 3, "cup": 8}[name] * n}


def refund(order: int) -> str:
    CALLS.append(order)
    return f"refunded {order}"


def made(model: Model, *tools: Any, name: str = "shop", **options: Any) -> Any:
    url = model.server.url("/v1")
    return iron.agent(name, model="m", tools=tools, base_url=url, retries=iron.Retry(attempts=1), **options)


def answers(run_messages: Any) -> list[str]:
    return [each["content"] for each in run_messages if each["role"] == "tool"]


def test_a_model_without_tools_answers(model: Model) -> None:
    model.says = ["Tea."]
    result = made(model, instructions="Be brief.", options={"temperature": 0})("What?")
    assert result["text"] == "Tea."
    assert result["n_turns"] == 1
    assert result["usage"] == {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    assert [each["role"] for each in result["messages"]] == ["system", "user", "assistant"]
    assert model.asked[0]["temperature"] == 0
    assert "tools" not in model.asked[0]


def test_the_calls_of_one_turn_are_made_side_by_side_and_answered_in_their_order(model: Model) -> None:
    together = threading.Barrier(3)

    def look(shelf: int) -> str:
        if shelf < 3:
            together.wait(timeout=60)
        CALLS.append(shelf)
        return f"shelf {shelf}"

    model.says = [[("look", {"shelf": shelf}) for shelf in range(4)], "Done."]
    result = made(model, look, concurrency=3)("What is there?")
    assert answers(result["messages"]) == ["shelf 0", "shelf 1", "shelf 2", "shelf 3"]
    assert sorted(CALLS) == [0, 1, 2, 3]
    assert CALLS[3] == 3  # of another batch


def test_a_call_of_a_turn_that_failed_the_run_is_made_again_alone(model: Model) -> None:
    def look(shelf: int) -> str:
        CALLS.append(shelf)
        if shelf == 1 and CALLS.count(1) == 1:
            raise KeyboardInterrupt
        return f"shelf {shelf}"

    model.says = [[("look", {"shelf": shelf}) for shelf in range(3)], "Done."]
    search = made(model, look)
    with pytest.raises((RunInterrupted, KeyboardInterrupt)):
        search("What is there?")
    result = search.resume().result(timeout_s=60)
    assert answers(result["messages"]) == ["shelf 0", "shelf 1", "shelf 2"]
    assert sorted(CALLS) == [0, 1, 1, 2]
    assert len(model.asked) == 2


def test_tools_are_called_and_the_model_is_told_what_they_gave(model: Model) -> None:
    model.says = [[("price", {"name": "tea", "n": 2}), ("price", {"name": "cup"})], "14 euros."]
    result = made(model, price)("What do two teas and a cup cost?")
    assert result["text"] == "14 euros."
    assert answers(result["messages"]) == ['{"price": 6}', '{"price": 8}']
    assert sorted(CALLS) == [("cup", 1), ("tea", 2)]  # side by side
    described = model.asked[0]["tools"][0]["function"]
    assert (described["name"], described["description"]) == ("price", "What some of it costs.")
    assert described["parameters"]["properties"]["n"]["type"] == "integer"
    assert described["parameters"]["required"] == ["name"]
    steps = iron.steps(run=iron.runs()["run_id"][0])
    assert list(steps["name"]) == ["shop.model", "shop.price", "shop.price", "shop.model"]
    assert result["usage"]["total_tokens"] == 30


def test_a_mistake_of_the_model_and_a_tool_that_fails_are_told_to_it(model: Model) -> None:
    calls = [("price", {"name": "pot"}), ("price", {"n": "x"}), ("nothing", {}), ("price", [1])]
    model.says = [calls, "I do not know."]
    told = answers(made(model, price)("?")["messages"])
    assert told[0] == "error: KeyError: 'pot'"
    assert told[1].startswith("error: ")
    assert "name" in told[1]
    assert told[2] == "error: there is no tool nothing"
    assert told[3] == "error: the arguments are no JSON object"
    assert CALLS == [("pot", 1)]


def test_an_agent_that_was_stopped_goes_on_without_asking_or_calling_again(model: Model) -> None:
    model.says = [[("price", {"name": "tea"})], "3 euros."]
    broken = [True]

    def check(name: str) -> str:
        if broken[0]:
            raise KeyboardInterrupt
        return "fine"

    model.says.insert(1, [("check", {"name": "tea"})])
    shop = made(model, price, check)
    with pytest.raises((KeyboardInterrupt, RunInterrupted)):
        shop("What?")
    assert len(model.asked) == 2
    broken[0] = False
    [run_id] = iron.runs(shop)["run_id"]
    assert iron.resume(run_id).result()["text"] == "3 euros."
    assert len(model.asked) == 3
    assert CALLS == [("tea", 1)]


def test_a_call_that_needs_a_person_waits_for_one(model: Model) -> None:
    model.says = [[("refund", {"order": 7}), ("refund", {"order": 8})], "Done."]
    shop = made(model, refund, approve=["refund"])
    run = shop.start("Refund 7 and 8.")
    for question in asked(2).to_dict("records"):  # both at once
        assert question["question"] == "shop wants to call refund"
        run.answer("7" in str(question["payload"]), step=question["step"])
    result = run.result(timeout_s=60)
    assert answers(result["messages"]) == ["refunded 7", "error: a person has refused this call; do not try it again"]
    assert CALLS == [7]


def asked(n_questions: int) -> Any:
    """Wait until a person is asked so many questions, and return them."""
    for _ in range(1200):
        found = iron.waiting()
        if len(found) == n_questions:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not {n_questions} questions, but {len(found)}")


def test_turns_and_tokens_are_bounded(model: Model) -> None:
    model.says = [[("price", {"name": "tea"})]] * 9
    with pytest.raises(AgentStopped, match="no answer after 3 turns"):
        made(model, price, max_turns=3)("?")
    assert len(model.asked) == 3
    with pytest.raises(AgentStopped, match="has used 30 tokens in 2 turns"):
        made(model, price, max_tokens=20, name="saver")("?")


def test_a_conversation_goes_on(model: Model) -> None:
    model.says = ["Three.", "Eight."]
    shop = made(model, instructions="Be brief.")
    before = shop("Tea?")
    after = shop("And a cup?", messages=before["messages"])
    assert [each["content"] for each in after["messages"]] == ["Be brief.", "Tea?", "Three.", "And a cup?", "Eight."]


def test_an_agent_is_the_tool_of_another_and_runs_as_its_child(model: Model) -> None:
    with serving() as server:
        helper = Model(server)
        helper.says = ["Three euros."]
        clerk = made(helper, name="clerk", instructions="Prices.\n\nBe brief.")
        model.says = [[("clerk", {"prompt": "Tea?"})], "It costs three."]
        result = made(model, clerk, name="boss")("What does tea cost?")
        described = model.asked[0]["tools"][0]["function"]
    assert answers(result["messages"]) == ["Three euros."]
    assert (described["description"], list(described["parameters"]["properties"])) == ("Prices.", ["prompt"])
    assert result["usage"]["total_tokens"] == 45  # two turns here, one there
    runs = iron.runs()
    assert set(runs["name"]) == {"boss", "clerk"}
    assert runs.set_index("name").loc["clerk", "parent_run_id"] == runs.set_index("name").loc["boss", "run_id"]


def test_the_key_is_read_in_each_turn_and_never_recorded(
    model: Model, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.says = ["Tea."]
    made(model)("?")
    assert model.server.last.headers["authorization"] == f"Bearer {KEY}"
    found = b"".join(contents(journal))
    assert not [form for form in forms_of(KEY) if form in found]
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(SecretMissing, match="OPENAI_API_KEY has no key"):
        made(model, name="other")("?")
    made(model, name="open", api_key_env=None)("?")
    assert "authorization" not in model.server.last.headers


def test_a_tool_can_be_async_a_step_or_a_flow(model: Model) -> None:
    async def later(n: int) -> int:
        return n + 1

    doubled = iron.step(name="doubled")(lambda n: 2 * n)
    tripled = iron.flow(name="tripled")(lambda n: 3 * n)
    for each, name in ((doubled, "doubled"), (tripled, "tripled")):
        each.fn.__name__ = name
    model.says = [[("later", {"n": 1}), ("doubled", {"n": 2}), ("tripled", {"n": 3})], "Done."]
    assert answers(made(model, later, doubled, tripled)("?")["messages"]) == ["2", "4", "9"]


def test_the_tools_are_checked_when_the_agent_is_made(model: Model) -> None:
    with pytest.raises(DefinitionError, match="two tools of shop are called price"):
        made(model, price, price)
    with pytest.raises(DefinitionError, match="approve names 'refund', which is no tool"):
        made(model, price, approve=["refund"])
    with pytest.raises(DefinitionError, match="is a function with a name"):
        made(model, lambda name: name)
    with pytest.raises(DefinitionError, match="has a max_cost without a price"):
        made(model, price, max_cost=1.0)


def test_what_all_turns_cost_is_bounded(model: Model) -> None:
    model.says = [[("price", {"name": "tea"})], "Three."]
    shop = made(model, price, max_cost=45e-6, price=(2.0, 1.0), name="rich")
    assert shop("?")["cost"] == pytest.approx(50e-6)  # the last turn calls no tool, so it is the answer
    with pytest.raises(AgentStopped, match=r"poor has cost 2\.5e-05 in 1 turn, and max_cost is 2e-05; raise it"):
        made(model, price, max_cost=2e-5, price=(2.0, 1.0), name="poor")("?")
    assert CALLS == [("tea", 1)]


def test_an_agent_with_a_higher_limit_goes_on_and_pays_for_no_turn_twice(model: Model) -> None:
    model.says = [[("price", {"name": "tea"})], "Three."]
    price_of_tokens = {"price": (2.0, 1.0), "name": "thrifty"}
    with pytest.raises(AgentStopped):
        made(model, price, max_cost=2e-5, **price_of_tokens).options(key="one")("?")
    assert made(model, price, max_cost=1, **price_of_tokens).options(key="one")("?")["text"] == "Three."
    assert len(model.asked) == 2
    assert list(iron.runs("thrifty")["status"]) == ["completed"]


def test_a_conversation_is_kept_by_its_name(model: Model) -> None:
    def told(asked: dict[str, Any]) -> list[str]:
        return [each["content"] for each in asked["messages"] if each["role"] != "system"]

    model.server.answers("/v1/chat/completions", lambda handler: handler.reply(200, SAID, JSON))
    shop = made(model, memory=3, instructions="Be brief.")
    for prompt, conversation in (("One?", "Ada"), ("Other?", "Bo"), ("Two?", "Ada"), ("Three?", "Ada")):
        shop(prompt, conversation=conversation)
    assert [told(each) for each in model.asked] == [
        ["One?"],
        ["Other?"],
        ["One?", "Well.", "Two?"],
        ["Two?", "Well.", "Three?"],  # of three messages the first was an answer, whose question is gone
    ]
    with pytest.raises(DefinitionError, match="other remembers no conversation; make it with memory=40"):
        made(model, name="other")("?", conversation="Ada")


JSON = {"content-type": "application/json"}
SAID = json.dumps({"choices": [{"message": {"role": "assistant", "content": "Well."}}]}).encode()


def test_an_agent_starts_a_child_of_its_own(model: Model) -> None:
    def reply(handler: Handler) -> None:
        asked = model.asked[-1]["messages"]
        is_child, has_called = asked[-1]["content"] == "Price tea.", len(asked) > 1
        call = ("price", {"name": "tea"}) if is_child else ("spawn_agent", {"prompt": "Price tea."})
        function = {"name": call[0], "arguments": json.dumps(call[1])}
        message = (
            {"role": "assistant", "content": f"Told: {asked[-1]['content']}"}
            if has_called
            else {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": function}]}
        )
        handler.reply(200, json.dumps({"choices": [{"message": message}]}).encode(), JSON)

    model.server.answers("/v1/chat/completions", reply)
    result = made(model, price, spawn=1)("What does tea cost?")
    assert result["text"] == 'Told: Told: {"price": 3}'
    assert CALLS == [("tea", 1)]
    offered = [[each["function"]["name"] for each in asked["tools"]] for asked in model.asked]
    assert offered == [["price", "spawn_agent"], ["price"], ["price"], ["price", "spawn_agent"]]
    runs = iron.runs().set_index("name")
    assert runs.loc["shop.spawn_agent", "parent_run_id"] == runs.loc["shop", "run_id"]
    with pytest.raises(DefinitionError, match="approve names 'spawn_agent'"):
        made(model, price, approve=["spawn_agent"])
    made(model, price, approve=["price", "spawn_agent"], spawn=2, name="boss")


def test_a_conversation_is_a_frame_also_of_a_run_that_failed(model: Model) -> None:
    model.says = [[("price", {"name": "tea"})], "Three."]
    result = made(model, price, instructions="Be brief.")("Tea?")
    frame = iron.conversation(result)
    assert frame.equals(iron.conversation(result["messages"]))
    assert list(frame["role"]) == ["system", "user", "call", "tool", "assistant"]
    assert list(frame["turn"]) == [0, 0, 1, 1, 2]
    assert frame["arguments"][2] == {"name": "tea"}
    assert list(frame["tool"][2:4]) == ["price", "price"]
    assert frame["text"][3] == '{"price": 3}'
    with pytest.raises(AgentStopped):
        made(model, price, max_turns=1, name="short")("Tea?")
    stopped = iron.conversation(iron.get_run(iron.runs("short")["run_id"][0]))
    assert list(stopped["role"]) == ["user", "call"]
    assert model.asked[-1]["messages"][0]["content"] == "Tea?"
