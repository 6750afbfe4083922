"""Workflows of tagged YAML as graphs: what they give here, what is told of them, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import ironflow_nb as iron
from ironflow_nb.errors import GraphInvalid
from ironflow_nb.graphs.graph import Graph

PROVIDERS = """
providers:
  - {name: depot, auth: {host: depot.test, strategy: !Token {name: X-Key, value: !Env DEPOT_KEY}}}
  - {name: mailer, auth: {host: mail.test, strategy: !Basic {name: ada, password: !Env MAIL_WORD}}}
  - {name: open, auth: {host: open.test, strategy: Plain}}
  - {name: told, auth: {host: told.test, strategy: !Token {name: X-Key, value: !Plain "k-123456"}}}
"""

PARCELS = """
name: parcel_watch
config: {auth_providers: [depot, mailer, open]}
nodes:
  - !Http
    id: all-parcels
    url: "{{join('', ['https://depot.test/v1/', input.region, '/parcels'])}}"
    method: get
    params: {since: "{{input.since}}"}
    config: {retry: {max_count: 3, on_status_codes: [429, 503]}, fail_on_non_2xx: false}
  - !Assertion
    id: sane
    assertions:
      - !Equals {left: '{{type("all-parcels".body.items)}}', right: array}
      - !NotEquals {left: '{{length("all-parcels".body.items)}}', right: 0}
  - !Loop
    id: each
    array: '{{"all-parcels".body.items}}'
    for_each: parcel
    nodes:
      - !Condition
        id: late
        expression: "{{parcel.late}}"
        true_branch:
          - !Lambda {id: price, function_name: refund-price, payload: {parcel: "{{parcel.id}}"}}
  - !Branch
    id: tell
    condition: "input.notify"
    branches:
      mail: [!Http {id: send, url: https://mail.test/send, method: POST, body: {n: "{{each}}"}}]
      desk: [!Workflow {id: ticket, workflow: open_ticket, input: {last: "{{price.amount}}"}, execution_id: x}]
"""


def imported(tmp_path: Path, text: str, providers: str | None = None, **options: Any) -> Graph:
    file = tmp_path / "flow.yaml"
    file.write_text(text)
    if providers is not None:
        (tmp_path / "providers.yaml").write_text(providers)
        options["providers"] = tmp_path / "providers.yaml"
    return iron.Graph.from_file(file, **options)


def one(tmp_path: Path, node: str, **options: Any) -> Graph:
    return imported(tmp_path, f"name: one\nnodes:\n  - {node}\n", **options)


def refusals(tmp_path: Path, text: str, providers: str | None = None) -> list[str]:
    with pytest.raises(GraphInvalid) as caught:
        imported(tmp_path, text, providers)
    return [str(each) for each in caught.value.findings]


@pytest.mark.parametrize("lenient", [False, True])
def test_a_workflow_with_every_tag_is_a_graph_without_errors(tmp_path: Path, lenient: bool) -> None:
    graph = imported(tmp_path, PARCELS, PROVIDERS, lenient=lenient)
    assert graph.findings() == []
    assert graph.name == "parcel_watch"
    assert Graph.from_yaml(graph.to_yaml()).data == graph.data
    data = graph.data
    assert data["allow"] == {
        "http": ["depot.test", "mail.test"], "lambda": ["refund-price"], "env": ["DEPOT_KEY", "MAIL_WORD"],
    }  # fmt: skip
    http = data["nodes"][0]
    assert (http["id"], http["description"]) == ("all_parcels", "all-parcels in the imported file")
    assert http["http"]["url"] == "https://depot.test/v1/{{ input.region }}/parcels"
    assert data["auth"] == {
        "depot": {"host": "depot.test", "header": {"name": "X-Key", "value": "{{ secrets.depot }}"}},
        "mailer": {"host": "mail.test", "basic": {"user": "ada", "password": "{{ secrets.mailer }}"}},
    }
    assert "auth" not in http["http"]
    assert http["http"]["fail_on_status"] is False
    assert http["retry"] == {"attempts": 4, "on_status": [429, 503]}


def test_an_imported_graph_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPOT_KEY", "key-of-the-depot")
    monkeypatch.setenv("MAIL_WORD", "word-of-the-mail")
    graph = imported(tmp_path, PARCELS, PROVIDERS)
    items = [{"id": 1, "late": True}, {"id": 2, "late": "yes"}, {"id": 3, "late": True}]
    mocks = {
        "all_parcels": {"status_code": 200, "headers": {}, "body": {"items": items}},
        "price": lambda function, payload: {"amount": payload["parcel"] * 10},
        "send": {"status_code": 200, "headers": {}, "body": None},
        "ticket": "opened",
    }
    found = graph.test(mocks=mocks, region="north", since="x", notify=True).output
    assert found["mail"]["send"]["status_code"] == 200
    assert found["desk"]["ticket"] == "opened"
    quiet = graph.test(mocks=mocks, region="north", since="x", notify="yes").output
    assert quiet == {}  # only true was true there


def test_what_means_something_else_is_told_with_its_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ironflow_nb.graph"):
        graph = imported(tmp_path, PARCELS, PROVIDERS)
    told = "\n".join(graph.notes)
    assert "line 7, column 10: nodes[0].!Http.url: what is missing is null there, and an error here" in told
    assert "price is inside of another node: each[-1].late.price, if that ran" in told
    assert "line 32, column 121" in told or "the run of a child has an id of its own" in told
    assert len(caplog.records) == len(graph.notes)
    assert all(f"# flow.yaml, {note}" in graph.to_yaml() for note in graph.notes)
    assert not [note for note in imported(tmp_path, PARCELS, PROVIDERS, lenient=True).notes if "missing is" in note]


EXPRESSIONS = [
    ("{{input.x}}", {"x": 3}, 3, 3),
    ("{{ input.x.y }}", {"x": {}}, "error", None),
    ("{{capitalize(input.x)}}", {"x": "ab"}, "AB", "AB"),
    ("{{concat([input.x, 'b'])}}", {"x": "a"}, "ab", "ab"),
    ("{{join('', ['a', input.x, ', {{ ', 'c'])}}", {"x": "b"}, "ab, {{ c", "ab, {{ c"),
    ("{{join('-', ['a', input.x])}}", {"x": "b"}, "a-b", "a-b"),
    ("{{input.x[?late && id > `1`].id | [0]}}", {"x": [{"late": True, "id": 2}]}, 2, 2),
    ("{{input.x.{a: id, b: @.id}}}", {"x": {"id": 5}}, {"a": 5, "b": 5}, {"a": 5, "b": 5}),
    ("{{sort_by(input.x, &id)[0].id}}", {"x": [{"id": 2}, {"id": 1}]}, 1, 1),
    ("no {{ expression }}", {}, "no {{ expression }}", "no {{ expression }}"),
]


@pytest.mark.parametrize(("text", "given", "strict", "lenient"), EXPRESSIONS, ids=[each[0] for each in EXPRESSIONS])
def test_an_expression_gives_what_it_gave(tmp_path: Path, text: str, given: Any, strict: Any, lenient: Any) -> None:
    node = f"!Lambda {{id: id, function_name: f, payload: {{v: {_quoted(text)}}}}}"
    mocks = {"id": lambda function, payload: payload["v"]}
    assert one(tmp_path, node, lenient=True).test(given, mocks=mocks).output == lenient
    graph = one(tmp_path, node)
    if strict == "error":
        assert isinstance(graph.test(given, mocks=mocks).error, iron.errors.ExpressionFailed)
    else:
        assert graph.test(given, mocks=mocks).output == strict


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


REFUSED = [
    ("!Http {id: a, url: https://a.test, method: FETCH}", "!Http.method: the method is one of GET"),
    ("!Http {id: a, method: GET}", "nodes[0].!Http: !Http needs url"),
    ("!Http {id: a, url: https://a.test, method: GET, config: 3}", "config: a mapping belongs here"),
    ("!Loop {id: a, array: [1], for_each: x, nodes: 3}", "nodes: a list of nodes belongs here"),
    ("!Loop {id: a, array: [1], for_each: x, nodes: [{id: b}]}", "a node is a mapping with one of the tags !Http"),
    ("!Lambda {id: a, function_name: f, payload: '{{ input. }}'}", "payload: the end was not expected"),
    ("!Lambda {id: a, function_name: f, payload: '{{ nope(input) }}'}", "there is no function"),
    ("!Lambda {id: a, function_name: f, payload: '{{ env }}'}", "env as a whole is not there; name its variables"),
    ("!Workflow {id: a, workflow: '{{input.w}}', input: {}}", "the name of a workflow is fixed here"),
    ("!Assertion {id: a, assertions: [!Less {left: 1, right: 2}]}", "a check is !Equals or !NotEquals"),
    ("!Branch {id: a, branches: [1]}", "branches: a mapping belongs here"),
    ("!Assertion {id: a, assertions: 4}", "assertions: a list belongs here"),
    ("!Http {id: a, url: https://a.test, method: GET, config: {retry: {on_status_codes: 5}}}", "codes: a list belongs"),
    ("!Http {id: a, url: https://a.test, method: GET, config: {retry: {max_count: x}}}", "a whole number belongs here"),
]


@pytest.mark.parametrize(("node", "expected"), REFUSED, ids=[text for _, text in REFUSED])
def test_what_can_not_be_kept_is_refused_with_its_place(tmp_path: Path, node: str, expected: str) -> None:
    found = refusals(tmp_path, f"name: w\nnodes:\n  - {node}\n  - !Fetch {{id: z}}\n")
    assert any(expected in each for each in found), found
    assert any("line 4, column 5: nodes[1]: a node is a mapping with one of the tags" in each for each in found)


def test_secrets_in_files_and_unknown_providers_are_refused(tmp_path: Path) -> None:
    node = "- !Http {id: a, url: https://told.test/x, method: GET}"
    text = f"name: w\nconfig: {{auth_providers: [told, none]}}\nnodes:\n  {node}\n"
    found = refusals(tmp_path, text, PROVIDERS)
    assert "the secret of the auth provider told stands in its file; put it into an environment variable" in found[0]
    assert "there is no auth provider none (there are: depot, mailer, open, told)" in found[1]
    assert "k-123456" not in "".join(found)
    assert "give their file: from_file(..., providers=PATH)" in refusals(tmp_path, text)[0]


def test_a_credential_goes_to_its_exact_host_alone(tmp_path: Path) -> None:
    text = """
name: w
config: {auth_providers: [depot]}
nodes:
  - !Http {id: a, url: "https://evil.test/?depot.test", method: GET}
  - !Http {id: b, url: "https://depot.test.evil.test/", method: GET}
  - !Http {id: c, url: "{{input.url}}", method: GET}
  - !Http {id: d, url: "https://depot.test/x", method: GET}
"""
    graph = imported(tmp_path, text, PROVIDERS)
    assert graph.data["auth"].keys() == {"depot"}
    assert [each.host for each in graph.definition.auths] == ["depot.test"]
    assert any("its host is known only when it runs" in note for note in graph.notes)


def test_ids_that_are_taken_or_no_names_here_are_replaced_everywhere(tmp_path: Path) -> None:
    text = """
name: my flow
nodes:
  - !Lambda {id: 1st.one, function_name: f}
  - !Lambda {id: index, function_name: f, payload: '{{"1st.one"}}'}
  - !Lambda {id: n_1st_one, function_name: f, payload: '{{[index, n_1st_one2]}}', more: 1}
"""
    graph = imported(tmp_path, text)
    assert graph.name == "my_flow"
    assert [node["id"] for node in graph.data["nodes"]] == ["n_1st_one", "index_2", "n_1st_one_2"]
    assert graph.data["nodes"][1]["lambda"]["payload"] == "{{ n_1st_one }}"
    assert any(note.endswith("this key means nothing there, and is left out") for note in graph.notes)
    assert any("n_1st_one2" in str(each) for each in graph.findings())  # null there, and no name here


def test_the_variable_of_a_loop_has_another_name_where_that_means_something_here(tmp_path: Path) -> None:
    inner = "!Lambda {id: a, function_name: f, payload: '{{[index, input]}}'}"
    graph = one(tmp_path, f"!Loop {{id: l, array: [1, 2], for_each: index, nodes: [{inner}]}}")
    found = graph.test(mocks={"a": lambda function, payload: payload}, x=0).unwrap()
    assert found == [{"a": [1, {"x": 0}]}, {"a": [2, {"x": 0}]}]


def test_our_own_files_are_read_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "ours.yaml"
    file.write_text('graph: ours\nnodes:\n  - {id: a, log: "- !Http"}\n')
    graph = iron.Graph.from_file(file)
    assert (graph.to_yaml(), graph.notes) == (file.read_text(), ())
    with pytest.raises(FileNotFoundError):
        iron.Graph.from_file(tmp_path / "none.yaml")
