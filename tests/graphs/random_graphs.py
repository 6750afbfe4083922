"""Random graphs: blocks of nodes of every kind, inside of each other, with children."""

from __future__ import annotations

from itertools import count
from random import Random
from typing import Any

Data = dict[str, Any]

INPUT = {
    "yes": True,
    "no": False,
    "word": "yes",
    "nothing": None,
    "n": 2,
    "two": [1, 2],
    "same": [3, 3, 3],
    "none": [],
} | {"x": "top"}

TESTS = ["{{ input.yes }}", "{{ input.yes }}", "{{ input.no }}", "{{ input.nothing }}", True, False]
KINDS = ["play"] * 7 + ["condition", "switch", "branch", "loop", "loop", "while", "workflow"]
MOST_DEPTH = 2


class Graphs:
    """Makes graphs by the dice; `all` are those made so far, the first of them last."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.all: dict[str, Data] = {}
        self._numbers = count()

    def graph(self, name: str, *, n_nodes: int, level: int = 0) -> str:
        nodes = self.block(n_nodes, ["input.word"], depth=0, level=level)
        self.all[name] = {"graph": name, "allow": True, "concurrency": self.dice.choice([1, 2, 16]), "nodes": nodes}
        return name

    def block(self, n_nodes: int, seen: list[str], *, depth: int, level: int, may_fail: bool = True) -> list[Data]:
        """Return nodes of which each may see those before it that it waits for."""
        nodes: list[Data] = []
        before: list[set[str]] = []
        for position in range(n_nodes):
            node: Data = {"id": f"n{next(self._numbers)}"}
            waits = set() if position == 0 else {position - 1}
            if self.dice.random() < 0.6:
                waits = set(self.dice.sample(range(position), self.dice.randrange(min(position, 3) + 1)))
                node["depends_on"] = [nodes[each]["id"] for each in sorted(waits)]
            before.append({name for each in waits for name in (nodes[each]["id"], *before[each])})
            names = seen + sorted(before[-1])
            if self.dice.random() < 0.2:
                node["when"] = self.dice.choice(TESTS)
            self._fill(node, names, depth=depth, level=level, may_fail=may_fail)
            nodes.append(node)
        return nodes

    def _fill(self, node: Data, names: list[str], *, depth: int, level: int, may_fail: bool) -> None:
        kinds = KINDS if depth < MOST_DEPTH else ["play"]
        kind = self.dice.choice([each for each in kinds if each != "workflow" or level < 2])
        handler = self.dice.random()
        if handler < 0.12:
            node["on_error"] = "continue"
        elif handler < 0.3:
            n_nodes, seen = self.dice.randrange(1, 3), [*names, "error.type", "error.message"]
            node["on_error"] = self.block(n_nodes, seen, depth=depth + 1, level=level, may_fail=may_fail)
        is_safe = may_fail or node.get("on_error") == "continue"
        getattr(self, f"_{kind}")(node, names, depth + 1, level, is_safe)

    def _some(self, names: list[str]) -> list[str]:
        return [f"{{{{ {name} }}}}" for name in self.dice.sample(names, self.dice.randrange(min(len(names), 3) + 1))]

    def _play(self, node: Data, names: list[str], _depth: int, _level: int, may_fail: bool) -> None:
        plan = self.dice.choice(["ok"] * 6 + ["flaky"] + (["fail"] * 2 if may_fail else []))
        node |= {"python": "play", "with": {"name": node["id"], "plan": plan, "values": self._some(names)}}
        if plan == "flaky":
            node["retry"] = {"attempts": 2, "delay_s": 0}

    def _inside(self, names: list[str], depth: int, level: int, may_fail: bool) -> list[Data]:
        return self.block(self.dice.randrange(0, 4), names, depth=depth, level=level, may_fail=may_fail)

    def _condition(self, node: Data, names: list[str], *more: Any) -> None:
        node |= {"condition": self.dice.choice(TESTS), "then": self._inside(names, *more)}
        if self.dice.random() < 0.7:
            node["else"] = self._inside(names, *more)

    def _switch(self, node: Data, names: list[str], *more: Any) -> None:
        value = self.dice.choice(["{{ input.word }}", "{{ input.yes }}", "{{ input.n }}", "{{ input.nothing }}"])
        cases = {name: self._inside(names, *more) for name in ("yes", "true", "2")}
        node |= {"switch": value, "cases": cases}
        if self.dice.random() < 0.5:
            node["default"] = self._inside(names, *more)

    def _branch(self, node: Data, names: list[str], *more: Any) -> None:
        ways: Data = {}
        for name in ("left", "middle", "right")[: self.dice.randrange(1, 4)]:
            ways[name] = {"do": self._inside(names, *more)}
            if self.dice.random() < 0.4:
                ways[name]["when"] = self.dice.choice(TESTS)
        node["branch"] = ways

    def _loop(self, node: Data, names: list[str], depth: int, level: int, may_fail: bool) -> None:
        at_once = self.dice.choice([1, 1, 2, 3])
        lists = ["{{ input.two }}", "{{ input.same }}", "{{ input.none }}", *(["{{ input.word }}"] if may_fail else [])]
        names = [name for name in names if name not in {"item", "index"}]
        do = self._inside([*names, "item", "index"], depth, level, may_fail and at_once == 1)
        node |= {"loop": self.dice.choice(lists), "do": do, "concurrency": at_once}

    def _while(self, node: Data, names: list[str], depth: int, level: int, may_fail: bool) -> None:
        if not may_fail or "round.last" in names:
            self._loop(node, names, depth, level, may_fail)
            return
        names = [name for name in names if name != "index"]
        do = self._inside([*names, "round.last", "index"], depth, level, may_fail)
        n_rounds = self.dice.choice([1, 2, 5])
        node |= {"loop": {"while": "{{ round.index < input.n }}", "max_rounds": n_rounds}, "do": do}

    def _workflow(self, node: Data, names: list[str], _depth: int, level: int, may_fail: bool) -> None:
        if not may_fail:
            self._play(node, names, 0, level, may_fail)
            return
        name = self.graph(f"child{next(self._numbers)}", n_nodes=self.dice.randrange(1, 4), level=level + 1)
        x = self.dice.choice(self._some(names) or ["no"])
        node |= {"workflow": name, "input": {key: f"{{{{ input.{key} }}}}" for key in INPUT} | {"x": x}}
