"""The house: floors, circles, seams and sizes, read from the imports of every module."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.metadata import EntryPoint
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ironflow_nb"
NAME = PACKAGE.name

FLOORS = {
    "errors": 0, "core": 0, "_version": 0,
    "values": 1, "value_store": 1, "journal": 1, "dynamodb": 1, "code_identity": 1, "telemetry": 1, "compute": 1,
    "execution": 2, "history": 2, "diagram": 2, "diagnosis": 2, "views": 2,
    "access": 3, "triggers": 3, "retention": 3, "handles": 3,
    "flows": 4, "graphs": 4, "deciders": 4, "durable_cells": 4, "queues": 4, "remote": 4,
    "agents": 5, "aio": 5, "__main__": 5, "notebook": 5, "cli": 5, "server": 5, "testing": 5,
}  # fmt: skip
STYLES = {"flows", "graphs", "deciders", "durable_cells"}

SEAMS = {"execution.system.system", "testing.simulator", "testing.invariants"}
SEAMED = {"time", "random", "uuid", "secrets", "threading"}
IMPURE = SEAMED | {
    "asyncio", "concurrent", "contextvars", "io", "logging", "os", "pathlib", "queue", "shutil", "signal", "socket",
    "sqlite3", "subprocess", "sys", "tempfile", "pandas", "numpy", "IPython", "cloudpickle",
}  # fmt: skip
PURE = {"core"}
CODE_LIMIT = 500
FUNCTION_LIMIT = 50  # without its docstring
# What other rooms use of the engine.
N_OFFERED = 115
ENGINE_LINES = 15_966
# Counted apart: the engine asks it for one digest. What it costs is how many ways Python has to refer to code.
TRACKING_LINES = 1_870


@cache
def modules() -> tuple[Path, ...]:
    return tuple(sorted(PACKAGE.rglob("*.py")))


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree(path)))


@cache
def imported(path: Path) -> frozenset[str]:
    """Return every module that the file imports, wherever in it: in functions and for type checking too."""
    return frozenset(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def inside(path: Path) -> set[str]:
    """Return the modules of the package that the file imports."""
    names = {name.removeprefix(f"{NAME}.") for name in imported(path) if name.startswith(f"{NAME}.")}
    return (names & known()) - {dotted(path)}


@cache
def known() -> frozenset[str]:
    return frozenset(map(dotted, modules()))


def room(module: str) -> str:
    return module.partition(".")[0]


INNER = [path for path in modules() if path != PACKAGE / "__init__.py"]


def found(of: Callable[[Path], Iterable[object]], paths: Iterable[Path]) -> dict[str, list[str]]:
    """Return what a search finds in each module in which it finds something."""
    searched = {dotted(path): sorted(map(str, of(path))) for path in paths}
    return {module: hits for module, hits in searched.items() if hits}


def outside(*rooms: str) -> list[Path]:
    return [path for path in INNER if room(dotted(path)) not in rooms]


def test_a_module_imports_its_own_floor_or_lower() -> None:
    assert {room(dotted(path)) for path in INNER} <= FLOORS.keys()

    def above(path: Path) -> set[str]:
        return {other for other in inside(path) if FLOORS[room(other)] > FLOORS[room(dotted(path))]}

    assert found(above, INNER) == {}


def test_a_style_imports_no_other_style() -> None:
    def other_styles(path: Path) -> set[str]:
        return {other for other in inside(path) if room(other) in STYLES - {room(dotted(path))}}

    assert found(other_styles, [path for path in INNER if room(dotted(path)) in STYLES]) == {}


def test_only_the_test_kit_imports_the_test_kit() -> None:
    assert found(lambda path: {other for other in inside(path) if room(other) == "testing"}, outside("testing")) == {}


def test_nothing_inside_imports_the_root() -> None:
    assert found(lambda path: imported(path) & {NAME}, INNER) == {}


def offered() -> set[str]:
    """Return the names that the engine offers to other rooms."""
    stub = ast.parse((PACKAGE / "execution" / "__init__.pyi").read_text())
    return {alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}


DOOR = f"{NAME}.execution"


def test_other_rooms_import_of_the_engine_only_what_its_front_door_offers() -> None:
    at_the_door = {DOOR, *(f"{DOOR}.{name}" for name in offered())}

    def behind_the_door(path: Path) -> set[str]:
        return {name for name in imported(path) if name.startswith(f"{DOOR}.")} - at_the_door

    assert found(behind_the_door, outside("execution")) == {}


def test_the_front_door_offers_only_what_other_rooms_use() -> None:
    used = {name for path in outside("execution") for name in imported(path)}
    assert {f"{DOOR}.{name}" for name in offered()} <= used
    assert len(offered()) <= N_OFFERED


def test_a_style_knows_no_session() -> None:
    def sessions(path: Path) -> set[str]:
        of_session = (n for n in nodes(path) if isinstance(n, ast.Attribute) and n.attr in {"session", "_session"})
        reads = {ast.unparse(node) for node in of_session} - {"boto3.session"}
        return reads | (imported(path) & {f"{DOOR}.Session"})

    assert found(sessions, [path for path in INNER if room(dotted(path)) in STYLES]) == {}


def test_only_a_session_writes_its_attributes() -> None:
    def written(path: Path) -> set[str]:
        owners = {
            ast.unparse(target.value)
            for node in nodes(path)
            if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            for target in (target.elts if isinstance(target, ast.Tuple) else [target])
            if isinstance(target, ast.Attribute)
        }
        return {owner for owner in owners if owner.rpartition(".")[2] in {"session", "_session", "begun", "parent"}}

    assert found(written, INNER) == {}


def test_no_circle_of_modules() -> None:
    assert circle({dotted(path): inside(path) for path in modules()}) is None


def test_no_circle_of_rooms() -> None:
    rooms: dict[str, set[str]] = {}
    for path in INNER:
        mine = room(dotted(path))
        rooms.setdefault(mine, set()).update({room(other) for other in inside(path)} - {mine})
    assert circle(rooms) is None


def circle(graph: dict[str, set[str]]) -> list[str] | None:
    """Return a circle of the graph, or None."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str] | None:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        for following in sorted(graph.get(node, ())):
            found = visit(following, [*path, node])
            if found:
                return found
        done.add(node)
        return None

    return next((found for node in sorted(graph) if (found := visit(node, []))), None)


def test_the_search_for_circles_finds_one() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def imported_packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def test_only_the_seams_know_time_randomness_and_threads() -> None:
    others = [path for path in INNER if dotted(path) not in SEAMS]
    assert found(lambda path: imported_packages(path) & SEAMED, others) == {}


def test_the_core_is_pure() -> None:
    pure = [path for path in INNER if room(dotted(path)) in PURE]
    assert found(lambda path: imported_packages(path) & IMPURE, pure) == {}


def test_no_room_has_the_name_of_a_public_name() -> None:
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    public = {alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert None not in public
    assert public & {room(dotted(path)) for path in INNER} == {"aio", "errors"}


def test_every_entry_point_leads_to_what_it_names() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    for group, points in project["entry-points"].items():
        for name, value in points.items():
            assert EntryPoint(name, value, group).load() is not None


def test_the_root_stub_only_imports() -> None:
    lines = (PACKAGE / "__init__.pyi").read_text().splitlines()
    pattern = re.compile(r"from (\.[\w.]*) import (\w+) as (\w+)")
    parsed = [pattern.fullmatch(line) for line in lines]
    assert all(match is not None and match[2] == match[3] for match in parsed)


def test_no_file_has_too_many_lines() -> None:
    n_lines = {str(path): len(path.read_text().splitlines()) for path in [*modules(), *(ROOT / "tests").rglob("*.py")]}
    assert {path: n for path, n in n_lines.items() if n > CODE_LIMIT} == {}


def test_no_function_has_too_many_lines() -> None:
    def too_long(path: Path) -> Iterator[str]:
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                n_lines = span(node) - (span(node.body[0]) if ast.get_docstring(node) is not None else 0)
                if n_lines > FUNCTION_LIMIT:
                    yield f"{node.name} has {n_lines} lines"

    assert found(too_long, modules()) == {}


def span(node: ast.stmt) -> int:
    """Count the lines from the first to the last of a statement."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def test_a_text_alone_documents_what_stands_before_it() -> None:
    def stray(path: Path) -> Iterator[str]:
        for node in nodes(path):
            body = getattr(node, "body", None)
            for before, text in pairwise(body) if isinstance(body, list) else ():
                if is_text(text) and not isinstance(before, ast.Assign | ast.AnnAssign):
                    yield f"line {text.lineno}: a text that documents nothing"

    assert found(stray, modules()) == {}


def code_lines(path: Path) -> int:
    """Count the lines that are neither blank, comment nor docstring."""
    skipped: set[int] = set()
    for node in nodes(path):
        if isinstance(node, ast.Expr) and is_text(node):
            skipped |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(path.read_text().splitlines(), 1)
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") and n not in skipped for n, line in lines)


SERVER_LINES = 642
"""What a journal on a server adds to the engine."""


def test_the_engine_stays_within_its_lines() -> None:
    engine = [path for path in INNER if room(dotted(path)) in {"core", "values", "journal", "execution"}]
    assert sum(map(code_lines, engine)) <= ENGINE_LINES + SERVER_LINES


def test_the_identity_of_code_stays_a_room_that_can_be_read() -> None:
    tracking = [path for path in INNER if room(dotted(path)) == "code_identity"]
    assert sum(map(code_lines, tracking)) <= TRACKING_LINES


def test_names_of_modules_say_what_they_are() -> None:
    vague = {"utils", "util", "helpers", "common", "misc", "manager", "base"}
    assert not {path.stem for path in modules()} & vague
