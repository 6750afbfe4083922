"""The house: floors, circles, seams and sizes, read from the imports of every module."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ironflow_nb"
NAME = PACKAGE.name

FLOORS = {
    "errors": 0, "core": 0, "_version": 0,
    "values": 1, "journal": 1, "code_identity": 1, "telemetry": 1,
    "execution": 2, "history": 2, "diagram": 2, "diagnosis": 2, "views": 2,
    "access": 3, "triggers": 3, "retention": 3, "handles": 3,
    "flows": 4, "graphs": 4, "deciders": 4, "durable_cells": 4, "remote": 4,
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
ENGINE_LINES = 16_014
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


def imported(path: Path) -> Iterator[str]:
    """Yield every module that the file imports, wherever in it: in functions and for type checking too."""
    for node in ast.walk(tree(path)):
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


@pytest.mark.parametrize("path", INNER, ids=dotted)
def test_a_module_imports_its_own_floor_or_lower(path: Path) -> None:
    mine = room(dotted(path))
    assert mine in FLOORS, f"{mine} has no floor"
    for other in inside(path):
        assert FLOORS[room(other)] <= FLOORS[mine], f"{dotted(path)} imports {other}, which is above it"
        assert not ({mine, room(other)} <= STYLES and mine != room(other)), f"{dotted(path)} imports another style"


@pytest.mark.parametrize("path", [path for path in INNER if room(dotted(path)) != "testing"], ids=dotted)
def test_only_the_test_kit_imports_the_test_kit(path: Path) -> None:
    assert not {other for other in inside(path) if room(other) == "testing"}


@pytest.mark.parametrize("path", INNER, ids=dotted)
def test_nothing_inside_imports_the_root(path: Path) -> None:
    assert NAME not in set(imported(path)) - {f"{NAME}.{room(dotted(path))}"}


def offered() -> set[str]:
    """Return the names that the engine offers to other rooms."""
    stub = ast.parse((PACKAGE / "execution" / "__init__.pyi").read_text())
    return {alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}


@pytest.mark.parametrize("path", [path for path in INNER if room(dotted(path)) != "execution"], ids=dotted)
def test_other_rooms_import_of_the_engine_only_what_its_front_door_offers(path: Path) -> None:
    door = f"{NAME}.execution"
    of_engine = {name for name in imported(path) if name == door or name.startswith(f"{door}.")}
    assert of_engine <= {door, *(f"{door}.{name}" for name in offered())}


def test_the_front_door_offers_only_what_other_rooms_use() -> None:
    door = f"{NAME}.execution"
    used = {name for path in INNER if room(dotted(path)) != "execution" for name in imported(path)}
    assert {f"{door}.{name}" for name in offered()} <= used
    assert len(offered()) <= N_OFFERED


@pytest.mark.parametrize("path", [path for path in INNER if room(dotted(path)) in STYLES], ids=dotted)
def test_a_style_knows_no_session(path: Path) -> None:
    assert f"{NAME}.execution.Session" not in imported(path)
    reads = {ast.unparse(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
    assert not {read for read in reads if read.endswith((".session", "._session"))} - {"boto3.session"}


@pytest.mark.parametrize("path", INNER, ids=dotted)
def test_only_a_session_writes_its_attributes(path: Path) -> None:
    written = {
        ast.unparse(target.value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        for target in (target.elts if isinstance(target, ast.Tuple) else [target])
        if isinstance(target, ast.Attribute)
    }
    assert not {owner for owner in written if owner.rpartition(".")[2] in {"session", "_session", "begun", "parent"}}


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


@pytest.mark.parametrize("path", INNER, ids=dotted)
def test_only_the_seams_know_time_randomness_and_threads(path: Path) -> None:
    if dotted(path) not in SEAMS:
        assert not {name.partition(".")[0] for name in imported(path)} & SEAMED


@pytest.mark.parametrize("path", [path for path in INNER if room(dotted(path)) in PURE], ids=dotted)
def test_the_core_is_pure(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imported(path)} & IMPURE


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


@pytest.mark.parametrize("path", [*modules(), *sorted((ROOT / "tests").rglob("*.py"))], ids=str)
def test_no_file_is_too_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= CODE_LIMIT


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_no_function_is_too_long(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            n_lines = span(node) - (span(node.body[0]) if ast.get_docstring(node) is not None else 0)
            assert n_lines <= FUNCTION_LIMIT, f"{dotted(path)}.{node.name} has {n_lines} lines"


def span(node: ast.stmt) -> int:
    """Count the lines from the first to the last of a statement."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_a_text_alone_documents_what_stands_before_it(path: Path) -> None:
    for node in ast.walk(tree(path)):
        body = getattr(node, "body", None)
        for before, text in pairwise(body) if isinstance(body, list) else ():
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                is_stray = isinstance(text.value.value, str) and not isinstance(before, ast.Assign | ast.AnnAssign)
                assert not is_stray, f"{dotted(path)}, line {text.lineno}: a text that documents nothing"


def code_lines(path: Path) -> int:
    """Count the lines that are neither blank, comment nor docstring."""
    skipped: set[int] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            skipped |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(path.read_text().splitlines(), 1)
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") and n not in skipped for n, line in lines)


SERVER_LINES = 642
"""What a journal on a server adds to the engine."""


def test_the_engine_stays_small() -> None:
    engine = [path for path in INNER if room(dotted(path)) in {"core", "values", "journal", "execution"}]
    assert sum(map(code_lines, engine)) <= ENGINE_LINES + SERVER_LINES


def test_the_identity_of_code_stays_a_room_that_can_be_read() -> None:
    tracking = [path for path in INNER if room(dotted(path)) == "code_identity"]
    assert sum(map(code_lines, tracking)) <= TRACKING_LINES


def test_names_of_modules_say_what_they_are() -> None:
    vague = {"utils", "util", "helpers", "common", "misc", "manager", "base"}
    assert not {path.stem for path in modules()} & vague
