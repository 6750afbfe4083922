"""What counts as the code of a step, what does not, and what is said about it."""

from __future__ import annotations

import linecache
import types
from pathlib import Path
from typing import Any

import pytest

from ironflow_nb.code_identity.code_parts import TRANSITIVE
from ironflow_nb.code_identity.tracker import Tracker
from ironflow_nb.core.identity import RECIPE
from tests.cells import run_cell
from tests.code_identity.notebook import run
from tests.code_identity.tracked import track


def reasons(function: Any) -> dict[str, str]:
    return {each.name: each.words for each in track(function).untracked}


def names_of(function: Any) -> list[str]:
    return [part.name for part in track(function).parts]


def test_a_step_that_refers_to_no_code_of_the_users_is_known_by_itself() -> None:
    names = run("import math\ntable = {}\ndef work(x):\n    return work(x - 1) + math.sqrt(len(table))\n")
    tracked = track(names["work"])
    assert tracked.digest == tracked.own
    assert tracked.digest[:1] == RECIPE
    assert names_of(names["work"]) == ["work"]


def test_a_step_that_refers_to_code_has_a_digest_of_another_recipe() -> None:
    tracked = track(run("def help(x):\n    return x\ndef work(x):\n    return help(x)\n")["work"])
    assert tracked.digest[:1] == TRANSITIVE
    assert len(tracked.digest) == 20


def test_what_is_referred_to_and_not_followed_is_named_with_the_reason() -> None:
    names = run(
        "import math\nfrom json import dumps\ntable = {}\nclass Box: pass\nbox = Box()\n"
        "def work(x):\n    eval(x), len(x), math.sqrt(x), dumps(x), table, box, later(x)\n"
    )
    assert reasons(names["work"]) == {
        "eval": "dynamic", "len": "built-in", "math": "library", "dumps": "library", "table": "mutable data",
        "box": "data of class Box", "later": "not defined",
    }  # fmt: skip
    assert names_of(names["work"]) == ["work", "Box"]


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        ("n = n", True),
        ("n = n + n", True),
        ("n = 1\n    m = n", False),
        ("if text:\n        n = 1\n    m = n", True),
        ("for i in ():\n        n = 1\n    m = n", True),
        ("if text:\n        pass\n    n = 1\n    m = n", False),
    ],
)
def test_a_global_counts_that_the_body_of_a_class_reads_before_it_has_its_own(body: str, *, counts: bool) -> None:
    names = run(f"n = 5\ntext = ''\nclass Box:\n    {body}\n    def open(self): ...\ndef work():\n    return Box()\n")
    assert ("n" in names_of(names["work"])) is counts


FIELDS = """
from dataclasses import dataclass
from typing import Annotated, Literal
import msgspec
Kind = Literal["a", "b"]
Size = Annotated[int, msgspec.Meta(ge=0)]
class Item(msgspec.Struct):
    n: int
    def doubled(self): return self.n * 2
class Other: pass
{header}
    item: Item | None
    kind: Kind
    sizes: list[Size]
    def open(self): ...
Items = list[Item]
def work(x):
    return msgspec.convert(x, Row)
def listed(x):
    return msgspec.convert(x, Items)
"""


@pytest.mark.parametrize("header", ["class Row(msgspec.Struct):", "@dataclass\nclass Row:"])
@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("self.n * 2", "self.n * 3", {"work", "listed"}),
        ('"b"]', '"c"]', {"work"}),
        ("ge=0", "ge=1", {"work"}),
        ("list[Item]", "list[Item | int]", {"listed"}),
        ("class Other: pass", "class Other: n = 1", set()),
    ],
)
def test_what_the_fields_of_a_class_are_annotated_with_counts(
    header: str, old: str, new: str, changes: set[str]
) -> None:
    source = FIELDS.format(header=header)
    before, after = run(source), run(source.replace(old, new))
    assert {name for name in ("work", "listed") if track(before[name]).digest != track(after[name]).digest} == changes


def test_an_alias_is_looked_at_again_when_it_is_bound_anew() -> None:
    names = run("from typing import Literal\nKind = Literal['a']\ndef work(x):\n    return Kind\n")
    tracker = Tracker(names["work"])
    before = tracker.current().digest
    run_cell("Kind = Literal['b']", names)
    assert tracker.current().digest != before


def test_a_container_of_a_class_of_the_users_is_data_as_any_other() -> None:
    names = run("class Log(list):\n    def append(self, x): ...\nlog = []\ndef work(x):\n    log.append(x)\n")
    before = track(names["work"]).digest
    names["log"] = names["Log"]()
    assert track(names["work"]).digest == before


def test_a_name_that_is_not_defined_becomes_a_part_when_it_is() -> None:
    names = run("def work(x):\n    return later(x)\n")
    before = track(names["work"])
    exec("def later(x):\n    return x\n", names)
    assert before.digest == before.own
    assert track(names["work"]).digest != before.digest
    assert names_of(names["work"]) == ["work", "later"]


def test_a_global_that_the_step_itself_assigns_is_what_it_does_and_not_what_it_is() -> None:
    names = run("n = 0\ndef work():\n    global n\n    n += 1\n    return n\n")
    before = track(names["work"]).digest
    names["work"]()
    assert track(names["work"]).digest == before
    assert reasons(names["work"]) == {"n": "assigned by the code itself"}


def test_a_global_that_is_declared_and_only_read_counts() -> None:
    names = run("n = 0\ndef work():\n    global n\n    return n\n")
    assert names_of(names["work"]) == ["work", "n"]


@pytest.mark.parametrize("body", ["n = 1\n    return n", "return [n for n in x]", "return lambda n: n", "import n"])
def test_a_name_of_its_own_is_no_global(body: str) -> None:
    names = run(f"n = 5\ndef work(x):\n    {body}\n")
    assert names_of(names["work"]) == ["work"]


def test_a_name_in_an_annotation_does_not_count() -> None:
    names = run("class Box:\n    pass\ndef work(x: Box) -> Box:\n    y: Box\n    def inner(z: Box) -> Box: ...\n")
    assert names_of(names["work"]) == ["work"]


def test_data_that_the_step_closes_over_is_an_argument_and_what_a_helper_closes_over_is_code() -> None:
    source = """
def make(n, help):
    def work(x):
        return help(x) + n
    return work
work = make({}, make(2, abs))
"""
    assert names_of(run(source)["work"]) == ["make.work", "make.work", "n"]


def test_functions_that_refer_to_each_other_have_one_digest_whichever_is_defined_first() -> None:
    even, odd = "def even(n):\n    return odd(n)\n", "def odd(n):\n    return even(n)\n"
    work = "def work(n):\n    return even(n), odd(n)\n"
    assert track(run(even + odd + work)["work"]).digest == track(run(work + odd + even)["work"]).digest


def test_two_helpers_that_change_places_are_another_code() -> None:
    source = "def one(x):\n    return x\ndef two(x):\n    return -x\ndef work(a):\n    return left(a), right(a)\n"
    here = track(run(source + "left, right = one, two\n")["work"])
    there = track(run(source + "left, right = two, one\n")["work"])
    assert here.digest != there.digest


def test_a_wrapper_that_hides_what_it_wraps_is_followed_into_its_closure() -> None:
    source = """
def hidden(function):
    return lambda *args: function(*args)
@hidden
def help(x):
    return x
def work(x):
    return help(x)
"""
    before = track(run(source)["work"])
    assert {part.name for part in before.parts} == {"work", "hidden", "hidden.<lambda>", "help"}
    assert track(run(source.replace("return x\n", "return -x\n"))["work"]).digest != before.digest


def test_a_function_that_was_put_into_a_class_later_counts() -> None:
    source = "class Box:\n    def open(self): ...\ndef other(self):\n    return 1\ndef work():\n    return Box()\n"
    names = run(source)
    before = track(names["work"]).digest
    names["Box"].open = names["other"]
    assert track(names["work"]).digest != before
    assert names_of(names["work"]) == ["work", "Box", "other"]


def test_a_function_without_source_is_known_by_its_bytecode() -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec("def help(x):\n    return x + 1\ndef work(x):\n    return help(x)\n", names)
    before = track(names["work"])
    assert "no source" in {each.name: each.words for each in before.untracked}["help"]
    exec("def help(x):\n    return x + 2\n", names)
    assert track(names["work"]).digest != before.digest


def test_a_class_without_source_is_known_by_what_it_has() -> None:
    source = "class Box:\n    size = 1\n    def open(self):\n        return 1\n"
    digests = set()
    for text in (source, source.replace("size = 1", "size = 2"), source.replace("return 1", "return 2"), source):
        names = run("def work():\n    return Box()\n")
        exec(text, names)
        digests.add(track(names["work"]).digest)
    assert len(digests) == 3


def test_what_can_only_be_called_is_known_by_its_name() -> None:
    assert reasons(len) == {"builtins.len": "no Python code: known by its name"}
    assert track(len).digest == track(len).own != track(print).digest


def test_a_class_of_a_cell_without_methods_is_found_in_the_last_cell_that_fits() -> None:
    names = run("class Box:\n    size = 1\n")
    run("class Box:\n    other = 1\n")
    exec("def work():\n    return Box()\n", names)
    assert track(names["work"]).parts[1].source == "class Box:\n    size = 1\n"


def test_a_module_as_a_whole_is_not_followed_but_what_is_taken_of_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("own_tools")
    source = "LIMIT = 3\ndef help(x):\n    return x\n"
    linecache.cache["<own_tools>"] = (len(source), None, source.splitlines(keepends=True), "<own_tools>")
    exec(compile(source, "<own_tools>", "exec"), vars(module))
    monkeypatch.setitem(__import__("sys").modules, "own_tools", module)
    names = run(
        "import own_tools\n"
        "def work(x):\n    return own_tools.help(x), own_tools.LIMIT\n"
        "def local(x):\n    from own_tools import help as h\n    import own_tools as t\n    return h(x), t.LIMIT\n"
        "def whole():\n    return vars(own_tools)\n"
    )
    assert names_of(names["work"]) == ["work", "own_tools.help", "own_tools.LIMIT"]
    assert names_of(names["local"]) == ["local", "own_tools.help", "own_tools.LIMIT"]
    assert reasons(names["whole"]) == {"vars": "dynamic", "own_tools": "a module as a whole"}


def test_what_is_declared_counts(tmp_path: Path) -> None:
    names = run("def help(x):\n    return x\nclass Box: ...\ndef work(x):\n    return x\n")
    path = tmp_path / "prompt.txt"
    digests = {track(names["work"]).digest}
    for item in (names["help"], names["Box"], "v1", "v2", {"n": 1}, path, types):
        digests.add(track(names["work"], [item]).digest)
    for content in (b"", b"one", b"two"):
        path.write_bytes(content)
        digests.add(track(names["work"], [path]).digest)
    assert len(digests) == 11
    assert track(names["work"], ["v1", path]).digest == track(names["work"], [path, "v1"]).digest
    assert [part.kind for part in track(names["work"], [names["help"], "v1"]).parts] == [
        "function",
        "function",
        "declared",
    ]
