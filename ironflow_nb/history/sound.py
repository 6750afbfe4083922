"""Listing what can be read: a run with a row that was damaged is left out with a warning, and hides no other run."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, TypeVar

from msgspec.structs import replace

from ironflow_nb.core.ids import RunId
from ironflow_nb.errors import JournalCorrupt
from ironflow_nb.execution.surroundings import logger
from ironflow_nb.journal.ports import EventColumns, Reader, Select, Tally

T = TypeVar("T")

_ADVICE: Final = "iron.doctor() looks at the whole journal"


def sound(ask: Callable[[Select], T], select: Select) -> T:
    """Return the answer to the selection without the runs that have damaged rows.

    Raises:
        JournalCorrupt: the one run that was asked for has some.
    """
    is_one_run = select.run_prefix is not None or (select.run_ids is not None and len(select.run_ids) == 1)
    without = list(select.without)
    while True:
        try:
            return ask(replace(select, without=without))
        except JournalCorrupt as error:
            run_id = error.ids.get("run_id")
            if not isinstance(run_id, str) or run_id in without or is_one_run:
                raise
            logger().warning("%s; it is left out here; %s", error, _ADVICE)
            without.append(run_id)


def sound_tallies(reader: Reader, run_ids: Collection[RunId]) -> dict[RunId, list[Tally]]:
    """Return the tallies of the runs; the steps of a run that has damaged ones are not counted."""
    return sound(lambda select: reader.tallies(set(run_ids) - set(select.without)), Select())


def noted(piece: EventColumns) -> EventColumns:
    """Return the events, after a warning for each that has to be shown without its data."""
    for n, data in enumerate(piece.data):
        if data is None:
            what = "event %s of run %s (%s, %s) has data that the package never wrote; it is shown without; %s"
            place = piece.version[n], piece.run_id[n], piece.type[n], piece.step[n] or "of the run"
            logger().warning(what, *place, _ADVICE)
    return piece
