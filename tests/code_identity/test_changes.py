"""What is said about an edit, from parts that were kept."""

from __future__ import annotations

import json

import pytest

from ironflow_nb.code_identity.code_parts import changed_parts, decode_parts, describe_code, diff, encode_parts
from tests.code_identity.notebook import NOTEBOOK, run
from tests.code_identity.tracked import track

SOURCE = '''
LIMIT = 10

def clean(text):
    """Say nothing."""
    text = text.strip()
    return text[:LIMIT]

def work(text):
    return clean(text)
'''

SAID = [
    ("the body of a helper", "text.strip()", "text.lower()", ["edited: line 3 of `clean`"]),
    ("a comment before it too", "    text = text.strip()", "    # why\n    text = text.lower()",
     ["edited: line 4 of `clean`"]),
    ("a constant", "LIMIT = 10", "LIMIT = 20", ["constant LIMIT: 10 -> 20"]),
    ("a step", "return clean(text)", "return clean(text.upper())", ["edited: line 2 of `work`"]),
    ("a new helper", "    return clean(text)", "    return clean(more(text))\ndef more(text):\n    return text",
     ["edited: line 2 of `work`", "new: `more`"]),
    ("a constant that goes", "text[:LIMIT]", "text[:10]", ["edited: line 4 of `clean`", "gone: constant LIMIT = 10"]),
    ("a comment", "def clean(text):", "def clean(text):  # text", []),
]  # fmt: skip


@pytest.mark.parametrize(("title", "old", "new", "said"), SAID, ids=[row[0] for row in SAID])
def test_an_edit_is_said_in_words(title: str, old: str, new: str, said: list[str]) -> None:
    then = decode_parts(encode_parts(track(run(SOURCE)["work"])))
    now = track(run(SOURCE.replace(old, new))["work"]).parts
    assert [change.reason for change in changed_parts(then, now)] == said


def test_a_change_shows_its_lines() -> None:
    then, now = (track(run(text)["work"]).parts for text in (SOURCE, SOURCE.replace("strip", "lower")))
    (change,) = changed_parts(then, now)
    lines = diff(change).splitlines()
    assert lines[:2] == ["--- clean (then)", "+++ clean (now)"]
    assert [line for line in lines[2:] if line[0] in "+-"] == ["-    text = text.strip()", "+    text = text.lower()"]


@pytest.mark.parametrize("name", ["step_deep", "step_label", "step_twice", "step_first", "step_of_job"])
def test_parts_are_kept_and_read_again(name: str) -> None:
    tracked = track(run(NOTEBOOK)[name])
    text = encode_parts(tracked)
    assert decode_parts(text) == tracked.parts
    assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) == text
    assert changed_parts(decode_parts(text), tracked.parts) == ()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"parts": [{}]}', '{"parts": [{"name": 1, "digest": "x"}]}', "null"])
def test_what_is_no_list_of_parts_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_parts(text)


def test_a_description_says_what_counts_and_what_does_not() -> None:
    names = run(SOURCE.replace("text.strip()", "text.strip(table)") + "table = {}\n")
    assert describe_code(track(names["work"])).splitlines() == [
        "The code of work is tracked, with",
        "  constants: LIMIT = 10",
        "  functions: clean",
        "Not tracked:",
        "  mutable data: table",
    ]
    assert describe_code(track(run("def alone(): ...")["alone"])) == (
        "The code of alone is tracked, and refers to no other code of yours"
    )
