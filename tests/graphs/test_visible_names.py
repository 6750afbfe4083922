"""What the expressions of a node can see, and what is said of those that look further."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ironflow_nb.graphs.graph import Graph
from tests.graphs.mistakes import messages, work


def seeing(name: str, expression: Any, **keys: Any) -> dict[str, Any]:
    """Return a node that looks at something."""
    return work(name, **{"with": {"x": expression}}, **keys)


def wrong(expression: str, **top: Any) -> list[str]:
    """Return what is wrong with an expression in a graph with nodes of every kind before it."""
    nodes = [
        work("alone", depends_on=[]),
        {"id": "made", "condition": True, "then": [work("ack", on_error=[work("mended")])], "depends_on": []},
        {"id": "tell", "loop": [1], "as": "team", "do": [{"id": "inner", "condition": True, "then": [work("sent")]}]},
        {"id": "fan", "branch": {"mail": {"do": [work("m")]}, "a b": {"do": [work("n")]}}},
        {"id": "pick", "switch": 1, "cases": {"x": [work("picked")]}},
        seeing("here", expression),
        work("later"),
    ]
    return messages(*nodes, **top)


def test_ancestors_and_the_input_are_seen() -> None:
    for expression in ("made.ack", "tell[].inner.sent", "fan.mail.m", "input.x", "env", "pick.picked", "[made, fan]"):
        assert wrong(f"{{{{ {expression} }}}}") == []


def test_what_need_not_have_ended_is_named() -> None:
    assert wrong("{{ alone }}") == ["alone may not have ended by then; add it to depends_on"]
    assert wrong("{{ later.x }}") == ["later may not have ended by then; add it to depends_on"]
    assert wrong("{{ here }}") == ["here is this node itself"]


def inside(name: str, of: str, known_as: str) -> list[str]:
    return [f"{name} is inside {of} and not visible here; write {known_as}"]


def test_a_node_inside_of_another_is_told_as_what_gives_it() -> None:
    assert wrong("{{ ack }}") == inside("ack", "made", "made.ack")
    assert wrong("{{ sent }}") == ["sent is inside inner and not visible here; write tell[].inner.sent"]
    assert wrong("{{ m }}") == inside("m", "fan", "fan.mail.m")
    assert wrong("{{ n }}") == inside("n", "fan", 'fan."a b".n')
    assert wrong("{{ picked }}") == ["picked is inside pick and not visible here; write pick.picked"]
    assert wrong("{{ mended }}") == ["mended is inside ack and not visible here"]


def test_misspelt_names_are_told_with_what_was_perhaps_meant() -> None:
    assert wrong("{{ inputs.x }}") == ["there is no 'inputs' here; did you mean input?"]
    assert wrong("{{ zzz }}") == ["there is no 'zzz' here (there are: env, input, made, tell, fan, pick)"]
    assert wrong("{{ @ }}") == ["@ would be the whole context; use the name of what is needed"]


def test_the_names_of_loops_and_handlers_are_seen_inside_of_them_only() -> None:
    assert "it is the item of a loop without as:" in wrong("{{ item }}")[0]
    assert "it is the number of the item or round" in wrong("{{ index }}")[0]
    assert "it exists inside on_error" in wrong("{{ error.message }}")[0]
    assert "there is no 'team' here" in wrong("{{ team }}")[0]
    inside = [seeing("a", "{{ team }} {{ index }}", on_error=[seeing("h", "{{ error.message }} {{ team }}")])]
    assert messages({"id": "l", "loop": [1], "as": "team", "do": inside}) == []
    assert messages({"id": "l", "loop": [1], "do": [seeing("a", "{{ item }} {{ index }}")]}) == []
    loop = {"id": "l", "loop": "{{ item }}", "do": []}
    assert "there is no 'item' here" in messages(loop)[0]


def test_what_is_around_a_node_has_not_ended() -> None:
    assert messages({"id": "c", "condition": True, "then": [seeing("a", "{{ c.x }}")]}) == [
        "c contains this node and ends after it"
    ]
    assert messages(work("w", on_error=[seeing("h", "{{ w.x }}")])) == ["w has failed here; use error"]
    beside = {"id": "c", "depends_on": [], "condition": True, "then": [seeing("a", "{{ b }}")]}
    assert messages(beside, work("b")) == [
        "b may not have ended by then; make the node that contains this one depend on it"
    ]


def test_the_output_sees_every_node_of_the_graph_itself() -> None:
    assert wrong("x", output="{{ [alone, later, made.ack] }}") == []
    assert wrong("x", output="{{ ack }}") == ["ack is inside made and not visible here; write made.ack"]


# -- secrets -----------------------------------------------------------------------------------------------------

SECRETS: Mapping[str, Any] = {"secrets": {"token": {"env": "TOKEN"}}, "allow": {"env": ["TOKEN"]}}


def test_secrets_are_for_the_options_of_nodes_that_do_work() -> None:
    assert messages(seeing("a", "Bearer {{ secrets.token }}"), **SECRETS) == []
    secret = "{{ secrets.token }}"
    refused: list[tuple[str, dict[str, Any]]] = [
        ("when", work("a", when=secret)),
        ("condition", {"id": "a", "condition": secret}),
        ("switch", {"id": "a", "switch": secret, "cases": {"x": []}}),
        ("loop", {"id": "a", "loop": secret, "do": []}),
        ("while", {"id": "a", "loop": {"while": secret, "max_rounds": 1}, "do": []}),
        ("when", {"id": "a", "branch": {"x": {"when": secret, "do": []}}}),
        ("workflow", {"id": "a", "workflow": "x", "input": {"x": secret}}),
        ("assert", {"id": "a", "assert": [{"equals": [secret, 1]}]}),
    ]
    for place, node in refused:
        assert messages(node, **SECRETS) == [
            f"{place} can't use secrets; they are for the options of nodes that do work"
        ]
    assert messages(work("a"), output=secret, **SECRETS)[0].startswith("output can't use secrets")


def test_a_secret_is_one_that_the_graph_has() -> None:
    assert messages(seeing("a", "{{ secrets.tokn }}"), **SECRETS) == [
        "the graph has no secret 'tokn' (it has: token); declare its source: secrets: {tokn: {env: ...}}"
    ]
    assert messages(seeing("a", "{{ secrets }}"), **SECRETS) == ["name the secret: secrets.NAME"]


def test_a_secret_of_a_variable_that_is_not_granted_is_found() -> None:
    (message,) = messages(work("a"), secrets={"token": {"env": "TOKEN"}})
    assert message == "env 'TOKEN' is not granted (nothing of it is granted); to grant it: allow: {env: [TOKEN]}"


# -- grants ------------------------------------------------------------------------------------------------------


def test_what_is_not_granted_is_found_where_the_text_tells_it() -> None:
    allow = {"env": ["HOME"], "files": ["data"], "shell": ["git"]}
    assert messages(
        seeing("a", "{{ env.HOME }}"),
        {"id": "b", "file": {"read": "data/x.txt"}},
        {"id": "c", "shell": {"command": ["git", "status"]}},
        {"id": "d", "file": {"read": "{{ input.path }}"}},
        allow=allow,
    ) == []  # fmt: skip
    refused = messages(
        seeing("a", "{{ env.USER }}"),
        {"id": "b", "file": {"read": "data/../other.txt"}},
        {"id": "c", "shell": {"command": ["rm", "x"]}},
        allow=allow,
    )
    assert [each.partition(" (")[0] for each in refused] == [
        "env 'USER' is not granted", "files 'data/../other.txt' is not granted", "shell 'rm' is not granted",
    ]  # fmt: skip
    assert all("to grant it: allow: {" in each for each in refused)


def test_no_message_shows_what_stands_in_a_graph_as_a_secret() -> None:
    hidden = "s3cr3t-value"
    told = messages(
        {"id": "a", "file": {"read": 3, "content": hidden, "password": hidden}},
        work("b", retry={"attempts": hidden}, timeout_s=hidden, cache=hidden, when=hidden, on_error=hidden),
        {"id": "c", "condition": hidden},
        secrets={"token": {"value": hidden}, "other": hidden},
    )
    assert len(told) >= 8
    assert hidden not in "".join(told)


def test_the_variable_that_a_secret_comes_from_is_no_variable_of_expressions() -> None:
    text = """
graph: g
allow: {env: [TOKEN, PLACE]}
secrets: {token: {env: TOKEN}}
nodes:
  - {id: a, log: "{{ env.TOKEN }} {{ env.PLACE }}"}
"""
    (found,) = Graph.from_yaml(text).findings()
    assert found.message == "env.TOKEN is the source of a secret, and would be recorded; write secrets.token"


def test_values_are_written_in_backquotes() -> None:
    (found,) = Graph.from_dict({"graph": "g", "nodes": [{"id": "a", "log": "{{ null }}"}]}).findings()
    assert found.message == "there is no 'null' here: write the value in backquotes: `null`"
