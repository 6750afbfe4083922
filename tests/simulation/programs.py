"""Random programs of steps: what they are, what they come to, and the flow that runs them."""

from __future__ import annotations

from collections import Counter
from functools import partial
from random import Random
from typing import Any

from ironflow_nb import flow, gather, step

Program = list[dict[str, Any]]


class World:
    """The world outside of the journal: which bodies ran, what was acknowledged, and who sleeps how long."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.n_bodies: Counter[int] = Counter()
        self.acknowledged: set[int] = set()
        self.again: list[int] = []
        self.to_fail: dict[int, int] = {}
        self.sleep: Any = None

    def body(self, n: int) -> None:
        """Note that the body of a call runs, for a while."""
        if n in self.acknowledged:
            self.again.append(n)
        self.n_bodies[n] += 1
        for _ in range(self.dice.randrange(3)):
            self.sleep(self.dice.choice([0.0, 0.01, 0.2]))
        if self.to_fail.get(n, 0) > 0:
            self.to_fail[n] -= 1
            raise ConnectionError(n)

    def got(self, n: int, value: Any) -> Any:
        """Note that the flow has got the result of a call."""
        self.acknowledged.add(n)
        return value


WORLD: list[World] = []


@step
def work(n: int) -> dict[str, int]:
    WORLD[-1].body(n)
    return {"n": n}


@step(retries=2)
def flaky(n: int) -> int:
    WORLD[-1].body(n)
    return n


@step
def broken(n: int) -> None:
    WORLD[-1].body(n)
    raise KeyError(n)


def play(program: Program) -> int:
    """Do what the program says."""
    world, total = WORLD[-1], 0
    for part in program:
        ns = part["ns"]
        match part["do"]:
            case "call":
                total += sum(world.got(n, work(n))["n"] for n in ns)
            case "map":
                total += sum(world.got(value["n"], value)["n"] for value in work.map(ns, concurrency=part["width"]))
            case "submit":
                futures = [(n, work.submit(n)) for n in ns]
                total += sum(world.got(n, future.result())["n"] for n, future in futures)
            case "flaky":
                total += sum(world.got(n, flaky(n)) for n in ns)
            case "flaky map":
                total += sum(world.got(value, value) for value in flaky.map(ns, concurrency=part["width"]))
            case "broken":
                for n in ns:
                    try:
                        broken(n)
                    except KeyError:
                        total += 1
            case "child":
                total += child(part["program"])
            case "gather":
                total += sum(gather(*(partial(play, branch) for branch in part["branches"])))
    return total


@flow
def child(program: Program) -> int:
    return play(program)


@flow
def main(program: Program) -> int:
    return play(program)


def expected(program: Program) -> int:
    """Return what the program comes to."""
    total = 0
    for part in program:
        match part["do"]:
            case "broken":
                total += len(part["ns"])
            case "child":
                total += expected(part["program"])
            case "gather":
                total += sum(map(expected, part["branches"]))
            case _:
                total += sum(part["ns"])
    return total


def random_program(dice: Random, world: World, *, depth: int = 0) -> Program:
    """Return a program of up to four parts, in which no call is made twice."""
    program: Program = []
    deepest = dice.choice([1, 1, 2])
    for _ in range(dice.randrange(1, 5)):
        kinds = ["call", "map", "submit", "flaky", "flaky map", "broken"]
        kind = dice.choice([*kinds, "child", "gather"] if depth < deepest else kinds)
        ns = [dice.randrange(10**9) for _ in range(dice.randrange(1, 5))]
        if "flaky" in kind:
            world.to_fail |= {n: dice.randrange(3) for n in ns}
        part: dict[str, Any] = {"do": kind, "ns": ns, "width": dice.randrange(1, 4)}
        if kind == "child":
            part["program"] = random_program(dice, world, depth=depth + 1)
        if kind == "gather":
            part["branches"] = [random_program(dice, world, depth=depth + 1) for _ in range(dice.randrange(1, 4))]
        program.append(part)
    return program
