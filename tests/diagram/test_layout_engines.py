"""The layout engines: the best that works, once for each topology, and no word on stderr."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from msgspec.structs import replace

from ironflow_nb.diagram import layout as layouts
from ironflow_nb.diagram.geometry import Layout, Link, Placement, Size, Skeleton
from ironflow_nb.diagram.layered_layout import layered
from ironflow_nb.diagram.layout import MAX_BOXES, by_program, by_pygraphviz, lay_out
from ironflow_nb.diagram.model import Diagram, Edge, NodeKind
from tests.diagram.drawn import chain, diagrams, fan, laid_out, looped, node, overlap

PYGRAPHVIZ = (("pygraphviz", by_pygraphviz),)
PROGRAM = (("dot", by_program),)
LAYERED = (("layered", layered),)

# A stand-in for the program, for machines without it: the same Graphviz, spoken to as a program is.
DOT = """#!{python}
import sys
from pygraphviz import AGraph
assert [option for option in sys.argv[1:] if option != "-Kdot"] == ["-Tjson0"], sys.argv
sys.stdout.buffer.write(AGraph(string=sys.stdin.read()).draw(format="json0", prog="dot"))
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let there be a program `dot`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    path = folder / "dot"
    path.write_text(DOT.format(python=sys.executable))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return path


def refuse(skeleton: Skeleton) -> Placement:
    raise RuntimeError("no")


@pytest.fixture(params=["pygraphviz", "dot", "layered"])
def engine(request: pytest.FixtureRequest, program: Path) -> tuple[tuple[str, layouts.Engine], ...]:
    return {"pygraphviz": PYGRAPHVIZ, "dot": PROGRAM, "layered": LAYERED}[request.param]


def assert_right(diagram: Diagram, layout: Layout) -> None:
    assert set(layout.boxes) == {node.id for node in diagram.nodes}
    assert len(layout.routes) == len(diagram.edges)
    assert not [pair for pair in combinations(layout.boxes.values(), 2) if overlap(*pair)]
    for box in layout.boxes.values():
        assert min(box.left, box.top) >= -0.1
        assert box.right <= layout.size.width + 0.1
        assert box.bottom <= layout.size.height + 0.1


@pytest.mark.parametrize("diagram", [looped(), chain(5), fan(30), Diagram("d")], ids=lambda d: d.name)
def test_every_engine_lays_out_the_whole_diagram(
    diagram: Diagram, engine: tuple[tuple[str, layouts.Engine], ...]
) -> None:
    layout = laid_out(diagram, engines=engine)
    assert layout.engine_name == engine[0][0]
    assert_right(diagram, layout)


def test_every_engine_leads_edges_from_their_source_down_to_their_target(
    engine: tuple[tuple[str, layouts.Engine], ...],
) -> None:
    diagram = looped()
    layout = laid_out(diagram, engines=engine)
    for edge, route in zip(diagram.edges, layout.routes, strict=True):
        source, target = layout.boxes[edge.source], layout.boxes[edge.target]
        (start_x, start_y), (end_x, end_y) = route.points[0], route.points[-1]
        assert source.left - 1 <= start_x <= source.right + 1
        assert source.top - 1 <= start_y <= source.bottom + 1
        assert target.left - 1 <= end_x <= target.right + 1
        assert target.top - 1 <= end_y <= target.bottom + 1
        assert (source.y < target.y) is not edge.is_back
        assert (route.label is None) is (edge.label is None)


def test_every_engine_holds_what_follows_a_loop_below_it(engine: tuple[tuple[str, layouts.Engine], ...]) -> None:
    boxes = laid_out(looped(), engines=engine).boxes
    assert boxes["after"].top > boxes["join"].bottom


def test_every_engine_puts_yes_at_the_left_of_no(engine: tuple[tuple[str, layouts.Engine], ...]) -> None:
    boxes = laid_out(looped(), engines=engine).boxes
    assert boxes["left"].x < boxes["right"].x


@settings(max_examples=40)
@given(diagrams(max_nodes=8))
def test_any_diagram_is_laid_out_by_the_engines(diagram: Diagram) -> None:
    layout = laid_out(diagram)
    assert len(layout.routes) == len(diagram.edges)
    assert not [pair for pair in combinations(layout.boxes.values(), 2) if overlap(*pair)]


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(diagrams(max_nodes=8))
def test_any_diagram_is_laid_out_by_every_engine(
    engine: tuple[tuple[str, layouts.Engine], ...], diagram: Diagram
) -> None:
    layout = laid_out(diagram, engines=engine)
    assert layout.engine_name == engine[0][0]
    assert_right(diagram, layout)


def test_an_engine_that_fails_gives_way_to_the_next() -> None:
    assert laid_out(chain(2), engines=(("pygraphviz", refuse), *LAYERED)).engine_name == "layered"


def test_without_any_engine_our_own_layout_is_used() -> None:
    assert laid_out(chain(2), engines=(("pygraphviz", refuse), ("dot", refuse))).engine_name == "layered"


def test_without_pygraphviz_the_program_is_used(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    layouts._placed.cache_clear()
    assert laid_out(chain(3), engines=layouts.OF_TANGLES).engine_name == "dot"


def test_without_any_graphviz_our_own_layout_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    monkeypatch.setenv("PATH", "")
    layouts._placed.cache_clear()
    assert laid_out(chain(3), engines=layouts.OF_TANGLES).engine_name == "layered"


def test_a_program_that_says_nonsense_gives_way(program: Path) -> None:
    program.write_text(f"#!{sys.executable}\nprint('{{')\n")
    assert laid_out(chain(3), engines=(*PROGRAM, *LAYERED)).engine_name == "layered"


def test_graphviz_is_not_given_what_it_would_take_minutes_for() -> None:
    assert laid_out(chain(MAX_BOXES), engines=(*PYGRAPHVIZ, *PROGRAM, *LAYERED)).engine_name == "layered"


def test_recolouring_does_not_lay_out_again() -> None:
    asked: list[Skeleton] = []

    def engine(skeleton: Skeleton) -> Placement:
        asked.append(skeleton)
        return layered(skeleton)

    engines = (("counting", engine),)
    diagram = looped()
    renamed = Diagram("other", tuple(replace(node, title="another") for node in diagram.nodes), diagram.edges)
    assert laid_out(diagram, engines=engines) == laid_out(renamed, engines=engines)
    assert len(asked) == 1
    laid_out(chain(1), engines=engines)
    assert len(asked) == 2


def test_the_layout_does_not_depend_on_the_words_but_on_their_sizes(
    engine: tuple[tuple[str, layouts.Engine], ...],
) -> None:
    diagram = chain(2)
    sizes = {node.id: Size(100, 40) for node in diagram.nodes}
    renamed = Diagram("d", tuple(replace(node, label='"<b>\\N') for node in diagram.nodes), diagram.edges)
    assert lay_out(diagram, sizes, engines=engine) == lay_out(renamed, sizes, engines=engine)


def test_an_edge_to_nowhere_has_no_way() -> None:
    diagram = Diagram("d", (node("a"),), (Edge(source="a", target="b"), Edge(source="a", target="a")))
    nowhere, loop = laid_out(diagram).routes
    assert nowhere.points == ()
    assert loop.points


def test_a_node_without_a_size_is_laid_out_all_the_same() -> None:
    assert set(lay_out(chain(2), {}).boxes) == {"start", "s0", "s1", "end"}


def test_an_end_that_is_never_reached_stands_at_the_bottom(engine: tuple[tuple[str, layouts.Engine], ...]) -> None:
    diagram = chain(3)
    endless = Diagram("endless", diagram.nodes, diagram.edges[:-1])
    boxes = laid_out(endless, engines=engine).boxes
    assert boxes["end"].top > boxes["s2"].bottom


SILENT = """
import sys
from ironflow_nb.diagram.layout import by_program, by_pygraphviz
from ironflow_nb.diagram.geometry import Link, Size, Skeleton
size, label = Size(120, 40), Size(30, 14)
links = (Link(0, 1, label), Link(1, 2), Link(2, 0, label, True), Link(1, 1, label), Link(0, 2, is_hidden=True))
for engine in (by_pygraphviz, by_program):
    engine(Skeleton((size,) * 3, links))
print("drawn")
"""


def test_the_first_layout_in_a_process_says_nothing_on_file_descriptor_2(program: Path) -> None:
    """The fontconfig in the wheels prints a warning when the first font is needed; none ever is."""
    done = subprocess.run([sys.executable, "-c", SILENT], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("drawn\n", "")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(diagrams(max_nodes=10))
def test_graphviz_in_the_process_says_nothing_whatever_it_lays_out(
    capfd: pytest.CaptureFixture[str], diagram: Diagram
) -> None:
    assert laid_out(diagram, engines=PYGRAPHVIZ).engine_name == "pygraphviz"
    assert capfd.readouterr() == ("", "")


def test_many_links_between_few_boxes_say_nothing_either(capfd: pytest.CaptureFixture[str]) -> None:
    links = tuple(Link(i, j, Size(100, 14), is_back=(i + j) % 3 == 0) for i in range(7) for j in range(7))
    by_pygraphviz(Skeleton((Size(200, 60),) * 7, links))
    assert capfd.readouterr() == ("", "")


def test_an_end_without_kind_of_node_has_a_size() -> None:
    nodes = tuple(node(str(kind), kind) for kind in NodeKind)
    assert len(laid_out(Diagram("kinds", nodes)).boxes) == len(NodeKind)


def test_flows_are_laid_out_by_our_own_engine_and_tangles_by_graphviz() -> None:
    assert laid_out(looped()).engine_name == "layered"
    names = "abcdef"
    nodes = tuple(node(name) for name in names)
    edges = tuple(Edge(source=one, target=two) for one in names for two in names if one != two)
    assert laid_out(Diagram("tangle", nodes, edges)).engine_name == "pygraphviz"
