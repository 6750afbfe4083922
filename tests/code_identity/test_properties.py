"""Edits of programs that nobody thought of: what does not count never changes anything, and what counts always does."""

from __future__ import annotations

import ast
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.code_identity.notebook import NOTEBOOK, changed, codes, run
from tests.code_identity.tracked import track

pytestmark = pytest.mark.slow

NAMES = ["A", "B", "C", "D"]
COUNT = itertools.count()
LINES = NOTEBOOK.splitlines(keepends=True)

values = st.one_of(
    st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5), st.booleans(), st.none(),
    st.tuples(st.integers(), st.text(max_size=3)), st.frozensets(st.text(max_size=3), max_size=3),
)  # fmt: skip


def is_a_place(number: int) -> bool:
    """Tell whether a comment or a blank line may stand before that line."""
    return not LINES[number - 1].startswith(("@", '    """'))


places = st.sets(st.sampled_from([number for number in range(1, len(LINES)) if is_a_place(number)]), max_size=10)


@given(places, st.sampled_from(["\n", "# a comment\n", "    # another\n", "\n\n\n"]))
def test_comments_and_blank_lines_never_count(numbers: set[int], text: str) -> None:
    edited = [text * (number in numbers) + line for number, line in enumerate(LINES)]
    assert changed(codes(run(NOTEBOOK)), codes(run("".join(edited)))) == set()


def test_neither_does_how_the_whole_notebook_is_laid_out() -> None:
    assert changed(codes(run(NOTEBOOK)), codes(run(ast.unparse(ast.parse(NOTEBOOK))))) == set()


@given(st.dictionaries(st.sampled_from(NAMES), values), st.data())
def test_a_value_changes_exactly_the_steps_that_use_it(found: dict[str, object], data: st.DataObject) -> None:
    uses = {f"step_{n}": data.draw(st.sets(st.sampled_from(NAMES))) for n in range(3)}
    names = run(program(uses))
    names.update(dict.fromkeys(NAMES, 0))
    before = codes(names)
    names.update(found)
    after = codes(names)
    others = {name for name, value in found.items() if type(value) is not int or value != 0}
    assert changed(before, after) == {name[5:] for name, used in uses.items() if used & others}
    names.update(dict.fromkeys(NAMES, 0))
    assert codes(names) == before


@given(st.data())
def test_an_edited_function_changes_exactly_what_leads_to_it(data: st.DataObject) -> None:
    functions = [f"step_{n}" for n in range(6)]
    uses = {name: data.draw(st.sets(st.sampled_from(functions), max_size=3)) for name in functions}
    edited = data.draw(st.sampled_from(functions))
    source = program(uses)
    order = data.draw(st.permutations(source.split("\n\n")))
    other = "\n\n".join(order).replace(f"def {edited}():", f"def {edited}():\n    'edited'\n    'again'")
    assert changed(codes(run(source)), codes(run(other))) == {
        name[5:] for name in functions if leads(uses, name, edited)
    }


def leads(uses: dict[str, set[str]], start: str, end: str) -> bool:
    met, open_ = {start}, [start]
    while open_:
        for following in uses[open_.pop()] - met:
            met.add(following)
            open_.append(following)
    return end in met


def program(uses: dict[str, set[str]]) -> str:
    return "\n\n".join(f"def {name}():\n    return [{', '.join(sorted(used))}]" for name, used in uses.items())


@given(
    st.lists(st.sampled_from(["x + 1", "x * 2", "x", "(x, x)", "lambda y: x + y", "[x for x in x]", "1"]), min_size=1)
)
def test_of_many_lambdas_in_a_line_each_is_known_as_itself(bodies: list[str]) -> None:
    names = run(f"made = [{', '.join(f'lambda x: {body}' for body in bodies)}]")
    assert [track(made).parts[0].source for made in names["made"]] == [f"lambda x: {body}" for body in bodies]
