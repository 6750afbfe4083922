"""Measure against the floor: ``python -m benchmarks.run [--long] [--peers] [--write README.md]``.

Every workload runs in a process and a folder of its own, and measures its floor beside it: the same done with nothing
but ``sqlite3``, or ``pyarrow``, or Python. The workloads take turns, each so many times; figures are medians, and
ratios are medians of the ratios of figures that were measured one after the other.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks import peers
from benchmarks.isolated import Workload, WorkloadFailed, isolated
from benchmarks.machine import machine
from benchmarks.table import LONG, WORKLOADS, Samples, table


def measured(workloads: Sequence[Workload], n_repeat: int, place: Path) -> Samples:
    """Return what the workloads measure, taking turns."""
    found: dict[str, list[float]] = defaultdict(list)
    for number in range(n_repeat):
        for workload in workloads:
            tell(f"{number + 1} of {n_repeat}: {workload.__name__}")
            for name, figure in isolated(workload, place).items():
                found[name].append(figure)
    tell("")
    return found


def tell(what: str) -> None:
    """Say on the terminal what is being measured."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


def chosen(workloads: Sequence[Workload], only: str | None) -> list[Workload]:
    """Return the workloads whose module or name has that text in it."""
    return [each for each in workloads if only is None or only in f"{each.__module__}.{each.__name__}"]


def written(page: str, place: str, text: str) -> str:
    """Return the page with the text between the two comments that name the place.

    Raises:
        ValueError: the page has no such place.
    """
    begin, end = f"<!-- measured: {place} -->", f"<!-- end of measured: {place} -->"
    pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    changed, n_places = pattern.subn(lambda _: f"{begin}\n{text}\n{end}", page)
    if n_places != 1:
        raise ValueError(f"the page has {n_places} places between {begin} and {end}, not one")
    return changed


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="how often each workload runs (5)")
    parser.add_argument("--long", action="store_true", help="also 100,000 steps and 1e6 events: some minutes more")
    parser.add_argument("--only", metavar="TEXT", help="only workloads with this text in their name or module")
    parser.add_argument("--peers", action="store_true", help="also other engines, those that are installed here")
    parser.add_argument("--write", metavar="PAGE", type=Path, help="put the tables into this page")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on which disk to measure")
    return parser.parse_args()


def measured_peers(n_repeat: int, place: Path) -> str:
    """Return the table of the other engines; one that fails is named below it, with its error."""
    found: dict[str, Sequence[float]] = {}
    notes = [f"{name}: not installed here" for name in peers.missing()]
    own, others = peers.workloads()
    found.update(measured(own, n_repeat, place))
    for engine in others:
        try:
            found.update(measured([engine], n_repeat, place))
        except WorkloadFailed as error:
            notes.append(f"{engine.__name__}: {str(error).strip().splitlines()[-1]}")
    return "\n\n".join([peers.table(found), *notes])


def publish(place: str, text: str, page: Path | None) -> None:
    """Print the text, and write it into its place in the page."""
    print(text, flush=True)
    if page is not None:
        page.write_text(written(page.read_text(), place, text))


def main() -> None:
    """Measure, and print or write the tables."""
    given = arguments()
    if given.write is not None and given.only is not None:
        sys.exit("what --only leaves out would vanish from the page; leave out --only or --write")
    where, n_long = machine(given.folder), min(given.repeat, 3)
    found = dict(measured(chosen(WORKLOADS, given.only), given.repeat, given.folder))
    note = f"{where}; medians of {given.repeat} repetitions"
    if given.long:
        found.update(measured(chosen(LONG, given.only), n_long, given.folder))
        note += f", of the last four rows {n_long}"
    publish("ironflow", f"{table(found)}\n\n{note}.", given.write)
    if given.peers:
        text = measured_peers(n_long, given.folder)
        publish("peers", f"{text}\n\n{where}; medians of {n_long} repetitions.", given.write)


if __name__ == "__main__":
    main()
