"""Which names a cell reads before it assigns them, and which it leaves behind."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironflow_nb.durable_cells.cell import Cell
from ironflow_nb.durable_cells.name_analysis import analyse_names
from ironflow_nb.durable_cells.run_cell import is_setup

MAGIC = "get_ipython().run_line_magic"


@pytest.mark.parametrize(
    ("source", "reads", "assigns"),
    [
        ("a = b", "b", "a"),
        ("a = 1\nb = a", "", "a b"),
        ("df = df.dropna()", "df", "df"),
        ("n += 1", "n", "n"),
        ("a[i].b = c", "a i c", ""),
        ("(a, *b), c.d = e", "c e", "a b"),
        ("a = [x for x in xs if x > low]", "xs low", "a"),
        ("if c:\n    a = 1\nb = a", "c a", "a b"),
        ("if c:\n    a = 1\nelse:\n    a = 2\nb = a", "c", "a b"),
        ("for i in xs:\n    a = i\nb = a", "xs a", "i a b"),
        ("while True:\n    a = 1\n    break\nb = a", "", "a b"),
        ("while True:\n    if c:\n        break\n    a = 1\nb = a", "c a", "a b"),
        ("while True:\n    a = 1\n    if c:\n        break\n    d = 1\nb = a, d", "c d", "a d b"),
        (
            "while True:\n    for i in xs:\n        break\n    else:\n        break\n    a = 1\n    break\nb = a",
            "xs a",
            "i a b",
        ),
        ("while c:\n    pass\nelse:\n    a = b", "c b", "a"),
        ("c and (a := 1)\nb = a", "c a", "a b"),
        ("(a := c) and d\nb = a", "c d", "a b"),
        ("d = (a := 1) if c else 2\nb = a", "c a", "a d b"),
        ("d = 1 < c < (a := 3)\nb = a", "c a", "a d b"),
        ("d = [a := i for i in c]\nb = a", "c a i", "a d b"),
        ("try:\n    a = f\nexcept ValueError as error:\n    raise\nb = a", "f", "a error b"),
        ("try:\n    import a\nexcept ImportError:\n    a = None\nb = a", "", "a b"),
        ("with o as a:\n    b = a", "o", "a b"),
        ("with suppress(E):\n    a = f()\nb = a", "E f suppress a", "a b"),
        ("with contextlib.suppress(E), o as a:\n    c = 1\nb = a, c", "E contextlib o a c", "a c b"),
        ("match v:\n    case [a, *b]:\n        c = a\n    case _:\n        c = 1\nd = c", "v c", "a b c d"),
        ("(a := b + a)", "b a", "a"),
        ("a: int = b", "b", "a"),
        ("del a", "", ""),
        ("a = b\ndel a", "b", "a"),
        ("_a = b", "b", ""),
        ("import os\na = os.name", "", "a"),
        ("from m import x as y\na = y", "", "a"),
        ("def f(x, y=d):\n    return x + k\n", "d", ""),
        ("def f(x):\n    return x + k\na = f(1)", "k", "a"),
        ("def f(x):\n    return x + k\nk = 1\na = f(1)", "", "k a"),
        ("def f():\n    return k\nif c:\n    k = 1\n    a = f()\nelse:\n    a = f()", "c k", "k a"),
        ("k = 1\ndef f():\n    return k\na = f()\ndel k\nb = f()", "k", "k a b"),
        ("if c:\n    def f():\n        return k\nelse:\n    def f():\n        return z\na = f()", "c k z", "f a"),
        ("@g\ndef f():\n    return k\nk = 1", "g k", "k"),
        ("class A(B):\n    c = k\n    def m(self):\n        return z", "B k z", ""),
        ("class A:\n    k = k", "k", ""),
        ("@f\ndef f():\n    pass", "f", ""),
        ("f = lambda x, y=d: x + k\na = f(1)", "d k", "a"),
        ("a = await b(c)", "b c", "a"),
        ("async with b as a:\n    pass", "b", "a"),
        ("async for a in b:\n    pass", "b", "a"),
        (f"{MAGIC}('time', 'a = f(b)')\nc = a", "f b", "a c"),
        (f"{MAGIC}('cd', 'some place')", "some place", ""),
        ("a = get_ipython().getoutput('ls {b} $c')", "ls b c", "a"),
        ("exec('a = b')", "b", "a"),
    ],
)
def test_names_of_a_cell(source: str, reads: str, assigns: str) -> None:
    found = analyse_names(ast.parse(source))
    known = {*dir(builtins), "get_ipython", "__name__", "cd"}
    assert sorted(set(found.reads) - known) == sorted(reads.split())
    assert list(found.assigns) == assigns.split()


def test_what_a_magic_may_assign_is_in_the_dark() -> None:
    assert analyse_names(ast.parse(f"{MAGIC}('run', 'other.py')")).hides_assignments
    assert not analyse_names(ast.parse("a = get_ipython().getoutput('ls')")).hides_assignments


@pytest.mark.parametrize(
    "source",
    [
        "sys.path.append('x')", "pd.set_option('a', 1)", "np.random.seed(0)", "plt.rcParams['a'] = 1",
        "os.environ['A'] = '1'", f"{MAGIC}('load_ext', 'ironflow_nb')", "plt.style.use('dark')", "os.chdir('x')",
    ],
)  # fmt: skip
def test_settings_are_known(source: str) -> None:
    assert is_setup(ast.parse(source).body[0])


@pytest.mark.parametrize("source", ["rows.append(1)", "send(mail)", "a = 1", "d['a'] = 1", f"{MAGIC}('run', 'x')"])
def test_what_does_something_is_no_setting(source: str) -> None:
    assert not is_setup(ast.parse(source).body[0])


NAMES = st.sampled_from("abcd")
SIMPLE = st.one_of(
    st.builds("{} = {}".format, NAMES, NAMES),
    st.builds("{} = 1".format, NAMES),
    st.builds("{} += {}".format, NAMES, NAMES),
    st.builds("{} = [{} for {} in [{}]]".format, NAMES, NAMES, NAMES, NAMES),
)


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    body = st.lists(inner, min_size=1, max_size=2).map(lambda lines: "\n".join(lines).replace("\n", "\n    "))
    return st.one_of(
        st.builds("if {}:\n    {}".format, NAMES, body),
        st.builds("if {}:\n    {}\nelse:\n    {}".format, NAMES, body, body),
        st.builds("for {} in [1, {}]:\n    {}".format, NAMES, NAMES, body),
        st.builds("def f():\n    return {}\n{}\n{} = f()".format, NAMES, inner, NAMES),
    )


class _Watched(dict[str, object]):
    """A namespace that knows which names were there and looked up before they were assigned."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys("abcd", 0))
        self.read: set[str] = set()
        self.assigned: set[str] = set()

    def __getitem__(self, name: str) -> object:
        if name in set("abcd") - self.assigned:
            self.read.add(name)
        return super().__getitem__(name)

    def __setitem__(self, name: str, value: object) -> None:
        self.assigned.add(name)
        super().__setitem__(name, value)


@given(st.lists(st.recursive(SIMPLE, _nested, max_leaves=4), min_size=1, max_size=5).map("\n".join))
def test_whatever_is_read_before_it_is_assigned_is_found(source: str) -> None:
    tree = ast.parse(source)
    found = analyse_names(tree)
    watched = _Watched()
    flat = compile(tree, "<cell>", "exec")
    with suppress(NameError, TypeError):
        exec(flat, {}, watched)  # functions look into the globals, which are empty: their reads are not watched
    assert watched.read <= set(found.reads)
    assert {name for name in watched.assigned if name in "abcd"} <= set(found.assigns)


def test_the_function_that_is_tracked_has_the_inputs_as_parameters() -> None:
    namespace: Mapping[str, object] = {"__name__": "__main__", "a": 1, "f": len}
    cell = Cell("load", "", "from m import *\nglobal g\ntext = '''x\n  y'''\nb = f(a)")
    spec = cell.spec(cell.names_in(namespace), dict(namespace))
    assert str(spec.parameters) == "(a)"
    assert [part.name for part in spec.tracked.parts] == ["cell"]
    assert spec.code == cell.spec(["a"], dict(namespace)).code
