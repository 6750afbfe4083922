"""Which statements of a notebook or script a worker executes."""

from __future__ import annotations

import ast

import pytest

from ironflow_nb.cli.defining_statements import defining_statements
from ironflow_nb.durable_cells.cell import Cell, CellOptions


def kept(*texts: str) -> list[str]:
    cells = [Cell(f"cell-{number}", text, text, CellOptions(), "", None) for number, text in enumerate(texts, 1)]
    return [ast.unparse(statement.node).partition("\n")[0] for statement in defining_statements(cells)]


FLOW = "@flow\ndef digest(urls):\n    return [fetch(url, client) for url in urls]"


@pytest.mark.parametrize(
    "text",
    [
        "import torch",
        "from ironflow_nb import flow",
        "class Order:\n    n: int",
        "def helper():\n    return 1",
        "sys.path.append('src')",
        "iron.use('journal.db')",
        "iron.on('run.failed')(tell)",
        "triage = iron.Graph.from_yaml(text)",
        "triage = iron.Graph('triage').node('first', log='hello')",
        "orders = iron.Decider[State, Command, Event, Effect]('orders', initial=None)",
        "short = flow(name='short')(helper)",
        "try:\n    import fast\nexcept ImportError:\n    fast = None",
        "get_ipython().run_cell_magic('graph', 'triage', 'nodes: []')",
    ],
)
def test_what_defines_something_is_kept(text: str) -> None:
    assert kept(text) == [text.partition("\n")[0].replace('"', "'")]


@pytest.mark.parametrize(
    "text",
    [
        "digest(urls)",
        "run = digest.start(urls)",
        "df = pd.read_csv('large.csv')",
        "df.head()",
        "print('hello')",
        "time.sleep(100)",
        "observation = env.step(action)",
        "get_ipython().system('rm -r data')",
        "get_ipython().run_cell_magic('bash', '', 'ls')",
        "if __name__ == '__main__':\n    import this\n    main()",
        "for url in urls:\n    digest([url])",
        "await digest(urls)",
    ],
)
def test_what_only_runs_something_is_left_out(text: str) -> None:
    assert kept(f"{FLOW}\n{text}") == ["@flow"]


def test_what_definitions_need_is_kept_and_what_that_needs() -> None:
    assert kept(
        "KEY = os.environ['KEY']\nunused = 3",
        "client = Client(KEY)\nclient.headers['x'] = KEY\nclient.login()\nother = Client(unused)\nother.login()",
        FLOW,
    ) == ["KEY = os.environ['KEY']", "client = Client(KEY)", "client.headers['x'] = KEY", "client.login()", "@flow"]


def test_a_helper_needs_its_names_only_if_it_is_needed_itself() -> None:
    plot = "def plot():\n    df.plot()"
    table = "df = pd.read_csv('large.csv')"
    assert kept(table, plot, FLOW) == ["def plot():", "@flow"]
    assert kept(table, plot, FLOW.replace("[fetch", "plot() or [fetch")) == [table, "def plot():", "@flow"]


def test_statements_that_change_a_variable_are_kept_in_their_order() -> None:
    changes = ["client = {}", "client['a'] = 1", "client |= more", "with open('x') as f:\n    client['b'] = f.read()"]
    assert kept(*changes, FLOW) == [*changes[:3], "with open('x') as f:", "@flow"]
