"""A worker on another machine, ``python -m tests.postgres.machine NAME URL``, and a flow that notes what it does."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pandas as pd

from ironflow_nb import flow, step
from ironflow_nb.execution.system import process_identity

N = 20_000


def note(word: str) -> list[str]:
    """Note a word, with the name of the machine; return all words."""
    with Path(os.environ["LEDGER"]).open("a+") as ledger:
        ledger.write(f"{os.environ.get('MACHINE')} {word}\n")
        ledger.seek(0)
        return ledger.read().split("\n")


@step
def table() -> pd.DataFrame:
    note("table")
    return pd.DataFrame({"a": range(N)})


@step
def total(frame: pd.DataFrame) -> int:
    if len(note("total")) == 3:  # the first time: until the machine vanishes
        time.sleep(600)
    return int(frame["a"].sum())


@flow
def report() -> int:
    return total(table())


def main() -> None:
    """Work as if on the machine of that name."""
    name, url = sys.argv[1:]
    os.environ["MACHINE"] = name
    process_identity.host_id = lambda: name  # what the system would say there
    from ironflow_nb.cli.command_line import command_line

    command_line(["work", "tests.postgres.machine", "--journal", url])


if __name__ == "__main__":
    main()
