"""Projections: read models that are folded from the events of deciders, each event exactly once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Self, TypeVar

from ironflow_nb.core.durations import Duration, seconds
from ironflow_nb.core.ids import RunId
from ironflow_nb.core.orders import NONE, Orders
from ironflow_nb.core.rows import RunRow
from ironflow_nb.core.verdict import OnChange
from ironflow_nb.deciders import projection_frames
from ironflow_nb.deciders.folding import Fold, ProjectionEvent
from ironflow_nb.deciders.following import POLL_S, Follower
from ironflow_nb.deciders.machine import Machine
from ironflow_nb.deciders.projecting import Projector
from ironflow_nb.deciders.store import Projected, deciders_of
from ironflow_nb.errors import DefinitionError, ResultTimeout, ValueUnreadable
from ironflow_nb.execution.engine import Engine
from ironflow_nb.execution.home import HOME
from ironflow_nb.execution.surroundings import say
from ironflow_nb.tracking.tracker import Tracker

if TYPE_CHECKING:
    import pandas as pd

State = TypeVar("State")
Of = str | type | Machine[Any, Any, Any, Any]
Source = Of | Collection[Of] | None
KIND: Final = "projection"


class Projection(Generic[State]):
    """A read model: the state that a function makes of the events of deciders, and how far it has come.

    State and position are kept in the journal, and committed together. It is folded by who asks for it, and in the
    background between `start` and `stop`, by any number of processes: each event is in the stored state exactly once.
    When the code of the function changes, it is folded again from the beginning.
    """

    __ironflow_definition__: Final = "projection"
    kind: Final = KIND

    def __init__(self, fold: Fold) -> None:
        self.name = fold.name
        self.fn = fold.function
        self.fold = fold
        self._projector: Projector | None = None
        self._follower: Follower | None = None

    @property
    def state(self) -> State:
        """The state after every event that is committed now.

        Raises:
            ProjectionFailed: an event could not be folded; `stored_state` is that before it.
        """
        self.catch_up()
        return self.stored_state

    @property
    def stored_state(self) -> State:
        """The state as it is stored, without catching up; the initial one before the first event."""
        projector = self._here()
        try:
            found: State = projector.state()
        except ValueUnreadable as error:
            say(f"projection {self.name}: its state can't be read ({error}); it is folded again from the beginning")
            projector.rebuild()
            found = projector.state()
        return found

    def frame(self) -> pd.DataFrame:
        """Return `state` as a DataFrame.

        A DataFrame is itself. A list has a row for each element: dict, dataclass or struct. A mapping has a row for
        each key, with the column ``key`` first: then the fields of its value, or the value as ``value``. A dataclass or
        struct is one row, and anything else one ``value``.
        """
        return projection_frames.frame_of(self.state)

    @property
    def position(self) -> int:
        """The position in the journal up to which everything is folded or skipped, as it is stored."""
        known = self._known()
        return 0 if known is None else known.position

    @property
    def lag(self) -> int:
        """How many events are still to be folded."""
        with HOME.engine().reading() as reader:
            known = deciders_of(reader).projection(self.name)
            is_current = known is not None and known.code == self.fold.code(HOME.engine().ledger)
            after = known.position if known is not None and is_current else 0
            return deciders_of(reader).n_domain_events(self.fold.select(after))

    @property
    def error(self) -> str | None:
        """Which event could not be folded, and why, whoever tried."""
        known = self._known()
        return None if known is None else known.error

    def catch_up(self, *, wait_for: int | None = None, timeout_s: Duration | None = None) -> Self:
        """Fold all there is; return the projection.

        Args:
            wait_for: a position that the journal must have reached, such as `Accepted.position`. What this process, or
                anyone before, has committed is there at once; others are waited for.
            timeout_s: how long to wait for it, in seconds.

        Raises:
            ProjectionFailed: an event could not be folded; what came before it is stored.
            ResultTimeout: the journal did not reach the position in time.
        """
        if wait_for is not None:
            self._wait_for(wait_for, None if timeout_s is None else seconds(timeout_s))
        self._here().catch_up()
        return self

    def _wait_for(self, position: int, timeout_s: float | None) -> None:
        engine = HOME.engine()
        clock, wakeup = engine.ledger.clock, engine.threads.wakeup()
        deadline_s = None if timeout_s is None else clock.monotonic() + timeout_s
        while True:
            with engine.reading() as reader:
                newest = deciders_of(reader).last_position()
            if newest >= position:
                return
            if deadline_s is not None and clock.monotonic() >= deadline_s:
                raise ResultTimeout(
                    f"projection {self.name} was to wait for position {position}, and the journal is at {newest} after "
                    f"{timeout_s:g} s",
                    position=newest,
                )
            clock.wait(wakeup, POLL_S, is_idle=True)

    def rebuild(self) -> Self:
        """Fold everything again from the beginning; return the projection."""
        self._here().rebuild()
        return self

    def skipped(self) -> pd.DataFrame:
        """Return the events that could not be folded and were left out, one a row, by position.

        Columns: position, decider, instance, sequence, event, error, skipped_at.
        """
        return projection_frames.skipped(HOME.engine(), self.name)

    # -- in the background ---------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Follow the journal in the background from now on, until `stop` or the end of the process.

        An event that can't be folded is tried again after 0.2 s, twice that, and so on up to 5 s.
        """
        if not self.is_live:
            self._follower = Follower(self._here(), self.name)
        return self

    def stop(self) -> None:
        """End what `start` began, after the batch that is being folded."""
        if self._follower is not None:
            self._follower.stop()

    @property
    def is_live(self) -> bool:
        """Tell whether it is followed in this process."""
        return self._follower is not None and self._follower.is_live

    def _here(self) -> Projector:
        engine = HOME.engine()
        if self._projector is None or self._projector.engine is not engine:
            self._projector = Projector(engine, self.fold)
        return self._projector

    def _known(self) -> Projected | None:
        with HOME.engine().reading() as reader:
            return deciders_of(reader).projection(self.name)

    # -- a definition --------------------------------------------------------------------------------------------

    def continue_run(self, engine: Engine, run: RunRow, orders: Orders = NONE) -> RunId:
        """Do nothing: a projection has no runs."""
        del engine, orders
        return run.run_id

    @property
    def on_change(self) -> OnChange:
        """What happens to finished steps whose code has changed: a projection has none."""
        return OnChange.KEEP

    def __repr__(self) -> str:
        return f"projection {self.name}"


def projection(
    name: str, *, initial: Any, of: Source = None, on_error: Literal["stop", "skip"] = "stop"
) -> Callable[[Callable[[State, ProjectionEvent], State]], Projection[State]]:
    """Make a function ``(state, event) -> state`` a read model of the events of deciders.

    Defining one of the same name again replaces it; one that was followed goes on with its new code.

    Args:
        name: what it is called in the journal, for ever.
        initial: the state before the first event: any value that a step may return.
        of: deciders (or their names) and classes of events, one or several; by default all events of all deciders.
            Classes are told by their names.
        on_error: ``stop`` before an event that can't be folded, or ``skip`` it and keep that in `skipped`.

    Raises:
        DefinitionError: a name or an option is none.
    """
    if not isinstance(name, str) or not name or not name.isprintable():
        raise DefinitionError(f'a projection has a name: @projection("totals", initial={{}}), not {name!r}')
    if on_error not in {"stop", "skip"}:
        raise DefinitionError(f'on_error is "stop" or "skip", not {on_error!r}')
    deciders, classes = _sources(of)

    def define(function: Callable[[State, ProjectionEvent], State]) -> Projection[State]:
        fold = Fold(
            name=name, function=function, initial=initial, deciders=deciders, classes=classes,
            skips=on_error == "skip", tracker=Tracker(function),
        )  # fmt: skip
        return _defined(Projection(fold))

    return define


projection.__ironflow_decorator__ = True  # type: ignore[attr-defined]


def _defined(made: Projection[State]) -> Projection[State]:
    before = HOME.find(KIND, made.name)
    HOME.define(made)
    if isinstance(before, Projection) and before.is_live:
        before.stop()
        made.start()
    return made


def _sources(of: Source) -> tuple[frozenset[str] | None, frozenset[str] | None]:
    """Return the names of the deciders and of the classes of events; None is all of them."""
    if of is None:
        return None, None
    given = list(of) if isinstance(of, Collection) and not isinstance(of, str) else [of]
    wrong = [each for each in given if not isinstance(each, str | type | Machine)]
    if wrong or not given:
        raise DefinitionError(f"of= takes deciders, their names, and classes of events, not {wrong or of!r}")
    deciders = frozenset(each if isinstance(each, str) else each.name for each in given if not isinstance(each, type))
    classes = frozenset(each.__name__ for each in given if isinstance(each, type))
    return deciders or None, classes or None


def projections() -> pd.DataFrame:
    """Return the projections of the journal and of this process, by name, one a row.

    Columns: name, position, lag (events still to be folded; missing where it is not defined here), status (``failed``:
    an event could not be folded; ``outdated``: its code has changed since; ``live``: followed in this process;
    ``behind``; ``current``; ``undefined`` here), error, updated_at.
    """
    defined = {each.name: each for each in HOME.definitions(KIND) if isinstance(each, Projection)}
    live = {name for name, each in defined.items() if each.is_live}
    return projection_frames.projections(HOME.engine(), {name: each.fold for name, each in defined.items()}, live)
