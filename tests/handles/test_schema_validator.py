"""JSON schemas of users: also one that refers to itself is checked in a time that can be waited for."""

from __future__ import annotations

from typing import Any

import pytest

from ironflow_nb.handles.schema_validator import MOST_RULES, mismatches, schema_validator

NODE = {"$ref": "#/$defs/node"}
TREE: dict[str, Any] = {
    "$defs": {"node": {"type": "object", "properties": {"n": {"type": "integer"}, "children": {"items": NODE}}}},
    **NODE,
}


def nested(depth: int, leaf: Any, name: str = "x") -> Any:
    for _ in range(depth):
        leaf = {name: leaf}
    return leaf


def test_each_place_that_does_not_fit_is_told() -> None:
    value = {"n": 1, "children": [{"n": 2}, {"n": "three"}, {"children": [{"n": None}]}]}
    found = list(mismatches(TREE, value))
    assert [path for path, _ in found] == [("children", 1, "n"), ("children", 2, "children", 0, "n")]
    assert found[0][1] == '"three" is not of type "integer"'
    assert next(mismatches(TREE, value, mask="it"))[1] == 'it is not of type "integer"'
    many = {"children": [{"n": n} for n in range(50_000)] + [{"n": "four"}]}
    assert [path for path, _ in mismatches(TREE, many)] == [("children", 50_000, "n")]


@pytest.mark.parametrize("keyword", ["anyOf", "oneOf"])
def test_a_schema_that_refers_to_itself_twice_at_one_place_is_checked_soon(keyword: str) -> None:
    schema = {"$defs": {"node": {"type": "object", "properties": {"x": {keyword: [NODE, NODE]}}}}, **NODE}
    [(path, message)] = mismatches(schema, nested(60, "leaf"))
    assert path == ()
    assert "the places can't be told" in message
    assert [path for path, _ in mismatches(schema, nested(3, "leaf"))] == [("x",)]
    if keyword == "anyOf":
        assert list(mismatches(schema, nested(60, {}))) == []


def test_references_that_multiply_are_refused_before_the_library_writes_them_out() -> None:
    chain: dict[str, Any] = {f"a{n}": {"oneOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)}
    schema = {"$defs": {**chain, "a40": {"type": "integer"}}, "$ref": "#/$defs/a0"}
    with pytest.raises(ValueError, match=f"more than {MOST_RULES} rules when its references are written out"):
        schema_validator(schema)


def test_a_reference_leads_through_lists_and_escaped_names() -> None:
    schema: dict[str, Any] = {
        "$defs": {"a/b": {"anyOf": [{"type": "integer"}]}, "c%": {"type": "null"}},
        "properties": {"x": {"$ref": "#/$defs/a~1b/anyOf/0"}, "y": {"$ref": "#/$defs/c%25"}},
    }
    assert [path for path, _ in mismatches(schema, {"x": "1", "y": 1})] == [("x",), ("y",)]
    assert list(mismatches(True, {})) == []
