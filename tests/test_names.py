"""Names: one thing has one name, one name is one thing, and a module is called by the noun that it holds."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.test_architecture import INNER, dotted, found, inside, nodes, tree

# An error is named for the event that it reports.
ERRORS_AND_EVENTS = {"RunInterrupted", "RunFailed", "RunCancelled", "StepFailed"}
# The same for flows and for async flows, for runs and for words at the cursor, for runs and for instances.
TWO_FORMS = {
    "gather",
    "as_completed",
    "sleep",
    "sleep_until",
    "approve",
    "ask",
    "wait_for",
    "pause_async",
    "complete",
    "fold",
}
# Nouns of the field, though they end like an activity.
NOUNS = {"listing", "templating"}
# Words that stood here for something which the field calls by another name.
METAPHORS = {
    "Recall", "Memo", "Ledger", "Home", "Workshop", "Filler", "Charted", "Face", "Piece", "Settled", "Job", "Left",
    "Kept", "Looked", "Asked", "Resident", "Past", "Draft", "Order", "Orders", "Worker", "Launchable", "Replans",
    "Fact", "Entry", "Sketch", "Tail", "Drawn", "Stage", "Troubles", "Varying", "Delayed",
}  # fmt: skip

# The rooms of the engine, each above those that it may import.
ENGINE_FLOORS = {
    "definitions": 0, "system": 0, "recording": 1, "session": 2, "steps": 3, "background": 4, "engine": 5,
    "registry": 6, "api": 7, "durable_calls": 4, "deterministic": 7, "measurement": 4, "runs": 8,
}  # fmt: skip


def classes(path: Path) -> list[str]:
    return [node.name for node in nodes(path) if isinstance(node, ast.ClassDef)]


def repeated(pairs: Iterable[tuple[str, Path]]) -> dict[str, list[str]]:
    places: dict[str, list[str]] = defaultdict(list)
    for name, path in pairs:
        places[name].append(dotted(path))
    return {name: found for name, found in places.items() if len(found) > 1}


def test_a_class_name_occurs_once() -> None:
    assert repeated((name, path) for path in INNER for name in classes(path)).keys() <= ERRORS_AND_EVENTS


def test_a_module_name_occurs_once_outside_of_the_kinds_of_nodes() -> None:
    assert not repeated((path.stem, path) for path in INNER if path.stem != "__init__" and path.parent.name != "nodes")


def test_a_function_of_a_module_has_a_name_of_its_own() -> None:
    named = {
        (node.name, path)
        for path in INNER
        if path.parent.name != "nodes"
        for node in tree(path).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_")
    }
    assert repeated(named).keys() <= TWO_FORMS


def test_no_module_is_named_by_an_activity() -> None:
    assert {path.stem for path in INNER if path.stem.endswith("ing")} <= NOUNS


def test_no_class_is_named_by_a_metaphor() -> None:
    assert not {name.lstrip("_") for path in INNER for name in classes(path)} & METAPHORS


def test_a_room_of_the_engine_imports_only_the_rooms_below_it() -> None:
    def beside_or_above(path: Path) -> Iterator[str]:
        mine = dotted(path).split(".")[1]
        for other in inside(path):
            if other.startswith("execution."):
                theirs = other.split(".")[1]
                if theirs != mine and ENGINE_FLOORS[theirs] >= ENGINE_FLOORS[mine]:
                    yield other

    assert found(beside_or_above, [path for path in INNER if dotted(path).startswith("execution.")]) == {}
