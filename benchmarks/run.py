"""Measure against the floor: ``python -m benchmarks.run [--long] [--peers] [--write README.md docs/performance.md]``.

Every workload runs in a process and a folder of its own, and measures its floor beside it: the same done with nothing
but ``sqlite3``, or ``pyarrow``, or Python. The workloads and the other engines take turns, each so many times; figures
are medians, and ratios are medians of the ratios of figures that were measured one after the other. What a step asks
of Python and of SQLite is counted once, for counts are the same on every machine.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks import counts, peers
from benchmarks.isolated import Workload, WorkloadFailed, isolated
from benchmarks.machine import machine
from benchmarks.table import LONG, WORKLOADS, Samples, table


def measured(
    workloads: Sequence[Workload], n_repeat: int, place: Path, peers: Sequence[Workload] = ()
) -> tuple[Samples, list[str]]:
    """Return what the workloads and other engines measure, taking turns; an engine that fails leaves, and is named."""
    found: dict[str, list[float]] = defaultdict(list)
    failed: dict[Workload, str] = {}
    for number in range(n_repeat):
        for workload in [*workloads, *peers]:
            tell(f"{number + 1} of {n_repeat}: {workload.__name__}")
            if workload in failed:
                continue
            try:
                figures = isolated(workload, place)
            except WorkloadFailed as error:
                if workload not in peers:
                    raise
                failed[workload] = f"{workload.__name__}: {str(error).strip().splitlines()[-1]}"
                continue
            for name, figure in figures.items():
                found[name].append(figure)
    tell("")
    return found, list(failed.values())


def tell(what: str) -> None:
    """Say on the terminal what is being measured."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


def chosen(workloads: Sequence[Workload], only: str | None) -> list[Workload]:
    """Return the workloads whose module or name has that text in it."""
    return [each for each in workloads if only is None or only in f"{each.__module__}.{each.__name__}"]


def written(page: str, place: str, text: str) -> str:
    """Return the page with the text between the two comments that name the place, if it has that place.

    Raises:
        ValueError: the page has the place twice.
    """
    begin, end = f"<!-- measured: {place} -->", f"<!-- end of measured: {place} -->"
    pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    changed, n_places = pattern.subn(lambda _: f"{begin}\n{text}\n{end}", page)
    if n_places > 1:
        raise ValueError(f"the page has {n_places} places between {begin} and {end}, not one")
    return changed


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="how often each workload runs (5)")
    parser.add_argument("--long", action="store_true", help="also 100,000 steps and 1e6 events: some minutes more")
    parser.add_argument("--only", metavar="TEXT", help="only workloads with this text in their name or module")
    parser.add_argument("--peers", action="store_true", help="also other engines, those that are installed here")
    parser.add_argument("--write", metavar="PAGE", type=Path, nargs="+", default=(), help="put them into these pages")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on which disk to measure")
    return parser.parse_args()


def publish(place: str, text: str, pages: Sequence[Path]) -> None:
    """Print the text, and write it into its place in the pages that have one."""
    print(text, flush=True)
    for page in pages:
        page.write_text(written(page.read_text(), place, text))


def main() -> None:
    """Measure, and print or write the tables."""
    given = arguments()
    if given.write and given.only is not None:
        sys.exit("what --only leaves out would vanish from the page; leave out --only or --write")
    if given.peers and given.only is not None:
        sys.exit("other engines are shown beside the figures of this package; leave out --only or --peers")
    where, n_long = machine(given.folder), min(given.repeat, 3)
    engines = peers.workloads() if given.peers else ()
    found, notes = measured(chosen(WORKLOADS, given.only), given.repeat, given.folder, engines)
    about = f"{where}; medians of {given.repeat} repetitions"
    last = ""
    if given.long:
        found = {**found, **measured(chosen(LONG, given.only), n_long, given.folder)[0]}
        last = f", of the last four rows {n_long}"
    publish("ironflow", f"{table(found)}\n\n{about}{last}.", given.write)
    if counted := chosen(counts.WORKLOADS, given.only):
        publish("counts", counts.table(measured(counted, 1, given.folder)[0]), given.write)
    if given.peers:
        absent = [f"{name}: not installed here" for name in peers.missing()]
        publish("peers", "\n\n".join([peers.table(found), *absent, *notes, f"{about}."]), given.write)


if __name__ == "__main__":
    main()
