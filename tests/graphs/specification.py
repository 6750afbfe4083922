"""What running a graph means, written down a second time: one node after the other, without threads or a journal.

Outputs of nodes are small numbers that depend on everything the node saw, so that equal results mean equal ways.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

Data = dict[str, Any]


class Broken(Exception):
    """What bodies of failing nodes raise."""


SKIPPED: Final = object()


class Failure(Exception):
    """A failed block or node: the type and message that a handler sees."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message


def number_of(name: str, values: Any) -> int:
    """Return a number that stands for a node with what it was given."""
    return zlib.crc32(json.dumps([name, values], sort_keys=True).encode())


def joined(name: str, failures: list[Failure]) -> Failure:
    if len(failures) == 1:
        return failures[0]
    return Failure("ExceptionGroup", f"{len(failures)} nodes of {name} failed ({len(failures)} sub-exceptions)")


class Specification:
    """Runs graphs of `python: play` nodes; `ran` are the names and numbers of the bodies that must run."""

    def __init__(self, graphs: Mapping[str, Data]) -> None:
        self.graphs = graphs
        self.ran: set[tuple[str, int]] = set()

    def run(self, name: str, given: Data) -> Any:
        graph = self.graphs[name]
        scope = {"input": given}
        outputs, failures = self.block(graph["nodes"], scope)
        if failures:
            raise joined(name, failures)
        return outputs.get(graph["nodes"][-1]["id"]) if graph["nodes"] else None

    def block(self, nodes: list[Data], scope: Data) -> tuple[Data, list[Failure]]:
        """Return the outputs of the nodes that ran, and the failures that nothing handled, in the order of the text."""
        scope = dict(scope)
        outputs: Data = {}
        failed: dict[str, Failure] = {}
        ended: set[str] = set()
        waits = {
            node["id"]: set(node["depends_on"] if "depends_on" in node else [above["id"]] if above else [])
            for above, node in zip([None, *nodes], nodes, strict=False)
        }
        while ready := [n for n in nodes if n["id"] not in ended | failed.keys() and waits[n["id"]] <= ended]:
            node = ready[0]
            try:
                found = self.handled(node, scope)
                scope[node["id"]] = None if found is SKIPPED else found
                if found is not SKIPPED:
                    outputs[node["id"]] = found
                ended.add(node["id"])
            except Failure as failure:
                failed[node["id"]] = failure
        return outputs, [failed[node["id"]] for node in nodes if node["id"] in failed]

    def handled(self, node: Data, scope: Data) -> Any:
        try:
            if "when" in node and not self.holds(node["when"], scope, f"{node['id']}, when"):
                return SKIPPED
            return self.node(node, scope)
        except Failure as failure:
            error = {"node": node["id"], "type": failure.kind, "message": failure.message, "output": None}
            match node.get("on_error"):
                case None:
                    raise
                case "continue":
                    return {"error": error}
                case handler:
                    outputs, failures = self.block(handler, {**scope, "error": error})
                    if failures:
                        raise joined(node["id"], failures) from None
                    return outputs.get(handler[-1]["id"])

    def node(self, node: Data, scope: Data) -> Any:
        match node:
            case {"python": "play", "with": {"name": name, "plan": plan, "values": values}}:
                number = number_of(name, [self.look(value, scope) for value in values])
                self.ran.add((name, number))
                if plan == "fail":
                    raise Failure("Broken", f"{name} {number}")
                return number
            case {"condition": test}:
                taken = "then" if self.holds(test, scope, node["id"]) else "else"
                return {"taken": taken, **self.inside(node, node.get(taken, []), scope)}
            case {"switch": value, "cases": cases}:
                found = self.look(value, scope)
                case_name = found if isinstance(found, str) else json.dumps(found)
                if case_name in cases:
                    return {"taken": case_name, **self.inside(node, cases[case_name], scope)}
                default = node.get("default", [])
                return {"taken": "default" if default else None, **self.inside(node, default, scope)}
            case {"branch": ways}:
                return self.branch(node, ways, scope)
            case {"loop": {"while": _, "max_rounds": n_rounds}}:
                return self.repeat(node, n_rounds, scope)
            case {"loop": items}:
                return self.loop(node, self.look(items, scope), scope)
            case {"workflow": name}:
                return self.run(name, {key: self.look(value, scope) for key, value in node["input"].items()})
        raise AssertionError(node)

    def inside(self, node: Data, nodes: list[Data], scope: Data) -> Data:
        outputs, failures = self.block(nodes, scope)
        if failures:
            raise joined(node["id"], failures)
        return outputs

    def branch(self, node: Data, ways: Data, scope: Data) -> Data:
        chosen = [
            name
            for name, way in ways.items()
            if "when" not in way or self.holds(way["when"], scope, f"{node['id']}, {name}")
        ]
        found = {name: self.block(ways[name]["do"], scope) for name in chosen}
        failures = [failure for _, failed in found.values() for failure in failed]
        if failures:
            raise joined(node["id"], failures)
        return {name: outputs for name, (outputs, _) in found.items()}

    def loop(self, node: Data, items: Any, scope: Data) -> list[Data]:
        if not isinstance(items, list):
            kind = f"a text of {len(items)} characters"
            raise Failure("ExpressionFailed", f"{node['id']}: loop goes over a list, not over {kind}")
        # Items side by side never fail here: which of them had begun by then would be chance.
        return [self.inside(node, node["do"], {**scope, "item": item, "index": n}) for n, item in enumerate(items)]

    def repeat(self, node: Data, n_rounds: int, scope: Data) -> list[Data]:
        results: list[Data] = []
        while len(results) < scope["input"]["n"]:
            if len(results) == n_rounds:
                text = f"{node['id']}: while is still true after {n_rounds} rounds"
                raise Failure("NodeFailed", text)
            now = {"index": len(results), "last": results[-1] if results else None}
            results.append(self.inside(node, node["do"], {**scope, "round": now, "index": len(results)}))
        return results

    def holds(self, test: Any, scope: Data, place: str) -> bool:
        """Tell whether a condition is true; it is a failure of the node if it is neither true nor false nor null."""
        found = self.look(test, scope)
        if found is None or isinstance(found, bool):
            return found is True
        kind = "a number" if isinstance(found, int | float) else f"a text of {len(found)} characters"
        text = repr(test.strip("{} "))
        message = f"{place}: {text} gives {kind}, which is neither true nor false; compare it with something"
        raise Failure("ExpressionFailed", message)

    def look(self, value: Any, scope: Data) -> Any:
        """Return what a value means: only ``{{ name }}`` and ``{{ input.name }}`` are written here."""
        if not (isinstance(value, str) and value.startswith("{{")):
            return value
        found: Any = scope
        for part in value.strip("{} ").split("."):
            found = found[part]
        return found
