"""Projections: read models folded from the events of deciders, each event exactly once; and their DataFrames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Self, TypeVar

import msgspec

from ironflow_nb.code_identity.tracker import Tracker
from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.deciders.decider_definition import DeciderDefinition
from ironflow_nb.deciders.projection_follower import POLL_S, Follower
from ironflow_nb.deciders.projector import Fold, ProjectionEvent, Projector
from ironflow_nb.deciders.store import ProjectionProgress, deciders_of
from ironflow_nb.errors import DefinitionError, ResultTimeout, ValueUnreadable
from ironflow_nb.execution import REGISTRY, Engine, say
from ironflow_nb.history.tables import COUNT, INSTANT, TEXT, frame_of_records
from ironflow_nb.journal.ports import Reader

if TYPE_CHECKING:
    import pandas as pd

PROJECTIONS: Final = {
    "name": TEXT, "position": "int64", "lag": COUNT, "status": TEXT, "error": TEXT, "updated_at": INSTANT,
}  # fmt: skip
SKIPPED: Final = {
    "position": "int64", "decider": TEXT, "instance": TEXT, "sequence": "int64", "event": TEXT, "error": TEXT,
    "skipped_at": INSTANT,
}  # fmt: skip


class ProjectionStatus(StrEnum):
    """The status of a projection in this process; see `projections`."""

    OUTDATED = "outdated"
    FAILED = "failed"
    LIVE = "live"
    UNDEFINED = "undefined"
    BEHIND = "behind"
    CURRENT = "current"


def frame_of(state: Any) -> pd.DataFrame:
    """Return a state as a DataFrame; see `Projection.frame`."""
    import pandas as pd

    if isinstance(state, pd.DataFrame):
        return state
    if isinstance(state, pd.Series):
        return state.to_frame()
    if isinstance(state, list | tuple):
        return pd.DataFrame([_record_of(each) for each in state])
    if isinstance(state, Mapping):
        return pd.DataFrame([{"key": key, **_record_of(value)} for key, value in state.items()])
    return pd.DataFrame([_record_of(state)])


def _record_of(value: Any) -> dict[str, Any]:
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return dict(value) if isinstance(value, Mapping) else {"value": value}


def projections_frame(engine: Engine, defined: Mapping[str, Fold], live: Collection[str]) -> pd.DataFrame:
    """Return the projections of the journal and of this process; see `projections`."""
    with engine.reading() as reader:
        known = {each.name: each for each in deciders_of(reader).projections()}
        records = [
            _projection_record(engine, reader, name, known.get(name), defined.get(name), is_live=name in live)
            for name in sorted(known.keys() | defined.keys())
        ]
    return frame_of_records(PROJECTIONS, records)


def _projection_record(
    engine: Engine, reader: Reader, name: str, known: ProjectionProgress | None, fold: Fold | None, *, is_live: bool
) -> dict[str, Any]:
    is_outdated = known is not None and fold is not None and known.code != fold.code(engine.access)
    position = 0 if known is None else known.position
    lag = None if fold is None else deciders_of(reader).n_domain_events(fold.select(0 if is_outdated else position))
    error = None if known is None else known.error
    return {
        "name": name, "position": position, "lag": lag, "error": error,
        "status": _status(error, lag, is_outdated=is_outdated, is_live=is_live).value,
        "updated_at": None if known is None else known.updated_at,
    }  # fmt: skip


def _status(error: str | None, lag: int | None, *, is_outdated: bool, is_live: bool) -> ProjectionStatus:
    if is_outdated:
        return ProjectionStatus.OUTDATED
    if error is not None:
        return ProjectionStatus.FAILED
    if is_live:
        return ProjectionStatus.LIVE
    if lag is None:
        return ProjectionStatus.UNDEFINED
    return ProjectionStatus.BEHIND if lag else ProjectionStatus.CURRENT


def skipped(engine: Engine, name: str) -> pd.DataFrame:
    """Return the skipped events; see `Projection.skipped`."""
    with engine.reading() as reader:
        found = deciders_of(reader).skipped(name)
    return frame_of_records(SKIPPED, [{**msgspec.structs.asdict(each), "skipped_at": each.at} for each in found])


State = TypeVar("State")
Of = str | type | DeciderDefinition[Any, Any, Any, Any]
Source = Of | Collection[Of] | None
KIND: Final = "projection"


class Projection(Generic[State]):
    """A read model: a state folded from the events of deciders, and the position of the last folded event.

    State and position are stored in the journal, in one commit. `state` and `catch_up` fold new events, and so does a
    background thread between `start` and `stop`, in any number of processes. Each event is in the stored state exactly
    once. A change of the function's code folds all events again.
    """

    __ironflow_definition__: Final = "projection"
    kind: Final = KIND

    def __init__(self, fold: Fold) -> None:
        self.name = fold.name
        self.fn = fold.function
        self.fold = fold
        self._projector: Projector | None = None
        self._follower: Follower | None = None

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in {"fold", "lag_in"}]

    @property
    def state(self) -> State:
        """The state after every committed event.

        Raises:
            ProjectionFailed: an event could not be folded; `stored_state` is the state before it.
        """
        self.catch_up()
        return self.stored_state

    @property
    def stored_state(self) -> State:
        """The stored state, without new events; the initial state before the first event."""
        projector = self._current_projector()
        try:
            found: State = projector.state()
        except ValueUnreadable as error:
            say(f"projection {self.name}: its state can't be read ({error}); it is folded again from the beginning")
            projector.rebuild()
            found = projector.state()
        return found

    def frame(self) -> pd.DataFrame:
        """Return `state` as a DataFrame.

        A DataFrame is returned as it is. A list gives a row for each element: dict, dataclass or struct. A mapping
        gives a row for each key: the column ``key``, then the fields of the value or the column ``value``. A dataclass
        or struct gives one row, any other state one row with the column ``value``.
        """
        return frame_of(self.state)

    @property
    def position(self) -> int:
        """The stored position: all events up to it are folded or skipped."""
        known = self._progress()
        return 0 if known is None else known.position

    @property
    def lag(self) -> int:
        """The number of events that are still to be folded."""
        with REGISTRY.engine().reading() as reader:
            return self.lag_in(REGISTRY.engine(), reader)

    def lag_in(self, engine: Engine, reader: Reader) -> int:
        """Return the number of events that are still to be folded at the moment of the reader."""
        known = deciders_of(reader).projection(self.name)
        is_current = known is not None and known.code == self.fold.code(engine.access)
        after = known.position if known is not None and is_current else 0
        return deciders_of(reader).n_domain_events(self.fold.select(after))

    @property
    def error(self) -> str | None:
        """The message about the event that could not be folded in any process, or None."""
        known = self._progress()
        return None if known is None else known.error

    def catch_up(self, *, wait_for: int | None = None, timeout_s: Duration | None = None) -> Self:
        """Fold all committed events; return the projection.

        Args:
            wait_for: a position that the journal must have reached, such as `Accepted.position`. A position that is
                committed needs no waiting.
            timeout_s: seconds to wait for the position; by default without end.

        Raises:
            ProjectionFailed: an event could not be folded; the state before it is stored.
            ResultTimeout: the journal did not reach the position in time.
        """
        if wait_for is not None:
            self._wait_for(wait_for, None if timeout_s is None else seconds(timeout_s))
        self._current_projector().catch_up()
        return self

    def _wait_for(self, position: int, timeout_s: float | None) -> None:
        engine = REGISTRY.engine()
        clock, wakeup = engine.clock, engine.threads.wakeup()
        deadline_s = None if timeout_s is None else clock.monotonic() + timeout_s
        while True:
            with engine.reading() as reader:
                newest = reader.last_position()
            if newest >= position:
                return
            if deadline_s is not None and clock.monotonic() >= deadline_s:
                raise ResultTimeout(
                    f"projection {self.name} waited for position {position}, and the journal is at {newest} after "
                    f"{timeout_s:g} s",
                    position=newest,
                )
            clock.wait(wakeup, POLL_S, is_idle=True)

    def rebuild(self) -> Self:
        """Fold all events again from the first; return the projection."""
        self._current_projector().rebuild()
        return self

    def skipped(self) -> pd.DataFrame:
        """Return the events that could not be folded and were left out, one a row, by position.

        Columns: position, decider, instance, sequence, event, error, skipped_at.
        """
        return skipped(REGISTRY.engine(), self.name)

    # -- in the background ---------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Fold new events in a background thread, until `stop` or the end of the process; return the projection.

        An event that can't be folded is tried again after 0.2 s, twice that, and so on up to 5 s.
        """
        if not self.is_live:
            self._follower = Follower(self._current_projector(), self.name)
        return self

    def stop(self) -> None:
        """Stop the background thread after its batch."""
        if self._follower is not None:
            self._follower.stop()

    @property
    def is_live(self) -> bool:
        """Whether a background thread of this process folds it."""
        return self._follower is not None and self._follower.is_live

    def _current_projector(self) -> Projector:
        engine = REGISTRY.engine()
        if self._projector is None or self._projector.engine is not engine:
            self._projector = Projector(engine, self.fold)
        return self._projector

    def _progress(self) -> ProjectionProgress | None:
        with REGISTRY.engine().reading() as reader:
            return deciders_of(reader).projection(self.name)

    def __repr__(self) -> str:
        return f"projection {self.name}"


def projection(
    name: str, *, initial: Any, of: Source = None, on_error: Literal["stop", "skip"] = "stop"
) -> Callable[[Callable[[State, ProjectionEvent], State]], Projection[State]]:
    """Make a function ``(state, event) -> state`` a read model of the events of deciders.

    A new projection of the same name replaces the old one. If the old one was followed in the background, the new one
    is too.

    Args:
        name: its name in the journal, for ever.
        initial: the state before the first event: any value that a step may return.
        of: deciders (or their names) and classes of events, one or several; by default all events of all deciders.
            Classes are compared by name.
        on_error: ``stop`` before an event that can't be folded, or ``skip`` it and list it in `skipped`.

    Raises:
        DefinitionError: an argument is invalid.
    """
    if not isinstance(name, str) or not name or not name.isprintable():
        raise DefinitionError(
            f'the name of a projection must be a str, as in @projection("totals", initial={{}}), got {name!r}'
        )
    if on_error not in {"stop", "skip"}:
        raise DefinitionError(f'on_error must be "stop" or "skip", got {on_error!r}')
    deciders, classes = _sources(of)

    def define(function: Callable[[State, ProjectionEvent], State]) -> Projection[State]:
        fold = Fold(
            name=name, function=function, initial=initial, deciders=deciders, classes=classes,
            skips=on_error == "skip", tracker=Tracker(function),
        )  # fmt: skip
        return _replace_defined(Projection(fold))

    return define


projection.__ironflow_decorator__ = True  # type: ignore[attr-defined]


def _replace_defined(made: Projection[State]) -> Projection[State]:
    before = REGISTRY.find(KIND, made.name)
    REGISTRY.define(made)
    if isinstance(before, Projection) and before.is_live:
        before.stop()
        made.start()
    return made


def _sources(of: Source) -> tuple[frozenset[str] | None, frozenset[str] | None]:
    """Return the names of the deciders and of the classes of events; None stands for all."""
    if of is None:
        return None, None
    given = list(of) if isinstance(of, Collection) and not isinstance(of, str) else [of]
    wrong = [each for each in given if not isinstance(each, str | type | DeciderDefinition)]
    if wrong or not given:
        raise DefinitionError(f"of= takes deciders, their names, and classes of events, got {wrong or of!r}")
    deciders = frozenset(each if isinstance(each, str) else each.name for each in given if not isinstance(each, type))
    classes = frozenset(each.__name__ for each in given if isinstance(each, type))
    return deciders or None, classes or None


def projections() -> pd.DataFrame:
    """Return the projections of the journal and of this process, by name, one a row.

    Columns: name, position, lag (events still to be folded; missing without a definition in this process), status
    (``failed``: an event could not be folded; ``outdated``: its code has changed; ``live``: followed in this process;
    ``behind``; ``current``; ``undefined`` in this process), error, updated_at.
    """
    defined = {each.name: each for each in REGISTRY.definitions(KIND) if isinstance(each, Projection)}
    live = {name for name, each in defined.items() if each.is_live}
    return projections_frame(REGISTRY.engine(), {name: each.fold for name, each in defined.items()}, live)
