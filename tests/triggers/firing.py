"""A process that fires what is due, until a file appears: ``python -m tests.triggers.firing JOURNAL STOP NOTES``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import ironflow_nb as iron
from ironflow_nb import flow, step
from tests.waits.conftest import until

NOTES: list[Path] = []


@step
def note(what: str) -> None:
    """Write down in one call what is done, and by which process."""
    line = f"{what} {os.getpid()}\n".encode()
    notes = os.open(NOTES[0], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(notes, line)
    os.close(notes)


@flow(name="tick")
def tick(n: int) -> None:
    note(f"tick {n}")


@flow(name="fulfil", on="order.placed")
def fulfil(order: dict[str, Any]) -> None:
    note(f"order {order['id']}")


def main(journal: str, stop: str, notes: str) -> None:
    NOTES[:] = [Path(notes)]
    iron.use(journal, durability="process")
    tick.schedule(every_s=0.1, catch_up="all", args=(1,))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    until(Path(stop).exists)
    iron.engine().close()


if __name__ == "__main__":
    main(*sys.argv[1:])
